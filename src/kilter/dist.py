"""The only code that touches torch.distributed; every function is the identity in a single process."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_on() -> bool:
    """Whether a process group runs."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes there are, 1 without a process group."""
    return dist.get_world_size() if is_on() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if is_on() else 0


def all_sum(tensor: Tensor) -> Tensor:
    """Sum of a detached tensor over all processes (every process must call it)."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


@torch.no_grad()
def as_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first process, in place (every process must call it with its own)."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def gather(tensor: Tensor) -> Tensor:
    r"""The rows of all processes, one after the other by rank, with gradient (every process must call it).

    Behind it, gradients are summed over processes: $\partial/\partial x_r$ is that of
    $\sum_{r'} \mathcal L_{r'}$. Of what wraps models for several processes, all take the mean over processes
    afterwards; so a step is that of one process on the joined batch, whether each process computes the loss of all rows
    or the mean over its own rows, against all others.

    Args:
        tensor: (batch, …), the same shape in all processes; detached or of integers, it comes without gradient.

    Returns:
        (processes · batch, …); of a single process the tensor itself.

    Raises:
        ValueError: shapes differ between processes, in all of them.

    Example:
        >>> gather(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    if world_size() == 1:
        return tensor
    _check_shapes(tensor)
    return _Gather.apply(tensor)


def _check_shapes(tensor: Tensor) -> None:
    """A collective on shapes that differ hangs or returns nonsense."""
    most = 8  # axes; one size for the exchange whatever the tensor has
    shape = torch.tensor([tensor.dim(), *tensor.shape, *[0] * most][: most + 1], device=tensor.device)
    shapes = [torch.empty_like(shape) for _ in range(world_size())]
    dist.all_gather(shapes, shape)
    if any(not torch.equal(shape, one) for one in shapes):
        by_process = ", ".join(str(tuple(one[1 : 1 + int(one[0])].tolist())) for one in shapes)
        raise ValueError(
            f"processes have tensors of different shapes, {by_process}: give each the same number of rows "
            "(dataloader_drop_last=True drops what is left over)"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        start = rank() * ctx.rows
        return all_sum(gradients[0])[start : start + ctx.rows]


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()
