"""The best transform there is for a decoder at a given weight of the KL: policy and transform are each other's answer.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792. The
equation was derived anew from the problem; Anderson extrapolation and the way by larger beta are ours.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import positive, whole
from kilter.preference.decoders import Decoder, procedure
from kilter.preference.extrapolation import annealed
from kilter.preference.unit_grid import FEWEST, POINTS, cumulative, graded, interpolated, parameter, uniform
from kilter.preference.win_rate_curves import graded_point, tilt

_STEEPEST = 0.5
"""By how much the masses of two neighbouring cells may differ; an edge that falls by e in one cell reaches 0.63."""


@dataclass(frozen=True)
class FixedPoint:
    """What `fixed_point` found.

    Attributes:
        phi: Φ at points that lie evenly in [0, 1], float64; 0 at u = 0, of `worst_of` and its like at u = 1.
        density: f of the policy at the same points, `tilt(phi, beta)`.
        win_rate: W of that policy, behind the decoder; like `kl` from places that crowd where the density is steep.
        kl: its divergence from the base, in nats.
        iterations: steps taken.
        converged: whether a further step changes Φ by less than `tol` everywhere, and the grid is fine enough for the
            steepest part of the density. If not, nothing here is the optimum.
    """

    phi: Float[Tensor, " points"]
    density: Float[Tensor, " points"]
    win_rate: float
    kl: float
    iterations: int
    converged: bool


def fixed_point(
    decoder: Decoder = "best_of",
    n: int = 4,
    beta: float | int = 0.1,
    *,
    grid: int = POINTS,
    tol: float = 1e-10,
    max_iter: int = 2000,
) -> FixedPoint:
    r"""The transform Φ whose policy is the best there is behind a decoder: it maximises W − β KL.

    $$\Phi'(u) = g(F(u))\,g(u), \qquad f \propto e^{\Phi / \beta}, \qquad F(u) = \int_0^u f$$

    With large β, F(u) = u, and for best of n, Φ = n²/(2n−1) u²ⁿ⁻¹. Smaller β are reached by way of larger ones, each
    iteration damped and extrapolated.

    Args:
        decoder: `best_of`, `worst_of`, `plain`, or g; see `win_rate`.
        n: draws of `best_of` and `worst_of`.
        beta: β, the weight of KL(policy || base).
        grid: points in [0, 1].
        tol: largest change of Φ that counts as none.
        max_iter: steps after which the search is given up.

    Returns:
        `FixedPoint`. Look at `converged`: of 32 draws or more with small β the iteration may fail.

    Raises:
        TypeError: `n`, `grid` or `max_iter` that is no whole number, g that gives no tensor.
        ValueError: an unknown decoder, an option out of range, g that is no density.

    Example:
        >>> found = fixed_point("best_of", 4, beta=0.1)
        >>> found.converged, round(found.win_rate, 5), round(found.kl, 4)
        (True, 0.93117, 0.8909)

    Reference: Balashankar et al., ICML 2025.
    """
    kind = procedure(decoder, n)
    positive("beta", beta)
    whole("grid", grid, FEWEST)
    positive("tol", tol)
    whole("max_iter", max_iter, 1)
    places, spacing = graded(grid)  # the density may be far steeper at its ends than an even grid can follow
    out = kind.density(places) * spacing

    def rises(phi: Tensor, at: float) -> Tensor:
        below = cumulative(((phi - phi.amax(-1, keepdim=True)) / at).exp() * spacing)
        return kind.density((below / below[..., -1:]).clamp(0, 1)) * out

    flat = cumulative(kind.density(places) * out)[None]
    highest = max(1.0, float(kind.density(places).max()) / 8)
    found = annealed(lambda *at: cumulative(rises(*at)), flat, float(beta), highest, tol=tol, max_iter=max_iter)
    won, kl = graded_point(found.values[0], float(beta), kind)
    phi = interpolated(parameter(uniform(grid)), found.values[0], rises(found.values[0], float(beta)))
    phi = phi if kind.raises else phi - phi[-1]
    density = tilt(phi, beta)
    seen = float(density.diff().abs().max()) / (grid - 1) < _STEEPEST
    return FixedPoint(phi, density, won, kl, found.iterations, bool(found.converged) and seen)
