"""GradCache with an objective: the batch of the loss is whole, and the model sees it in pieces, twice.

Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021. The passes through the
model are sentence-transformers' own. The objective is called once, so that a bank is pushed once, and its own
parameters get their gradient in the backward pass of whoever trains, scaled as the model's is.
"""

from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers.base.losses import CachedLossMixin
from torch import Tensor

from kilter.hosts.wrapped import unwrapped


def in_mini_batches(
    loss: Any, columns: list[dict[str, Any]], score: Callable[[list[Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The parts of a loss, whose backward pass goes through the model piece by piece.

    Args:
        loss: an `STLoss` with a `mini_batch_size`.
        columns: tokenised.
        score: the parts, given the vectors of each column.
    """
    passes = _Passes(loss, score)
    total = passes.forward_cached(columns)
    if not torch.is_grad_enabled():
        return passes.parts
    parts = {name: value.detach() for name, value in passes.parts.items()}
    pull = total + passes.pull
    first = next(iter(parts))
    return parts | {first: parts[first] + (pull - pull.detach())}


class _Passes(CachedLossMixin):
    def __init__(self, loss: Any, score: Callable[[list[Tensor]], dict[str, Tensor]]) -> None:
        self.model = loss.model
        self.mini_batch_size = loss.mini_batch_size
        self.parts: dict[str, Tensor] = {}
        self.pull: Tensor | float = 0.0
        """A number that is of no interest, with the objective's gradient."""
        self._score = score
        self._raw = loss.raw
        self._learnt = [parameter for parameter in loss.objective.parameters() if parameter.requires_grad]

    def embed_minibatch(self, *given: Any, **named: Any) -> Any:
        """Also from within the backward pass, when the loss is long over."""
        with self._raw.on(unwrapped(self.model)):
            return super().embed_minibatch(*given, **named)

    def calculate_loss(self, reps: Any, labels: Tensor | None = None, *, with_backward: bool = False) -> Tensor:
        """The library keeps the gradients of `reps` until the second pass."""
        self.parts = self._score([torch.cat(pieces) for pieces in reps])
        loss = torch.stack([*self.parts.values()]).sum()
        if not with_backward:
            return loss
        pieces = [piece for column in reps for piece in column]
        gradients = torch.autograd.grad(loss, [*pieces, *self._learnt], allow_unused=True)
        for piece, gradient in zip(pieces, gradients, strict=False):
            piece.grad = torch.zeros_like(piece) if gradient is None else gradient
        for parameter, gradient in zip(self._learnt, gradients[len(pieces) :], strict=True):
            if gradient is not None:
                self.pull = self.pull + (parameter * gradient).sum()
        return loss.detach()
