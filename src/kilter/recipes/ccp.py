"""Recipe of CCP: an encoder that learns from each language's documents alone, and then finds translations.

The lower layers of Gemma-3-270M learn to tell which sentence stood near which in descriptions of Debian's packages. The
paper went on from XLM-R with 108 languages of CommonCrawl and masked words beside it, 2,048 pairs a batch. Its weights
could not be had here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import NOT_NEGATIVE, above
from kilter.tasks.bitext_retrieval import BitextRetrieval
from kilter.tasks.bitext_retrieval.rivals import Pupil

_AFTER = ("joint", "shift", "standardise", "rotate")
_ALL = (
    "untrained",
    *_AFTER,
    "mnrl",
    "no-bank",
    "agnostic-bank",
    "symmetric-norm",
    "ccp",
    "ccp+joint",
    "ccp+standardise",
    "ccp+rotate",
)


@dataclass(kw_only=True)
class ContextPredictionRecipe(BitextRetrieval):
    """Bring the languages of an encoder together from documents of each language, without a single translation.

    CCP learns which sentence stood near which in its document, against others of the same language that a memory bank
    keeps. Afterwards each language's vectors are shifted, scaled and rotated onto the pivot's.

    Without --train it learns from Debian's package descriptions and is judged by finding translations on packages it
    has not seen and on Tatoeba. With --train en=docs.txt de=more/ it learns from documents of your own and leaves the
    encoder, for sentence-transformers, in arms/ccp/seed-0/model; kilter calibrate does the rest.
    """

    bank_size: Annotated[int, NOT_NEGATIVE] = 1024
    """sentences in the memory bank, of all languages together (published: thousands; 4,096 in the sibling code)"""
    temperature: Annotated[float, above(0)] = 0.1
    """τ of the loss (0.1 in the sibling code)"""

    paper = cards()["ccp"]
    shown: ClassVar[tuple[str, ...]] = ("ccp", "ccp+standardise")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("untrained", "standardise", "ccp", "ccp+rotate"),
            **BitextRetrieval.smoke,
            "bank_size": 16,
        },
        "demo": {
            "arms": ("untrained", "standardise", "ccp", "ccp+standardise"),
            "documents": 500,
            "steps": 40,
            "test_pairs": 100,
            "statistics": 400,
        },
        "full": {
            "arms": _ALL,
            "seeds": 3,
            "jobs": 2,
            "model": "gemma-4",
            "freeze_layers": 2,
            "learning_rate": 2e-4,
            "steps": 50,
            "max_tokens": 24,
            "documents": 1500,
            "statistics": 300,
            "test_pairs": 150,
        },
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _ALL,
            "seeds": 3,
            "model": "xlm-roberta-base",
            "freeze_embeddings": False,
            "bank_size": 4096,
            "batch_size": 2048,
            "steps": 200_000,
            "learning_rate": 4e-5,
            "max_tokens": 64,
            "documents": 1_000_000,
            "test_pairs": 1000,
        },
        "own": {"arms": ("untrained", "standardise", "ccp", "ccp+standardise")},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Context prediction, and what it is without one of its parts."""
        return {
            "ccp": self._predicts("Context prediction"),
            "no-bank": self._predicts("Context prediction without bank", bank_size=0),
            "agnostic-bank": self._predicts("Context prediction, bank of any language", agnostic=True),
            "symmetric-norm": self._predicts("Context prediction, both sides normalised alike", asymmetric_norm=False),
        }

    def _predicts(self, label: str, *, agnostic: bool = False, **how: Any) -> Term:
        def objective(pupil: Pupil) -> Any:
            from kilter.embeddings import ContextPrediction

            languages = 1 if agnostic else pupil.languages
            given = {"bank_size": self.bank_size, "temperature": self.temperature, "languages": languages, **how}
            return ContextPrediction(pupil.dim, **given)

        return Term(label, lambda strength: Levers(objective=objective))

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what each part of the method is for, on both tests."""
        others = ("untrained", "mnrl", "no-bank", "agnostic-bank", "symmetric-norm")
        pairs = [*((other, "ccp") for other in others), ("ccp", "ccp+standardise"), ("ccp+standardise", "ccp+rotate")]
        pairs += [("joint", "standardise"), ("ccp+joint", "ccp+standardise")]
        pairs += [("untrained", "shift"), ("shift", "standardise"), ("standardise", "rotate")]
        ours = [Claim(test, "higher", one, other) for test in ("debian", "tatoeba") for one, other in pairs]
        return self.with_claims([*ours, Claim("told_apart", "lower", "agnostic-bank", "ccp")])

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.train_data:
            return super().notes(summary)
        return [
            *super().notes(summary),
            *self._trained_and_not(summary["arms"]),
            "The paper trains XLM-R on 108 languages of CommonCrawl with masked words beside it, thousands of pairs a "
            f"batch; here it is {len(self.languages) + 1} languages, {self.steps} steps of {self.batch_size} pairs.",
        ]

    def _trained_and_not(self, arms: Mapping[str, Any]) -> Iterator[str]:
        """What training is worth once the vectors are calibrated."""
        for test in ("debian", "tatoeba"):
            both = [arms[arm]["metrics"].get(test) for arm in ("standardise", "ccp+standardise") if arm in arms]
            if len(both) == 2 and all(both):
                given, trained = (f"{found['mean']:.1f} %" for found in both)
                yield f"Standardised, the encoder as given finds {given} of {test}, the trained one {trained}."


RECIPE = ContextPredictionRecipe
