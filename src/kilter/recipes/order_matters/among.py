"""The search for orders as the task takes it: with the orders among which it searches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kilter.core import LossOutput
from kilter.seq2seq import OrderSearch


class SearchAmong(nn.Module):
    """`OrderSearch` over some orders, or over all."""

    def __init__(self, candidates: Sequence[Sequence[int]] | None, **how: Any) -> None:
        super().__init__()
        self.search = OrderSearch(**how)
        given = None if candidates is None else torch.tensor(candidates)
        self.register_buffer("candidates", given, persistent=False)

    def forward(self, step_log_probs: Callable[[Tensor], Tensor], num_elements: int, batch_size: int) -> LossOutput:
        """The loss of orders that are drawn."""
        return self.search(step_log_probs, num_elements, batch_size, candidates=self.candidates)
