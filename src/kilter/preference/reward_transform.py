"""What a calibrated reward is turned into, so that the tuned policy is right for the decoder that it will stand behind.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
Departures: exponentials run from 0 to 1, so that beta keeps its meaning; powers of u, the limit for large beta.
"""

import math
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import first, floating, one_of, positive, readable, share
from kilter.preference.decoders import Decoder, procedure
from kilter.preference.fixed_point import fixed_point
from kilter.preference.unit_grid import cumulative, interpolated, uniform

Transform = Literal["exp", "identity", "log", "poly", "fixed_point"]

_LARGEST = math.log(torch.finfo(torch.float32).max)


def reward_transform(
    u: Float[Tensor, "*lead"],
    kind: Transform = "exp",
    *,
    decoder: Decoder = "best_of",
    n: int = 4,
    rate: float | int = 10.0,
    beta: float | int | None = None,
    normalize: bool = True,
    floor: float | int = 0.0,
) -> Float[Tensor, "*lead"]:
    r"""Φ(u) of calibrated rewards: the reward that KL-regularised training is to be given.

    | kind | Φ(u), for best of n | for worst of n | |
    |---|---|---|---|
    | `exp` | $e^{tu}$ | $-e^{-tu}$ | near the best there is |
    | `poly` | $u^{2n-1}$ | $-(1-u)^{2n-1}$ | the best there is for large β |
    | `fixed_point` | [`fixed_point`][kilter.preference.fixed_point] | the same | the best there is at β |
    | `identity` | u | u | the best there is without a decoder |
    | `log` | log u | log u | with β = 1/(n−1) the policy that samples as best of n does |

    Args:
        u: win probabilities against the base model, within 0..1; see `calibrate`. NaN stays NaN.
        kind: which.
        decoder: what the policy will stand behind; `plain` has the signs of `best_of`, and n = 1. A density g has the
            signs of what it puts out more of, high quantiles or low ones.
        n: draws of `best_of` and `worst_of`.
        rate: t; larger for more draws (published: 5 for two, 10 for four).
        beta: β of the training, for `fixed_point` alone. It is solved once.
        normalize: let `exp` and `poly` run from 0 to 1: β is then of that size too.
        floor: the smallest u of `log`, which else is −inf at 0; 1/(2K) of K references.

    Returns:
        Φ(u), at least float32.

    Raises:
        TypeError: `u` is not floating point, an option of another type.
        ValueError: an unknown kind or decoder, an option out of range, `fixed_point` without `beta` or where it does
            not converge, `poly` of a density; on the CPU also u outside 0..1.

    Example:
        >>> u = torch.tensor([0.0, 0.5, 0.9, 1.0])
        >>> reward_transform(u)
        tensor([0.0000, 0.0067, 0.3678, 1.0000])
        >>> reward_transform(u, decoder="worst_of", rate=5)
        tensor([0.0000, 0.9241, 0.9956, 1.0000])
        >>> reward_transform(u, "log", floor=1 / 200)
        tensor([-5.2983, -0.6931, -0.1054,  0.0000])

    Reference: Balashankar et al., ICML 2025.
    """
    check_transform(kind, decoder, n=n, rate=rate, beta=beta, normalize=normalize)
    share("floor", floor)
    floating("u", u)
    if readable(u) and (at := first((u < 0) | (u > 1))):
        raise ValueError(f"u holds {float(u[tuple(at)]):.7g}, outside 0..1; calibrate the rewards first")
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    if kind == "identity":
        return u
    if kind == "log":
        return u.clamp(min=floor).log()
    if kind == "fixed_point":
        assert beta is not None
        itself = decoder if isinstance(decoder, str) else decoder.__call__  # told apart by identity, hashable or not
        return interpolated(u, *(part.to(u) for part in _solved(itself, n, float(beta))))
    up = decoder in ("best_of", "plain") or (decoder != "worst_of" and procedure(decoder, n).raises)
    if kind == "poly":
        power = 1 if decoder == "plain" else 2 * n - 1
        return u**power if up else int(normalize) - (1 - u) ** power
    if not normalize:
        return (rate * u).exp() if up else -(-rate * u).exp()
    part = torch.expm1(-rate * u) / math.expm1(-rate)
    return (rate * (u - 1)).exp() * part if up else part


def check_transform(kind: Any, decoder: Any, *, n: Any, rate: Any, beta: Any, normalize: Any) -> None:
    """Check the options of a transform; `normalize` may be anything that is true or false."""
    one_of("kind", kind, Transform)
    procedure(decoder, n)
    positive("rate", rate)
    if beta is not None:
        positive("beta", beta)
    if kind == "fixed_point" and beta is None:
        raise ValueError("fixed_point needs beta, the weight of the KL that the policy is trained with; give beta=…")
    if kind == "poly" and callable(decoder):
        raise ValueError("poly is for best_of and worst_of, decoder is a density; use fixed_point, with its beta")
    if kind == "exp" and not normalize and rate > _LARGEST:
        raise ValueError(f"rate={rate} overflows without normalize, which begins at {_LARGEST:.0f}; use normalize=True")


@lru_cache(32)
def _solved(decoder: Decoder, n: int, beta: float) -> tuple[Tensor, Tensor]:
    """Φ of the fixed point on a uniform grid, and its slopes."""
    found = fixed_point(decoder, n, beta)
    if not found.converged:
        raise ValueError(f"fixed_point does not converge at beta={beta} with n={n}; use a larger beta, or kind='exp'")
    kind = procedure(decoder, n)
    return found.phi, kind.density(cumulative(found.density).clamp(0, 1)) * kind.density(uniform())
