"""Objectives that learn and remember, on pairs of vectors: one has all there is to keep, others are easy to check."""

from typing import Any

import torch
from torch import nn

from kilter.core import LossOutput, Objective
from kilter.dist import gather
from tests.hosts.small_encoder import DIM


class Remembering(Objective):
    """A head, running statistics, a bank with its place, and a random draw: all there is to be kept."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.size = size
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.head = nn.Linear(DIM, DIM)
        self.norm = nn.BatchNorm1d(DIM)
        self.drop = nn.Dropout(0.2)
        self.register_buffer("bank", torch.zeros(size, DIM))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))
        self.bank: torch.Tensor
        self.pushed: torch.Tensor

    def forward(self, centre: Any, context: Any) -> LossOutput:
        left, right = self.drop(self.norm(self.head(centre))), self.norm(self.head(context))
        keys = torch.cat([right, self.bank.clone()])
        loss = torch.cdist(left, right).diagonal().mean() - torch.cdist(left, keys).mean() / 2
        if self.training:
            places = (self.pushed + torch.arange(len(right))) % self.size
            self.bank[places] = right.detach()
            self.pushed += len(right)
        return LossOutput(loss, {"both": loss}, {"pushed": self.pushed.float().detach()})


class Scaled(Objective):
    """Its gradient at the parameter is a mean over rows, so that accumulation can be compared."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((DIM,), 2.0))
        self.rows: list[int] = []

    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, centre: Any, context: Any) -> LossOutput:
        self.rows.append(len(centre))
        loss = ((centre - context) * self.weight).square().mean()
        half = loss / 2
        count = torch.tensor(float(len(self.rows)))
        return LossOutput(loss, {"one": half, "other": half}, {"calls": count, "large": 1e6 * count})


class Gathered(Objective):
    """Own rows contrasted with those of all processes, with a factor for each component."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, DIM))

    def forward(self, centre: Any, context: Any) -> LossOutput:
        from kilter.dist import rank

        logits = (centre * self.weight) @ gather(context).T / DIM
        own = torch.arange(len(centre)) + rank() * len(centre)
        loss = nn.functional.cross_entropy(logits, own)
        return LossOutput(loss, {"contrast": loss})
