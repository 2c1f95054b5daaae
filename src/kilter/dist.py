"""The only code that touches torch.distributed; every function is the identity in a single process."""

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
    """Which of the processes this is, 0 without a process group."""
    return dist.get_rank() if is_on() else 0


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, in the order of the processes, with gradient to each (every process must call it).

    The gradient that arrives is summed over the processes, so that a mean over them (DDP's) is that of one process with
    the joined batch. All must have as many rows.
    """
    return _Gather.apply(tensor) if world_size() > 1 else tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        found = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(found, tensor.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return all_sum(gradients[0].contiguous()).chunk(world_size())[rank()]


def all_sum(tensor: Tensor) -> Tensor:
    """Sum of a detached tensor over all processes (every process must call it)."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()
