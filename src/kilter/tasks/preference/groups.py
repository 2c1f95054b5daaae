"""Rivals of GRAO with its weights: without exploration, and GRPO with plain imitation; and its parts by the step."""

from typing import Any

import torch
from torch import Tensor

from kilter.preference import GroupRelativeAlignment, group_advantages


class WithoutExploration(GroupRelativeAlignment):
    """The loss without its first part: samples count by the regulariser alone."""

    def advantages(self, rewards: Tensor, reference_rewards: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The samples' are shrunk by λ/(1+λ), since trl's loss is given them times 1+λ."""
        ours, reference = super().advantages(rewards, reference_rewards)
        return self.lambda_ / (1 + self.lambda_) * ours, reference


class SampleAndImitate(GroupRelativeAlignment):
    """GRPO and SFT at GRAO's weights: references are imitated whether or not samples beat them."""

    def advantages(self, rewards: Tensor, reference_rewards: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The samples' among themselves, and 1 of every reference."""
        ours, reference = group_advantages(rewards, reference_in_stats=False, std=self.std, eps=self.eps)
        return ours, torch.ones_like(reference)


class Parts:
    """Logs the three parts of the paper's loss at each step of a trainer that `align_group` has an objective in.

    They are computed from what the trainer computes anyway, and change nothing.
    """

    def __init__(self, trainer: Any, objective: GroupRelativeAlignment) -> None:
        how = {**objective.config(), "form": "paper"}
        self._paper = GroupRelativeAlignment(**how)
        self._trainer, self._seen = trainer, []
        self._loss, self._log_probs = trainer._compute_loss, trainer._get_per_token_logps_and_entropies
        trainer._compute_loss, trainer._get_per_token_logps_and_entropies = self._compute_loss, self._keep

    def _keep(self, *args: Any, **kwargs: Any) -> Any:
        found = self._log_probs(*args, **kwargs)
        self._seen.append(found[0].detach())
        return found

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        self._seen.clear()
        loss = self._loss(model, inputs)
        if self._trainer.model.training and len(self._seen) > 1:
            samples, references = self._seen[0], self._seen[-1]
            _, row = inputs["reference_group"].unique(return_inverse=True)
            first = torch.zeros(len(references), dtype=torch.long).scatter_(0, row.cpu(), torch.arange(len(row)))
            mask = inputs["reference_mask"][first.to(row.device), : references.shape[1]]
            with torch.no_grad():
                out = self._paper(
                    samples,
                    inputs["completion_mask"],
                    inputs["advantages"] / (1 + self._paper.lambda_),
                    references,
                    mask,
                    inputs["reference_advantages"][first.to(row.device)],
                    row,
                )
            for name, part in out.parts.items():
                self._trainer._metrics["train"][f"part_{name}"].append(float(part))
        return loss
