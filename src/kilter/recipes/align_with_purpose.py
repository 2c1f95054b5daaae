"""Recipe of Align With Purpose: words earlier (or with fewer errors), against CTC on the same budget.

Default task: strings of spoken digits with exact word ends, on causal convolutions that emit words about 380 ms
after they end; the same network with residual connections does not drift and is shown beside it. The paper
trained stacked ResNets and Conformers on LibriSpeech and larger corpora; its weights and margins are not public.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.metrics import Measured
from kilter.lab.numbers import fixed
from kilter.lab.options import above, at_least
from kilter.tasks.recognition import Recognition, not_zero

if TYPE_CHECKING:
    from kilter.models.recogniser import Recogniser

_CONSTANT = ("awp-0.5+constant", "awp-1+constant", "awp-1.5+constant", "awp-2+constant", "awp-3+constant")
_RIVALS = ("peak-first", "trim-tail", "awp+trim-tail", "delay-penalty", "bayes-risk")


@dataclass(kw_only=True)
class AlignWithPurposeRecipe(Recognition):
    """Make a CTC recogniser emit its words earlier, at nearly the same word error rate.

    Align With Purpose samples alignments from the model, edits each into a better one (the same words, a frame
    earlier), and moves probability from the one to the other.

    Without --model it trains a small recogniser on recorded digit strings and shows before and after. With --model
    and --train it tunes your own model and leaves it, in the host's format, in arms/awp/seed-0/model.
    """

    property: Literal["low-latency", "minimum-wer"] = "low-latency"
    """what makes an alignment better"""
    weight: Annotated[float, at_least(0)] = 1.5
    """α, weight of the term in arm awp; arm awp-0.5 has weight 0.5"""
    samples: Annotated[int, at_least(1)] = 5
    """N, alignments drawn for each utterance (published code: 5)"""
    margin: Annotated[float, at_least(0)] = 0.0
    """λ of the hinge (published code: 0)"""
    temperature: Annotated[float, above(0)] = 1.0
    """of the sampling (published code: 1)"""

    paper = cards()["align-with-purpose"]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("ctc", "awp"), **Recognition.smoke},
        "demo": {"arms": ("ctc", "residual", "awp"), "steps": 900, "weight": 2.0, "jobs": 2},
        "full": {
            "arms": ("ctc", "awp", *_CONSTANT, *_RIVALS, "peak-first-0.003+constant", "residual", "warm-up"),
            "seeds": 5,
            "steps": 900,
            "test_strings": 600,
            "jobs": 2,
        },
        "residual": {
            "arms": ("ctc", "awp", *_CONSTANT, *_RIVALS, "warm-up"),
            "encoder": "residual",
            "seeds": 5,
            "steps": 450,
            "jobs": 2,
        },
        "words": {  # the other property: recorded sentences in letters, of which each seed holds out a fifth
            "arms": ("ctc", "awp", "awp-150", "mwer", "warm-up"),
            "speech": "prompts",
            "language": "es",
            "property": "minimum-wer",
            "weight": 50.0,
            "schedule": "constant",
            "encoder": "residual",
            "seeds": 5,
            "batch_size": 8,
            "warm_up_steps": 1000,
            "warm_up_learning_rate": 4e-3,
            "steps": 300,
            "learning_rate": 5e-4,
            "jobs": 2,
        },
        "own": {"arms": ("ctc", "awp"), "warm_up_steps": 0},  # what --model means
    }

    def brings(self) -> Mapping[str, Term]:
        """The term beside CTC; `awp+compat` has the published code's bugs, at the same weight."""
        published = {"compat": ", published bugs"}
        how: Any = {"usual": self.weight, "option": "weight", "variants": published, "strength": not_zero}
        return {"awp": Term("AWP {:g}", self._levers, **how)}

    def _levers(self, weight: float, *, compat: bool = False) -> Levers:
        def objective(recogniser: "Recogniser") -> Any:
            from kilter.speech import AlignWithPurpose, LowLatency, MinimumWER

            if self.property == "low-latency":
                better: Any = LowLatency(blank=recogniser.blank, compat=compat)
            else:
                better = MinimumWER(recogniser.spelling.strings, blank=recogniser.blank, compat=compat)
            return AlignWithPurpose(better, samples=self.samples, margin=self.margin, temperature=self.temperature)

        return Levers(objective=objective, weight=weight)

    # The report ---------------------------------------------------------------------------------------------

    def purpose(self) -> str:
        """Of the property of this run."""
        if self.property == "low-latency":
            return super().purpose()
        return (
            "Make a CTC recogniser get more words right. Align With Purpose samples alignments from the model, mends "
            "one almost right word in each, and moves probability from the one to the other."
        )

    def claims(self) -> Sequence[Claim]:
        """Of the paper's, those on the property of this run; with word errors, those of the run too."""
        if self.property == "low-latency":
            return [one for one in self.paper.claims if one.metric != "lm_wer"]
        published = [one for one in self.paper.claims if one.metric == "lm_wer"]
        own = (("awp", "wer"), ("mwer", "lm_wer"), ("mwer", "wer"))
        return [*published, *(Claim(wer, "lower", "ctc", arm) for arm, wer in own)]

    def verdicts(self, arms: Measured) -> Sequence[Mapping[str, Any]]:
        """Whether Align With Purpose is on the front of delay and word errors among the rivals that were run."""
        from kilter.lab.verdicts import front

        if self.property != "low-latency":
            return []
        made_of = {arm: self._terms(arm) for arm in arms.figures if arm not in ("before", "warm-up")}
        own = [arm for arm, terms in made_of.items() if terms == {"awp"}]
        rivals = [arm for arm, terms in made_of.items() if terms and "awp" not in terms]
        found = front(arms, "delay_ms", "wer", own, rivals, "Align With Purpose")
        return [found] if found else []

    def _terms(self, arm: str) -> set[str]:
        """What an arm of the run's own network trains with; nothing of another network's."""
        found = self.mixture(arm)
        if found.levers().options.get("encoder", self.encoder) != self.encoder:
            return set()
        return {part.name for part in found.parts if part.term.role == "method"}

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """When one needs this, in plain words."""
        notes, delays = [*super().notes(summary)], self.delays(summary["arms"])
        if any("lm_wer" in arm["metrics"] for arm in summary["arms"].values()):
            notes.append("The paper too decodes with a language model.")
        if "ctc" in delays and "residual" in delays:
            notes.append(
                f"Plain CTC emits words {delays['ctc']:.0f} ms after their end here; the same network with residual "
                f"connections {fixed(delays['residual'], 0, signed=True)} ms. The drift is avoidable "
                "by design: Align With Purpose is for the model you already have. "
                "Measure its drift first; only drift that is there can be removed."
            )
        return notes


RECIPE = AlignWithPurposeRecipe
