"""Learning without sampling: the draws of the model as given, or reference answers, are rows of a stock trainer.

The offline solver regresses log-ratios of policy and model as given; `sft` is the likelihood of the references.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from kilter.core.objective import LossOutput
from kilter.tasks.preference.drawn import Answers
from kilter.tasks.preference.likelihood import log_probs, padded

Row = dict[str, Any]


class RewardRegression(nn.Module):
    r"""Fit log-ratios to rewards: the mean of $(r - \beta \log Z - \beta \log (\pi/\pi_0))^2$.

    What the offline solver does with a reward that is not calibrated: log Z is then a prompt's own, and estimated from
    its draws. Values are $r - \beta \log Z$.
    """

    def __init__(self, *, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, policy_log_probs: Tensor, base_log_probs: Tensor, values: Tensor) -> LossOutput:
        """The loss of `(B,)` sums of log-probabilities."""
        loss = (values - self.beta * (policy_log_probs - base_log_probs)).square().mean()
        return LossOutput(loss, {"regression": loss}, {})


class Likelihood(nn.Module):
    """The mean over answers of each one's mean log-likelihood of a token, turned around: SFT, by sequences."""

    def forward(self, policy_log_probs: Tensor, base_log_probs: Tensor, values: Tensor) -> LossOutput:
        """`values` are one over each answer's tokens."""
        loss = -(policy_log_probs * values).mean()
        return LossOutput(loss, {"likelihood": loss}, {})


class OfflineTrainer(Trainer):
    """The stock trainer with a loss of whole answers' log-probabilities, of what the model as given has, and values."""

    def __init__(self, model: Any, settings: Any, loss: nn.Module, data: Sequence[Row], pad: int) -> None:
        super().__init__(model, settings, train_dataset=data, data_collator=Collate(pad))  # type: ignore[arg-type]
        self._loss = loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch."""
        out = self._loss(log_probs(model, inputs), inputs["base_log_probs"], inputs["values"])
        return (out.loss, {}) if return_outputs else out.loss


class Collate:
    """Rows to a batch."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Padded, with a number for each row."""
        batch = padded([row["prompt"] for row in rows], [row["answer"] for row in rows], self.pad)
        numbers = {name: torch.tensor([row[name] for row in rows]) for name in ("base_log_probs", "values")}
        return {**batch, **numbers}


def rows_of(draws: Answers, values: Tensor) -> list[Row]:
    """A row for each draw that has a value `(P, K)`."""
    prompts, answers = draws.flat()
    numbers = zip(prompts, answers, draws.log_probs.flatten().tolist(), values.flatten().tolist(), strict=True)
    return [
        {"prompt": prompt, "answer": answer, "base_log_probs": likely, "values": value}
        for prompt, answer, likely, value in numbers
        if value == value
    ]
