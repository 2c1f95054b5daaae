"""Cross-domain similarity local scaling: nearest neighbours between two spaces, without hubs.

Source: A. Conneau et al., "Word Translation Without Parallel Data", ICLR 2018, section 2.3.
Departure: a matrix of all pairs never exists; rows go in blocks, so that memory grows with n and not with n·m.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import floating, shaped, whole

_BLOCK = 1 << 23
"""Similarities held at once."""


class Neighbours(NamedTuple):
    """The nearest rows of the other side, both ways.

    Attributes:
        forward: for each row of x the nearest of y.
        backward: for each row of y the nearest of x.
        gain: the CSLS of each row of x with its nearest.
        backward_gain: the CSLS of each row of y with its nearest.
    """

    forward: Int[Tensor, " n"]
    backward: Int[Tensor, " m"]
    gain: Float[Tensor, " n"]
    backward_gain: Float[Tensor, " m"]

    def mutual(self) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
        """Rows of x and of y that are each other's nearest."""
        rows = torch.arange(len(self.forward), device=self.forward.device)
        kept = self.backward[self.forward] == rows
        return rows[kept], self.forward[kept]


def csls_neighbours(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim"], k: int = 10) -> Neighbours:
    r"""Nearest neighbours by CSLS, both ways; ties go to the first.

    $$\mathrm{CSLS}(x, y) = 2\cos(x, y) - r(x) - r(y), \qquad r(x) = \tfrac1k \sum_{y' \in N_k(x)} \cos(x, y')$$

    N_k(x) are the k nearest of the other side, or all of it where it has fewer. A vector of length 0 is like none.

    Args:
        x: vectors of one side; their lengths do not matter.
        y: vectors of the other.
        k: how many neighbours tell how crowded it is around a vector.

    Raises:
        TypeError: vectors that are not floating point.
        ValueError: vectors that are not matrices of one width with at least one row, k below 1.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> csls_neighbours(x, x.flip(0), k=1).forward
        tensor([1, 0])

    """
    for name, value in (("x", x), ("y", y)):
        floating(name, value)
        shaped(name, value, "rows, dim")
        if not len(value):
            raise ValueError(f"{name} must have at least one row, got shape {tuple(value.shape)}")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has vectors of width {x.shape[1]}, y of {y.shape[1]}; they must be one")
    whole("k", k, 1)
    x, y = (F.normalize(side.to(torch.promote_types(side.dtype, torch.float32)), dim=1) for side in (x, y))
    around_x, around_y = _crowd(x, y, k), _crowd(y, x, k)
    gain, forward = _nearest(x, y, around_y)
    backward_gain, backward = _nearest(y, x, around_x)
    return Neighbours(forward, backward, gain - around_x, backward_gain - around_y)


def _crowd(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Mean cosine of each row of x with its k nearest of y."""
    return torch.cat([(part @ y.mT).topk(min(k, len(y)), 1, sorted=False).values.mean(1) for part in _blocks(x, y)])


def _nearest(x: Tensor, y: Tensor, around_y: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of x the most that 2 cos − r(y) is, and where."""
    found = [torch.add(-around_y, part @ y.mT, alpha=2).max(1) for part in _blocks(x, y)]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def _blocks(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return x.split(max(1, _BLOCK // len(y)))
