"""What a policy wins at which divergence, of densities over calibrated rewards; no model is needed.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import first, floating, positive, readable
from kilter.preference.decoders import Decoder, Procedure, procedure
from kilter.preference.unit_grid import FEWEST, cumulative, graded, total, uniform

_OFF = 1e-3


def tilt(phi: Float[Tensor, "*lead points"], beta: float | int) -> Float[Tensor, "*lead points"]:
    r"""The density over calibrated rewards of the policy that a transformed reward leads to.

    $$f(u) = e^{\Phi(u) / \beta} \Big/ \int_0^1 e^{\Phi(v) / \beta}\,dv$$

    The base model has f = 1, whatever the prompt and the reward, where no rewards tie.

    Args:
        phi: Φ at points that lie evenly in [0, 1], both ends among them; −inf is where nothing is wanted. A
            peak narrower than some points is not seen: 4001 are right to 1e-6 while Φ/β rises by 0.1 between two.
        beta: β, the weight of KL(policy || base).

    Returns:
        f at the same points, float64.

    Raises:
        TypeError: `phi` is not floating point.
        ValueError: fewer than six points, `beta` out of range; on the CPU also NaN, +inf, or −inf alone.

    Example:
        >>> tilt(torch.log(torch.linspace(0, 1, 6)), beta=1 / 3)  # best-of-4 of the base: 4 u³
        tensor([0.0000, 0.0320, 0.2560, 0.8640, 2.0480, 4.0000], dtype=torch.float64)

    Reference: Balashankar et al., ICML 2025.
    """
    _on_grid("phi", phi)
    positive("beta", beta)
    top = phi.detach().double().amax(-1, keepdim=True)
    if readable(phi) and not top.isfinite().all():
        raise ValueError("phi holds NaN, +inf or a row of -inf alone; give finite values, -inf where nothing is wanted")
    mass = ((phi.double() - top) / beta).exp()
    return mass / total(mass)[..., None]


def win_rate(density: Float[Tensor, "*lead points"], decoder: Decoder = "plain", n: int = 4) -> Float[Tensor, "*lead"]:
    r"""How often a policy wins against the base, both behind one decoder; ties count ½.

    $$W = 1 - \int_0^1 G(F(u))\,g(u)\,du$$

    with F the integral of the density, g(q) the density of the decoder over quantiles and G its integral: best of n has
    g = n qⁿ⁻¹, worst of n has n (1−q)ⁿ⁻¹, plain sampling 1.

    Args:
        density: f of the policy over calibrated rewards, at points that lie evenly in [0, 1]; see `tilt`.
        decoder: `best_of`, `worst_of`, `plain`, or g: a function of a tensor of quantiles that integrates to 1.
        n: draws of `best_of` and `worst_of`.

    Returns:
        W within 0..1, float64.

    Raises:
        TypeError: `density` is not floating point, `n` no whole number, g that gives no tensor.
        ValueError: fewer than six points, an unknown decoder, `n` below 1, g that is none; on the CPU also a density
            that is negative, NaN or does not integrate to 1.

    Example:
        >>> u = torch.linspace(0, 1, 101)
        >>> win_rate(4 * u**3)  # best-of-4 against the base
        tensor(0.8000, dtype=torch.float64)
        >>> win_rate(torch.ones(101), "best_of", 4)
        tensor(0.5000, dtype=torch.float64)

    Reference: Balashankar et al., ICML 2025.
    """
    density = _density(density)
    kind = procedure(decoder, n)
    below = cumulative(density).clamp(0, 1)
    u = uniform(density.shape[-1]).to(density.device)
    return 1 - total(kind.integral(below) * kind.density(u))


def density_kl(density: Float[Tensor, "*lead points"]) -> Float[Tensor, "*lead"]:
    r"""KL(policy || base) of a policy with this density over calibrated rewards, in nats.

    $$\mathrm{KL} = \int_0^1 f(u) \log f(u)\,du$$

    Args:
        density: f at points that lie evenly in [0, 1]; see `tilt`.

    Returns:
        Nats, float64.

    Raises:
        TypeError: `density` is not floating point.
        ValueError: fewer than six points; on the CPU also a density that is negative, NaN or does not integrate to 1.

    Example:
        >>> density_kl(4 * torch.linspace(0, 1, 1001) ** 3)  # log 4 − 3/4
        tensor(0.6363, dtype=torch.float64)

    Reference: Balashankar et al., ICML 2025.
    """
    density = _density(density)
    return total(torch.xlogy(density, density))


class Point(NamedTuple):
    """What a policy wins, and how far it is from the base."""

    win_rate: float
    kl: float


def graded_point(phi: Float[Tensor, " points"], beta: float, decoder: Procedure) -> Point:
    """Of the policy that a transform on a graded grid leads to, which sees narrow peaks at both ends."""
    u, spacing = graded(len(phi))
    log_density = (phi - phi.max()) / beta
    log_density = log_density - total(log_density.exp() * spacing).log()
    mass = log_density.exp() * spacing
    below = cumulative(mass).clamp(0, 1)
    kl = total(torch.where(mass > 0, mass * log_density, 0))
    return Point(float(1 - total(decoder.integral(below) * decoder.density(u) * spacing)), float(kl))


def _on_grid(name: str, values: Any) -> None:
    floating(name, values)
    if values.ndim == 0 or values.shape[-1] < FEWEST:
        raise ValueError(f"{name} must be (…, points) with {FEWEST} points at least, got shape {tuple(values.shape)}")


def _density(density: Any) -> Float[Tensor, "*lead points"]:
    """In double precision, once it is sure that it is one."""
    _on_grid("density", density)
    density = density.double()
    if not readable(density):
        return density
    if first(~(density >= 0) | density.isinf()):
        raise ValueError("density holds a value that is negative, NaN or infinite; tilt(phi, beta) makes one")
    mass = total(density.detach())
    if at := first(((mass - 1).abs() > _OFF)[None]):
        raise ValueError(
            f"density integrates to {float(mass[tuple(at[1:])]):.4g} over 0..1; divide it by that, or use "
            "tilt(phi, beta)"
        )
    return density
