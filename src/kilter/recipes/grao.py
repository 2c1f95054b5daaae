"""Recipe of GRAO: GRPO's groups with the reference answer as one of them, against GRPO, imitation, and its own parts.

The paper tunes 7 and 16 billion weights on HH by a judge of hundreds of billions; here a small model learns short tasks
with one right answer, where at the start nearly every sample fails, or HH by a judge learnt from its pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import NOT_NEGATIVE
from kilter.lab.recipe import Picture
from kilter.tasks.preference import PreferenceTuning
from kilter.tasks.preference.learning import Learning

_PARTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "grao": ("GRAO", {}),
    "no-imitation": ("GRAO without imitation", {"beta": 0.0}),
    "no-regulariser": ("GRAO without the regulariser", {"lambda_": 0.0}),
    "folded": ("GRAO folded into two weights", {"form": "folded"}),
    "clipped": ("GRAO, beaten references left alone", {"clip_negative_reference": True}),
}
_FEW = ("base", "sft", "grpo", "grao")
_ALL = (*_FEW, "grpo-sft", "no-imitation", "no-exploration", "no-regulariser", "folded", "clipped")


@dataclass(kw_only=True)
class GroupAlignmentRecipe(PreferenceTuning):
    """Teach a language model from its own answers and from the reference, by which of them is better.

    Where all samples of a group fail, GRPO has nothing to learn from; here the reference is one of the group. The
    trainer is TRL's own, and what is left is an ordinary model.

    Without --train a small model learns one-line tasks of BIG-Bench-Hard, of which only the right answer, alone,
    counts. With --train pairs.csv --judge FILE.py:FUNCTION it learns from your prompts and answers; the judge scores an
    answer, and the reward is whether it scores higher than the reference. The model is left in
    arms/grao/seed-0/model, a folder of transformers.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, five seeds; harmless: requests to an
    assistant, judged by a scorer learnt from people's preferences;
    own (by default with --train): SFT, GRPO and GRAO.
    """

    imitation: Annotated[float, NOT_NEGATIVE] = 0.5
    """β, the weight of imitation (published: 0.5)"""
    regulariser: Annotated[float, NOT_NEGATIVE] = 0.6
    """λ, the weight of the alignment regulariser (published: 0.6)"""

    paper = cards()["grao"]
    needs_answers: ClassVar[bool] = True
    first: ClassVar[tuple[str, ...]] = ("grpo", "grao")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("base", "sft", "grpo", "no-exploration", "grao"), **PreferenceTuning.smoke},
        "demo": {"arms": _FEW, "jobs": 2, **PreferenceTuning.short},
        "full": {"arms": _ALL, "seeds": 5, "jobs": 2, **PreferenceTuning.short},
        "harmless": {"arms": _FEW, "seeds": 5, "jobs": 2, **PreferenceTuning.requests, "max_new_tokens": 16},
        "own": {"arms": _FEW},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """GRAO, without each of its parts, folded, clipped, and GRPO with plain imitation."""
        found = {name: self._term(label, changed) for name, (label, changed) in _PARTS.items()}
        found["no-exploration"] = self._term("GRAO without exploration", {}, "WithoutExploration")
        found["grpo-sft"] = self._term("GRPO and SFT at GRAO's weights", {}, "SampleAndImitate", role="context")
        return found

    def _term(self, label: str, changed: Mapping[str, Any], kind: str = "GroupRelativeAlignment", **how: Any) -> Term:
        def made() -> Any:
            from kilter.tasks.preference import groups

            return getattr(groups, kind)(**{"beta": self.imitation, "lambda_": self.regulariser, **changed})

        learning = Learning(solver="grpo", against_reference=True, attached=made)
        return Term(label, lambda strength: Levers(objective=lambda task: learning), **how)

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, what each part is worth, and that imitation by advantage is more than imitation."""
        others = [arm for arm in _ALL if arm not in ("base", "grao")]
        return self.with_claims(Claim("win_rate", "higher", one, "grao") for one in others)

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """What was learnt from by the step, and answers side by side."""
        from kilter.tasks.preference import figures

        return [*figures.by_step(summary, run), *super().pictures(summary, run)]

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the regulariser is, and how much smaller this is than the paper."""
        from kilter.preference import effective_weights

        sample, reference = effective_weights(self.group, beta=self.imitation, lambda_=self.regulariser)
        said = (
            f"The regulariser only changes two weights: with {self.group} answers in a group each sample counts "
            f"{sample:g} and the reference {reference:g}"
        )
        same = "; folded is therefore the same training" if "folded" in summary["arms"] else ""
        return [*super().notes(summary), f"{said}{same}."]


RECIPE = GroupAlignmentRecipe
