"""Numerics on a uniform grid of [0, 1]: integrals of the sixth order, interpolation, and a grid finer at its ends."""

import torch
from jaxtyping import Float
from torch import Tensor

POINTS = 4001
"""Of the grids that are made here."""

FEWEST = 6
"""Points that a rule of the sixth order takes."""

_INSIDE = 11.0, -93.0, 802.0, 802.0, -93.0, 11.0
_ENDS = (475.0, 1427.0, -798.0, 482.0, -173.0, 27.0), (-27.0, 637.0, 1022.0, -258.0, 77.0, -11.0)
_OVER = 1440


def cumulative(values: Float[Tensor, "*lead points"]) -> Float[Tensor, "*lead points"]:
    """Integrals from 0 to each point of what is given on a uniform grid of [0, 1].

    Between two points it is that of the polynomial through the nearest six; the error falls with the sixth power of
    the spacing.
    """
    ends = values.new_tensor(_ENDS)
    inside = values.unfold(-1, FEWEST, 1) @ values.new_tensor(_INSIDE)
    first, last = (part @ ends.T for part in (values[..., :FEWEST], values[..., -FEWEST:].flip(-1)))
    steps = torch.cat([torch.zeros_like(first[..., :1]), first, inside, last.flip(-1)], -1)
    return steps.cumsum(-1) / (_OVER * (values.shape[-1] - 1))


def total(values: Float[Tensor, "*lead points"]) -> Float[Tensor, "*lead"]:
    """The integral over [0, 1] by the same rule."""
    return cumulative(values)[..., -1]


def uniform(points: int = POINTS) -> Float[Tensor, " points"]:
    """The grid itself."""
    return torch.linspace(0, 1, points, dtype=torch.float64)


def graded(points: int = POINTS) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """Places in [0, 1] that crowd at both ends, and their derivative by a uniform parameter.

    An integral over the places is `total` of the integrand times the derivative, and sees peaks far narrower than the
    spacing of a uniform grid.
    """
    s = uniform(points)
    return s**3 * (10 - 15 * s + 6 * s**2), 30 * (s * (1 - s)) ** 2


def parameter(places: Float[Tensor, "*lead"]) -> Float[Tensor, "*lead"]:
    """The uniform parameter of places in [0, 1], by halving the interval."""
    low, high = torch.zeros_like(places), torch.ones_like(places)
    for _ in range(60):
        s = (low + high) / 2
        beyond = s**3 * (10 - 15 * s + 6 * s**2) > places
        low, high = torch.where(beyond, low, s), torch.where(beyond, s, high)
    return high


def interpolated(
    where: Float[Tensor, "*lead"], values: Float[Tensor, " points"], slopes: Float[Tensor, " points"]
) -> Float[Tensor, "*lead"]:
    """Values between those of a uniform grid, by cubics that meet the slopes too; beyond the ends they go on."""
    cells = len(values) - 1
    at = (where.detach() * cells).floor().long().clamp(0, cells - 1)
    t = where * cells - at
    low, high, rise, fall = values[at], values[at + 1], slopes[at] / cells, slopes[at + 1] / cells
    return low + t * (rise + t * (3 * (high - low) - 2 * rise - fall + t * (rise + fall - 2 * (high - low))))
