"""How an arm learns: by which solver, from which reward, with what attached to the stock trainer.

A recipe says it as the lever `objective` of a term, a function of the task that runs it. Imports nothing heavy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Solver = Literal["offline", "rloo", "grpo", "sft"]
"""Regression on draws of the model as given, which samples nothing more; TRL's trainers; likelihood of references."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What an arm does with the reward.

    Attributes:
        solver: see `Solver`.
        beta: `(rewards (P, K)) -> float`, the weight of the KL divergence, given the rewards of the draws; None is 0.
        values: `(rewards (P, K), beta) -> (P, K)`, what the offline loss is given for each draw; NaN has no part in it.
        loss: `(beta) -> module` of the offline solver, called with `policy_log_probs`, `base_log_probs` and values.
        reward: `(reward, beta) -> reward` as TRL takes it; None is the reward itself.
        against_reference: the reward is the sign of an answer's score minus the reference's, not the score.
        attached: makes the objective that `kilter.hosts.trl.align_group` adds; None is the stock trainer.
        kl: the divergence at which the tuned model is left, by the strength of its LoRA; None leaves it as trained.
        options: of TRL's arguments, beside those that every arm has.
    """

    solver: Solver
    beta: Callable[[Any], float] | None = None
    values: Callable[[Any, float], Any] | None = None
    loss: Callable[[float], Any] | None = None
    reward: Callable[[Any, float], Any] | None = None
    against_reference: bool = False
    attached: Callable[[], Any] | None = None
    kl: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_answers(self) -> bool:
        """Whether prompts need a reference answer."""
        return self.solver == "sft" or self.against_reference
