"""What a transform buys at a divergence, without a model, and the constant that an offline loss takes from it.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
"""

import math
from collections.abc import Callable
from functools import partial

from kilter.core.checks import positive
from kilter.preference.decoders import Decoder, procedure
from kilter.preference.fixed_point import fixed_point
from kilter.preference.reward_transform import Transform, check_transform, reward_transform
from kilter.preference.unit_grid import graded, total
from kilter.preference.win_rate_curves import Point, graded_point

_MOST = 10.0
"""Nats up to which peaks are seen on the grid."""

_BETAS = 1e-10, 1e10

_UNSEEN = 1e-2
"""Share of an integral that may hang on every other point."""


def win_rate_at_kl(
    kl: float | int,
    kind: Transform = "exp",
    *,
    decoder: Decoder = "best_of",
    n: int = 4,
    rate: float | int = 10.0,
) -> tuple[float, float]:
    """The win rate behind a decoder that a transform reaches at a divergence from the base, and the beta it takes.

    It holds for every prompt and every reward without ties, and for the optimum of the training.

    Args:
        kl: KL(policy || base) in nats, up to 10.
        kind: the transform, normalised; see `reward_transform`. Of `fixed_point` no other wins more.
        decoder: see `win_rate`.
        n: draws of `best_of` and `worst_of`.
        rate: of `exp`.

    Returns:
        The win rate, and the β at which training with this transform ends there.

    Raises:
        TypeError: `kl` that is no number, options of another type.
        ValueError: a divergence out of reach, an unknown kind or decoder, an option out of range.

    Example:
        >>> won, beta = win_rate_at_kl(0.3701, "identity"), win_rate_at_kl(0.3701, "exp")
        >>> round(won[0], 4), round(beta[0], 4)
        (0.7685, 0.8393)

    Reference: Balashankar et al., ICML 2025.
    """
    positive("kl", kl)
    check_transform(kind, decoder, n=n, rate=rate, beta=1.0, normalize=True)
    if kl > _MOST:
        raise ValueError(f"kl={kl} is out of reach, which ends at {_MOST} nats; the curves are flat there")
    at = partial(_best, decoder, n) if kind == "fixed_point" else partial(_point, kind, decoder, n, rate)
    beta = _solve(at, float(kl))
    return at(beta).win_rate, beta


def log_partition(
    kind: Transform = "exp",
    beta: float | int = 0.1,
    *,
    decoder: Decoder = "best_of",
    n: int = 4,
    rate: float | int = 10.0,
    normalize: bool = True,
) -> float:
    r"""The constant log Z of the optimal policy, which no prompt changes where rewards do not tie.

    $$\log Z = \log \int_0^1 e^{\Phi(u) / \beta}\,du$$

    Closed forms where there are some: $\log \beta(e^{1/\beta} - 1)$ of `identity`,
    $\log \frac{\beta}{1 + \beta}$ of `log`.

    Args:
        kind: the transform; see `reward_transform`.
        beta: β, the weight of KL(policy || base).
        decoder: see `win_rate`.
        n: draws of `best_of` and `worst_of`.
        rate: of `exp`.
        normalize: as of `reward_transform`.

    Returns:
        log Z.

    Raises:
        TypeError: options of another type.
        ValueError: an unknown kind or decoder, an option out of range, `beta` too small for a peak to be seen, a
            fixed point that does not converge.

    Example:
        >>> round(log_partition("identity", 0.1), 4), round(log_partition("log", 1 / 3), 4)
        (7.6974, -1.3863)

    Reference: Balashankar et al., ICML 2025; Matrenok et al., 2025, arXiv 2507.08068, for its use in a loss.
    """
    positive("beta", beta)
    check_transform(kind, decoder, n=n, rate=rate, beta=beta, normalize=normalize)
    if kind == "identity":
        return 1 / beta + math.log(-beta * math.expm1(-1 / beta))
    if kind == "log":
        return math.log(beta / (1 + beta))
    u, spacing = graded()
    phi = reward_transform(u, kind, decoder=decoder, n=n, rate=rate, beta=beta, normalize=normalize)
    mass = ((phi - phi.max()) / beta).exp() * spacing
    found, coarse = float(total(mass)), float(total(mass[::2]))
    if not abs(coarse - found) < _UNSEEN * found:
        raise ValueError(
            f"beta={beta} is too small for {kind}: its peak is narrower than can be seen; use a larger one"
        )
    return float(phi.max() / beta) + math.log(found)


def _point(kind: Transform, decoder: Decoder, n: int, rate: float | int, beta: float) -> Point:
    phi = reward_transform(graded()[0], kind, decoder=decoder, n=n, rate=rate)
    return graded_point(phi, beta, procedure(decoder, n))


def _best(decoder: Decoder, n: int, beta: float) -> Point:
    found = fixed_point(decoder, n, beta)
    if not found.converged:
        raise ValueError(f"kl is out of reach: the fixed point does not converge at beta={beta:.3g} with n={n}")
    return Point(found.win_rate, found.kl)


def _solve(at: Callable[[float], Point], kl: float) -> float:
    """The beta at which the divergence is `kl`, by secants of its logarithm over that of beta, kept in a bracket."""

    def excess(log_beta: float) -> float:
        return math.log(max(at(math.exp(log_beta)).kl, 1e-300) / kl)

    low = high = 0.0
    over = under = excess(0.0)
    while over < 0:
        low, high, under = low - 1, low, over
        if math.exp(low) < _BETAS[0]:
            raise ValueError(f"kl={kl} is out of reach: this transform ends at {at(_BETAS[0]).kl:.3g} nats")
        over = excess(low)
    while under > 0:
        low, high, over = high, high + 1, under
        if math.exp(high) > _BETAS[1]:
            raise ValueError(f"kl={kl} is out of reach: it is too small to be told from 0")
        under = excess(high)
    side = 0
    while high - low > 1e-12 and over != under:
        middle = (low * under - high * over) / (under - over)
        found = excess(middle)
        if abs(found) < 1e-11:
            return math.exp(middle)
        if found > 0:
            low, over, under, side = middle, found, under / 2 if side > 0 else under, 1
        else:
            high, under, over, side = middle, found, over / 2 if side < 0 else over, -1
    return math.exp((low + high) / 2)
