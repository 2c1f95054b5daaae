"""Recipe of RankGen: a ranker that knows which passage comes next, and text chosen by it.

MiniLM learns to tell what follows a passage of a novel from other passages of the same book and from what SmolLM2
writes there. The paper trained T5 encoders of up to 1.2 billion parameters on PG19 and more: 256 words a prefix,
100,000 steps of 4,096 pairs. Its weights could not be had here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import at_least
from kilter.tasks.continuations import Continuations

_RANKERS = ("untrained", "inbook", "generative", "both", "both+blocks")
_ALL = (*_RANKERS, "overlap", "perplexity", "nucleus", "human", "judge")


@dataclass(kw_only=True)
class RankGenRecipe(Continuations):
    """Train a ranker that knows which passage comes next in your texts, and choose a language model's samples by it.

    RankGen learns, from whole documents, to prefer the true continuation of a passage to other passages of the same
    document and to what a machine wrote there. It then picks the best of many samples, or steers a search.

    Without --train it learns from novels and is judged on one it has not seen. With --train it learns from a folder of
    your own long texts and leaves the ranker, for RankGenScorer and sentence-transformers, in arms/both/seed-0/model.
    """

    beams: Annotated[int, at_least(1)] = 2
    """B of the search in blocks (published: 2)"""
    block_samples: Annotated[int, at_least(1)] = 10
    """N of the search in blocks (published: 10)"""
    block: Annotated[int, at_least(1)] = 20
    """L of the search in blocks, in tokens (published: 20)"""

    paper = cards()["rankgen"]
    judging = Continuations.judging | {"beams", "block_samples", "block"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "arms": ("untrained", "both", "both+blocks", "nucleus"),
            **Continuations.smoke,
            "block": 4,
            "block_samples": 2,
        },
        "demo": {
            "arms": ("untrained", "both", "nucleus", "human"),
            "pairs": 192,
            "steps": 60,
            "judge_pairs": 0,
            "test_pairs": 60,
            "prompts": 6,
            "samples": 10,
            "new_tokens": 48,
            "judgements": False,
        },
        "full": {"arms": _ALL, "seeds": 3, "jobs": 2},
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _ALL,
            "seeds": 3,
            "model": "google/t5-v1_1-base",
            "prefix_words": 256,
            "longest": 128,
            "pairs": 1_000_000,
            "steps": 100_000,
            "batch_size": 4096,
            "learning_rate": 2e-3,
            "test_pairs": 5000,
            "prompts": 5000,
            "new_tokens": 128,
        },
        "own": {"arms": ("untrained", "both"), **Continuations.own},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Three choices of negatives, and the search; +compat is as the published code does it."""
        return {
            "inbook": _ranker("passages of the same book", "inbook"),
            "generative": _ranker("machine text", "generative"),
            "both": _ranker("both", "all"),
            "blocks": Term(
                "search in blocks", self._search, after=True, variants={"compat": " from as many copies, as published"}
            ),
        }

    def _search(self, strength: float | None, *, compat: bool = False) -> Levers:
        def made(scorer: Any, **given: Any) -> Any:
            from kilter.decoding import RankGenSearch

            how: Any = {"beams": self.beams, "samples": self.block_samples, "block": self.block}
            return RankGenSearch(scorer, **how, first_stage="copies" if compat else "single", **given)

        return Levers(decoder=made)

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what its tables say of suffix identification, people and decoding, as far as it was run."""
        return (
            *self.paper.claims,
            *(Claim("inbook", "higher", "untrained", arm) for arm in ("both", "inbook")),
            Claim("inbook", "higher", "generative", "both"),
            *(Claim("generative", "higher", "untrained", arm) for arm in ("both", "generative")),
            Claim("generative", "higher", "inbook", "both"),
            Claim("human_agreement", "higher", "untrained", "both"),
            Claim("preferred", "higher", "both", "both+blocks"),
            Claim("rep", "lower", "nucleus", "both"),
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.train_data is not None:
            return super().notes(summary)
        return [
            *super().notes(summary),
            "The paper trains for 100,000 steps of 4,096 pairs with prefixes of 256 words; here it is "
            f"{self.steps} steps of {self.batch_size}, prefixes of at most {self.prefix_words} words.",
        ]


RECIPE = RankGenRecipe


def _ranker(against: str, negatives: Any) -> Term:
    """A ranker trained against these negatives; what it does not need of the machine it is not given."""

    def make(strength: float | None, *, compat: bool = False) -> Levers:
        def objective(encoder: Any) -> Any:
            from kilter.decoding import RankGenLoss

            return RankGenLoss(negatives=negatives)

        rows: Callable[..., Any] | None = _without_machine_text if negatives == "inbook" else None
        return Levers(objective=objective, rows=rows, options={"compat": True} if compat else {})

    return Term(f"Ranker against {against}", make, variants={"compat": ", long texts cut as published"})


def _without_machine_text(rows: Any, encoder: Any, seed: int) -> Any:
    return rows.remove_columns("generated")
