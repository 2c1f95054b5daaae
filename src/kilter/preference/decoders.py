"""What a decoder does to quantiles: the density g of its output's quantile under the policy, and its integral G.

After A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025 (calibrated procedures).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from kilter.core.checks import whole
from kilter.core.errors import suggest
from kilter.preference.unit_grid import POINTS, cumulative, interpolated, total, uniform

Named = Literal["best_of", "worst_of", "plain"]
Decoder = Named | Callable[[Tensor], Tensor]
"""A name, or g(q): the density, over quantiles q of a draw's reward under the policy, of what is put out."""

_OFF = 1e-3
"""How far the integral of a density may be from 1: a step in it is seen no better on a grid."""


@dataclass(frozen=True)
class Procedure:
    """A decoder as the formulas need it.

    Attributes:
        density: g(q), shaped as q.
        integral: G(q), from 0 to q.
        raises: whether it puts out more high quantiles than low ones, so that its transforms bend upwards.
    """

    density: Callable[[Tensor], Tensor]
    integral: Callable[[Tensor], Tensor]
    raises: bool = True


def procedure(decoder: Any, n: Any) -> Procedure:
    """The decoder by name with `n` draws, or from its density.

    Raises:
        TypeError: a decoder that is neither a name nor callable; `n` that is no whole number; g that gives no tensor of
            the shape of q.
        ValueError: an unknown name, `n` below 1, g that is negative, NaN, infinite or does not integrate to 1.
    """
    check_decoder(decoder, n)
    if decoder == "best_of":
        return Procedure(lambda q: n * q ** (n - 1), lambda q: q**n)
    if decoder == "worst_of":
        return Procedure(lambda q: n * (1 - q) ** (n - 1), lambda q: 1 - (1 - q) ** n, raises=False)
    return Procedure(torch.ones_like, lambda q: q) if decoder == "plain" else _of_density(decoder)


def check_decoder(decoder: Any, n: Any) -> None:
    """Check that a decoder is a known name or callable, and that `n` counts draws."""
    whole("n", n, 1)
    if callable(decoder):
        return
    if not isinstance(decoder, str):
        raise TypeError(f"decoder must be a name or a density g(q), got {decoder!r}")
    if decoder not in get_args(Named):
        raise ValueError(f"decoder={decoder!r} is unknown{suggest(decoder, get_args(Named))}; or give a density g(q)")


def _of_density(density: Callable[[Tensor], Tensor]) -> Procedure:
    q = uniform(POINTS)
    found = density(q)
    if not isinstance(found, Tensor) or found.shape != q.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"decoder: g(q) must be a tensor shaped like q {tuple(q.shape)}, got {got}")
    found = found.detach().double()
    if not (found.isfinite().all() and (found >= 0).all()):
        raise ValueError("decoder: g(q) must be finite and not negative for q in 0..1, since it is a density")
    mass = float(total(found))
    if abs(mass - 1) > _OFF:
        raise ValueError(f"decoder: g(q) integrates to {mass:.4g} over 0..1; divide it by that, a density has 1")
    found = found / mass
    table = cumulative(found)
    table = table / table[-1]

    def integral(q: Tensor) -> Tensor:
        return interpolated(q, table.to(q), found.to(q))

    return Procedure(lambda q: density(q.clamp(0, 1)) / mass, integral, bool(total(found * q) >= 0.5))
