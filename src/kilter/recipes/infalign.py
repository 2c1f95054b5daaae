"""Recipe of InfAlign: what a reward's calibration and shape are worth to the decoder that a model stands behind.

The paper tunes PaLM-2 on helpfulness, harmlessness and summaries; a small model answers requests in a few words here,
by a scorer learnt from people's preferences. Without any model its curves say what is to be won.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.options import above
from kilter.lab.recipe import Advance, Judged, Picture, Provenance
from kilter.tasks.preference import PreferenceTuning
from kilter.tasks.preference.learning import Learning

_SHAPES = {
    "identity": ("Calibrated reward", "identity"),
    "log": ("Its logarithm", "log"),
    "poly": ("Its power", "poly"),
    "fixed-point": ("Fixed point", "fixed_point"),
}
_ALL = ("base", "raw", "identity", "log", "exp", "fixed-point")
_CURVES = ("base", "identity", "log", "poly", "exp-5", "exp", "fixed-point")


@dataclass(kw_only=True)
class InferenceAwareRecipe(PreferenceTuning):
    """Tune a language model for the decoder that it will stand behind: best of N, or an attacker who keeps the worst.

    A reward becomes how often an answer beats the model as given, and that is reshaped for the decoder; every arm is
    tuned for the same divergence from the model as given. Its draws are made once and kept.

    Without --prompts a small model answers requests, scored by what people preferred. With --prompts FILE --reward
    FILE.py:FUNCTION it is tuned on yours; the model is left in arms/exp/seed-0/model, a folder of transformers.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, five seeds; worst: the same against
    the worst of N; curves: no model, what each reshaping buys at that divergence;
    own (by default with --prompts or --train): the raw reward, and exp.
    """

    decoder: Literal["best_of", "worst_of", "plain"] = "best_of"
    """what the model will stand behind, or be attacked by"""
    rate: Annotated[float, above(0)] = 10.0
    """t of exp (published: 10, for N = 4); arm exp-5 has another"""
    kl: Annotated[float, above(0)] = 0.37
    """divergence from the model as given, in nats of a whole answer, for which every arm is tuned"""
    solver: Literal["offline", "rloo", "grpo", "curves"] = "offline"
    """regression on the draws, which samples nothing more; TRL's trainers; or no model at all, the curves alone"""

    paper = cards()["infalign"]
    first: ClassVar[tuple[str, ...]] = ("raw", "exp")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("base", "raw", "exp", "log"), **PreferenceTuning.smoke},
        "demo": {"arms": ("base", "raw", "exp"), "jobs": 2, **PreferenceTuning.requests},
        "full": {"arms": _ALL, "seeds": 5, "jobs": 2, **PreferenceTuning.requests},
        "worst": {"arms": _ALL, "seeds": 5, "jobs": 2, **PreferenceTuning.requests, "decoder": "worst_of"},
        "curves": {"arms": _CURVES, "solver": "curves"},
        "own": {"arms": ("base", "raw", "exp"), "train_prompts": 100},  # what --prompts means
    }

    def prepare(self) -> None:
        """Check that the options fit each other.

        Raises:
            ValueError: they do not.
        """
        super().prepare()
        if self.solver == "curves" and (self.own or "raw" in self.arms):
            raise ValueError("--solver curves has no model and no reward; leave prompts and the arm raw out")
        if self.solver != "offline" and not self.lora:
            raise ValueError(f"--solver {self.solver} needs a LoRA: give --lora a rank")

    def brings(self) -> Mapping[str, Term]:
        """The raw reward, and each reshaping of the calibrated one."""
        raw = self._learning("raw", self.rate)
        found = {"raw": Term("Raw reward", lambda strength: Levers(objective=lambda task: raw), role="context")}
        for name, (label, kind) in _SHAPES.items():
            found[name] = Term(label, self._made(kind))
        found["exp"] = Term("Exponential", self._made("exp"), usual=self.rate, at=", rate {:g}", option="rate")
        return found

    def _made(self, kind: str) -> Any:
        def made(strength: float | None) -> Levers:
            learning = self._learning(kind, self.rate if strength is None else strength)
            return Levers(objective=lambda task: learning)

        return made

    def _shape(self, rate: float) -> dict[str, Any]:
        return {"decoder": self.decoder, "n": self.n, "rate": rate}

    def _learning(self, kind: Any, rate: float) -> Learning:
        """How an arm learns; nothing heavy is loaded before it does."""
        shape = self._shape(rate)
        alone: Any = {"scale_rewards": "none"} if self.solver == "grpo" else {}
        solver: Any = self.solver if self.solver != "curves" else "offline"
        if kind == "raw":
            return Learning(
                solver=solver, beta=self._raw_beta, values=_less_partition, loss=_regression, kl=self.kl, options=alone
            )

        def beta(rewards: Any) -> float:
            from kilter.preference import win_rate_at_kl

            return win_rate_at_kl(self.kl, kind, **shape)[1]

        def loss(beta: float) -> Any:
            from kilter.preference import QuantileRewardRegression

            return QuantileRewardRegression(beta=beta, transform=kind, num_ref=self.draws, **shape)

        def reward(plain: Any, beta: float) -> Any:
            from kilter.preference import inference_aware_reward

            return inference_aware_reward(plain, kind, **shape, beta=beta if kind == "fixed_point" else None)

        return Learning(
            solver=solver, beta=beta, values=_calibrated, loss=loss, reward=reward, kl=self.kl, options=alone
        )

    def _raw_beta(self, rewards: Any) -> float:
        from kilter.tasks.preference.tilting import beta_at_kl

        return beta_at_kl(rewards, self.kl)

    # Without a model ----------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """The task's, or none for the curves."""
        if self.solver == "curves":
            return Provenance("no data: what is so for every prompt and every reward without ties", synthetic=True)
        return super().build_data()

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:
        """The task's; curves need nothing."""
        if self.solver != "curves":
            super().warm_up(arm, seed, run, advance)

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """The task's; curves need nothing."""
        return folder if self.solver == "curves" else super().train(arm, seed, folder, advance)

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """The task's, or what the curves say."""
        if self.solver != "curves":
            return super().evaluate(arm, seed, model)
        from kilter.tasks.preference.curves import analytic

        part = next(iter(self.mixture(arm).parts), None)
        if part is None:
            return Judged({"win_best": 50.0, "win_worst": 50.0, "win_plain": 50.0, "kl": 0.0}, [])
        kind = "exp" if part.name == "exp" else _SHAPES[part.name][1]
        rate = self.rate if part.strength is None else part.strength
        return Judged(analytic(self.kl, kind, **self._shape(rate)), [])

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and how far each arm is ahead of the raw reward behind the decoder it was tuned for."""
        metric = {"best_of": "win_best", "worst_of": "win_worst", "plain": "win_plain"}[self.decoder]
        ours = [Claim(metric, "higher", "raw", arm) for arm in ("identity", "log", "fixed-point")]
        ours += [Claim(metric, "higher", one, "exp") for one in ("raw", "identity", "log", "base")]
        spoken = (metric, "win_plain", "")  # of the other decoder nothing was tuned for it speaks
        return [claim for claim in self.with_claims(ours) if claim.metric in spoken]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Win rates against the divergence, how even the calibrated reward is, and answers side by side."""
        from kilter.tasks.preference import curves

        shown = {name: kind for name, (_, kind) in _SHAPES.items()} | {"exp": "exp"}
        found = [curves.win_rates_by_kl(summary, run, shown, **self._shape(self.rate))]
        if self.solver == "curves":
            return found
        return [*found, *curves.evenness(self, run), *super().pictures(summary, run)]

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """The gap that the curves promise, ties, and how much smaller this is than the paper."""
        from kilter.tasks.preference import curves

        found = [curves.gap_said(self.kl, **self._shape(self.rate))]
        if self.solver == "curves":
            return [*found, "Exact for every prompt and every reward without ties: no model and no data."]
        return [*super().notes(summary), *found, *curves.ties_said(self), *curves.intervals_said(summary, self.out)]


def _calibrated(rewards: Any, beta: float) -> Any:
    from kilter.preference import calibrate

    return calibrate(rewards, rewards)


def _less_partition(rewards: Any, beta: float) -> Any:
    from kilter.tasks.preference.tilting import less_partition

    return less_partition(rewards, beta)


def _regression(beta: float) -> Any:
    from kilter.tasks.preference.offline import RewardRegression

    return RewardRegression(beta=beta)


RECIPE = InferenceAwareRecipe
