"""The only code that touches torch.distributed; every function is the identity in a single process."""

import torch.distributed as dist
from torch import Tensor


def is_on() -> bool:
    """Whether a process group runs."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes there are, 1 without a process group."""
    return dist.get_world_size() if is_on() else 1


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
