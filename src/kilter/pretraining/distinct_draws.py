"""Random numbers for many rows at once, each row without repetition."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor


def uniform(shape: Sequence[int], generator: Generator | None) -> Float[Tensor, "..."]:
    """Numbers in 0..1, on the generator's device."""
    return torch.rand(tuple(shape), generator=generator, device=_device(generator))


def below(size: int, shape: Sequence[int], generator: Generator | None) -> Int[Tensor, "..."]:
    """Whole numbers from 0 and below `size`, on the generator's device."""
    return torch.randint(size, tuple(shape), generator=generator, device=_device(generator))


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def different(rows: int, count: int, size: int, generator: Generator | None) -> Int[Tensor, "rows count"]:
    """For each row `count` different whole numbers below `size`, in random order; every choice is as likely.

    Where there are many numbers, what stood in its row before is drawn again, which is rare.

    Example:
        >>> different(1, 3, 3, torch.Generator().manual_seed(0)).sort().values
        tensor([[0, 1, 2]])
    """
    if size <= 16 * count:
        return uniform((rows, size), generator).argsort(1)[:, :count]
    found = below(size, (rows, count), generator)
    while (again := repeated(found)).any():
        found[again] = below(size, (int(again.sum()),), generator)
    return found


def repeated(numbers: Int[Tensor, "rows count"]) -> Bool[Tensor, "rows count"]:
    """Which numbers stood in their row before.

    Example:
        >>> repeated(torch.tensor([[3, 1, 3, 3]]))
        tensor([[False, False,  True,  True]])
    """
    ordered, order = numbers.sort(dim=1, stable=True)
    same = torch.zeros_like(ordered, dtype=torch.bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.zeros_like(same).scatter_(1, order, same)


def arranged(rank: Int[Tensor, "rows count"], *columns: Tensor) -> list[Tensor]:
    """Columns `(rows, count, …)` by rank, the lowest first, and in their order where that is equal.

    Example:
        >>> arranged(torch.tensor([[1, 0, 0]]), torch.tensor([[7, 8, 9]]))
        [tensor([[8, 9, 7]])]
    """
    order = rank.sort(dim=1, stable=True).indices
    rows = torch.arange(len(order), device=order.device)[:, None]
    return [one[rows, order] for one in columns]
