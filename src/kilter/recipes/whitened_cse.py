"""Recipe of WhitenedCSE: sentence vectors whose cosine follows meaning, learnt from sentences alone.

MiniLM's first three layers, which nobody tuned to end there, stand for an untuned encoder as raw BERT is. The paper
trained BERT and RoBERTa on a million sentences of Wikipedia and chose the best checkpoint by STS-B's development part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.data.similarity import STANDARD
from kilter.lab.arms import Levers, Term
from kilter.lab.options import at_least
from kilter.tasks.sentence_similarity import SentenceSimilarity, views_of, whole_views

_ALL = (
    "untrained",
    "simcse-2",
    "simcse-3",
    "whitening",
    "group-whitening",
    "whitened-cse",
    "whitened-cse+compat",
)
_RATE = 3e-4
"""For MiniLM's layers in few steps: of 3e-5, 1e-4 and 3e-4 the best on STS-B's development part (one seed), for
WhitenedCSE by far; SimCSE loses as much at each of them."""


@dataclass(kw_only=True)
class WhitenedCSERecipe(SentenceSimilarity):
    """Tune a sentence encoder on your own sentences, without labels, so that cosines of its vectors follow meaning.

    WhitenedCSE contrasts several views of each sentence, which differ by dropout, with all other sentences of a batch,
    after whitening random groups of channels of each view. What is added for that is dropped after training.

    Without --train it learns from Wikipedia's sentences and is judged on the STS sets. With --train it learns from your
    sentences and leaves an ordinary sentence-transformers model in arms/whitened-cse/seed-0/model.
    """

    groups: Annotated[int | None, at_least(1)] = None
    """groups of channels that are whitened; by default as many as make six channels each (published: 128 of 768)"""
    views: Annotated[int, at_least(2)] = 3
    """views of each sentence in arm whitened-cse (published: 3); arm whitened-cse-4 has four"""

    paper = cards()["whitened-cse"]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("untrained", "simcse-2", "whitening", "whitened-cse"),
            "groups": 8,
            **SentenceSimilarity.smoke,
        },
        "demo": {
            "arms": ("untrained", "simcse-2", "whitened-cse"),
            "sets": ("stsb", "sick-r"),
            "learning_rate": _RATE,
            "jobs": 2,
        },
        "full": {"arms": _ALL, "learning_rate": _RATE, "seeds": 5, "jobs": 2},
        "cls": {  # the vector of the first token, as published; rates chosen as _RATE was, SimCSE's for SimCSE
            "arms": (*_ALL, "no-negatives"),
            "pooling": "cls",
            "learning_rate": _RATE,
            "simcse_rate": 1e-5,
            "steps": 60,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": ("untrained", "simcse-2", "whitened-cse"),
            "seeds": 5,
            "model": "google-bert/bert-base-uncased",
            "pooling": "cls",
            "groups": 128,
            "steps": 7812,
            "batch_size": 128,
            "learning_rate": 1e-5,
            "save_steps": 125,
        },
        "own": {"arms": ("untrained", "whitened-cse")},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Shuffled group whitening, with another layout as released, and group whitening without the shuffle."""
        how: Any = {"usual": float(self.views), "option": "views", "strength": whole_views}
        released = {"compat": ", views cut as released"}
        return {
            "whitened-cse": Term("WhitenedCSE, {:g} views", self._shuffled, variants=released, **how),
            "group-whitening": Term("Group whitening without shuffle, {:g} views", self._in_order, **how),
            "no-negatives": Term("WhitenedCSE without negatives, {:g} views", self._alone, **how),
        }

    def _shuffled(self, views: float, *, compat: bool = False) -> Levers:
        return self._levers(views, views="contiguous_thirds" if compat else "per_view")

    def _in_order(self, views: float) -> Levers:
        return self._levers(views, shuffle=False)

    def _alone(self, views: float) -> Levers:
        return self._levers(views, negatives=False)

    def _levers(self, count: float, **how: Any) -> Levers:
        def objective(encoder: Any) -> Any:
            from kilter.embeddings import WhitenedCSE
            from kilter.hosts.sentence_modules import width

            more: Any = {"groups": self.groups, "temperature": self.temperature, "head": self.head}
            return WhitenedCSE(width(encoder), **more, **how)

        return Levers(objective=objective, rows=views_of(int(count)))

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what tells the whitening, the shuffle and the layout from the number of views."""
        published = [one for one in self.paper.claims if one.metric != "sts_average" or {*STANDARD} <= {*self.sets}]
        others = ("simcse-3", "group-whitening", "whitened-cse+compat", "no-negatives", "whitening")
        return (
            *published,
            *(Claim("sts_average", "higher", other, "whitened-cse") for other in others if other in self.arms),
            Claim("sts_average", "higher", "untrained", "whitened-cse"),
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        notes = [*super().notes(summary)]
        if self.train_data is None:
            rates = f"{self.learning_rate:g}" + (f", SimCSE's at {self.simcse_rate:g}" if self.simcse_rate else "")
            notes.append(
                "The paper trains BERT-base on a million sentences, 7,812 steps of 128 at a learning rate of 1e-5; "
                f"these are {self.steps} steps of {self.batch_size} at {rates}. SimCSE of two views is the published "
                "rival; that of three has as many views, and so as much work, as WhitenedCSE."
            )
        return notes


RECIPE = WhitenedCSERecipe
