"""Numerics on a uniform grid of [0, 1]: integrals of the fourth order, interpolation, and a grid finer at its ends."""

import torch
from jaxtyping import Float
from torch import Tensor

POINTS = 4001
"""Of the grids that are made here."""

FEWEST = 4
"""Points that a rule of the fourth order takes."""


def cumulative(values: Float[Tensor, "*lead points"]) -> Float[Tensor, "*lead points"]:
    """Integrals from 0 to each point of what is given on a uniform grid of [0, 1].

    Between two points it is that of the cubic through the nearest four; the error falls with the fourth power of the
    spacing.
    """
    inside = 13 * (values[..., 1:-2] + values[..., 2:-1]) - values[..., :-3] - values[..., 3:]
    ends = values.new_tensor([9.0, 19.0, -5.0, 1.0])
    first, last = ((part * ends).sum(-1, keepdim=True) for part in (values[..., :4], values[..., -4:].flip(-1)))
    steps = torch.cat([torch.zeros_like(first), first, inside, last], -1)
    return steps.cumsum(-1) / (24 * (values.shape[-1] - 1))


def total(values: Float[Tensor, "*lead points"]) -> Float[Tensor, "*lead"]:
    """The integral over [0, 1] by the same rule."""
    return cumulative(values)[..., -1]


def uniform(points: int = POINTS) -> Float[Tensor, " points"]:
    """The grid itself."""
    return torch.linspace(0, 1, points, dtype=torch.float64)


def graded() -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """Places in [0, 1] that crowd at both ends, and their derivative by a uniform parameter.

    An integral over the places is `total` of the integrand times the derivative, and sees peaks far narrower than the
    spacing of a uniform grid.
    """
    s = uniform()
    return s**3 * (10 - 15 * s + 6 * s**2), 30 * (s * (1 - s)) ** 2


def interpolated(
    where: Float[Tensor, "*lead"], values: Float[Tensor, " points"], slopes: Float[Tensor, " points"]
) -> Float[Tensor, "*lead"]:
    """Values between those of a uniform grid, by cubics that meet the slopes too; beyond the ends they go on."""
    cells = len(values) - 1
    at = (where.detach() * cells).floor().long().clamp(0, cells - 1)
    t = where * cells - at
    low, high, rise, fall = values[at], values[at + 1], slopes[at] / cells, slopes[at + 1] / cells
    return low + t * (rise + t * (3 * (high - low) - 2 * rise - fall + t * (rise + fall - 2 * (high - low))))
