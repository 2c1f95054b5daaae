"""95 % intervals: over seeds by Student's t, over examples by the paired percentile bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from kilter.core.options import whole

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; the bounds are None where one observation gives none."""

    mean: float
    low: float | None
    high: float | None


def t_interval(values: Sequence[float]) -> Interval:
    """Student's t interval of the mean of independent values, e.g. of seeds or of paired differences.

    Raises:
        ValueError: no values.

    Example:
        >>> t_interval([1.0, 2.0, 3.0])
        Interval(mean=2.0, low=-0.4841, high=4.4841)
    """
    from scipy import stats

    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data):
        raise ValueError(f"values must be one or more numbers, got shape {data.shape}")
    mean = float(data.mean())
    if len(data) < 2:
        return Interval(mean, None, None)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data)))
    return Interval(mean, mean - half, mean + half)


def ratio_bootstrap(
    totals: np.ndarray,
    against: np.ndarray | None = None,
    *,
    scale: float = 1.0,
    exp: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a ratio of sums over examples, or of the paired difference of two.

    Args:
        totals: `(examples, 2)`: each example's numerator and denominator, e.g. word errors and words.
        against: the same examples under the baseline; the interval is then of the difference.
        scale: factor on the ratio, e.g. 100 for per cent.
        exp: the figure is e to the ratio, as perplexity is to nats per token; `scale` comes after.
        draws: resamples.
        seed: of the resampling, the same for every call so that arms are resampled alike.

    Raises:
        ValueError: totals of another shape or without examples, or arms of different examples.

    Of a single example that counts there is no interval: every resample of it is the same.

    Example:
        >>> ratio_bootstrap(np.array([[1.0, 4.0], [1.0, 4.0]]), scale=100.0).mean
        25.0
        >>> ratio_bootstrap(np.array([[0.0, 1.0], [0.0, 3.0]]), exp=True)
        Interval(mean=1.0, low=1.0, high=1.0)
        >>> ratio_bootstrap(np.array([[1.0, 2.0]]))
        Interval(mean=0.5, low=None, high=None)

    Reference: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR", ICASSP 2004.
    """

    def ratio(sums: np.ndarray) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = sums[..., 0] / sums[..., 1]
            return scale * (np.exp(found) if exp else found)

    _check("totals", totals, "against", against, draws)
    picks = _picks(len(totals), draws, seed)
    centre, spread = ratio(totals.sum(0)), ratio(picks @ totals)
    if against is not None:
        centre, spread = centre - ratio(against.sum(0)), spread - ratio(picks @ against)
    if np.count_nonzero(totals[:, 1]) < 2:
        return Interval(float(centre), None, None)
    low, high = np.nanquantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(centre), float(low), float(high))


def ratio_interval(ours: np.ndarray, theirs: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Paired percentile bootstrap interval of one mean divided by another.

    Args:
        ours: `(examples, 2)` totals, numerator and denominator, as `ratio_bootstrap` has them.
        theirs: the same examples under the baseline.
        draws: resamples.
        seed: of the resampling.

    Raises:
        ValueError: totals of another shape or without examples, or arms of different examples.

    Example:
        >>> ratio_interval(np.array([[2.0, 1.0], [4.0, 1.0]]), np.array([[1.0, 1.0], [2.0, 1.0]]))
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    _check("ours", ours, "theirs", theirs, draws)
    picks = _picks(len(ours), draws, seed)

    def ratio(a: np.ndarray, b: np.ndarray) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (a[..., 0] / a[..., 1]) / (b[..., 0] / b[..., 1])

    centre = float(ratio(ours.sum(0), theirs.sum(0)))
    if np.count_nonzero(ours[:, 1]) < 2:  # every resample is the same
        return Interval(centre, None, None)
    low, high = np.nanquantile(ratio(picks @ ours, picks @ theirs), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(centre, float(low), float(high))


@lru_cache(maxsize=1)
def _picks(examples: int, draws: int, seed: int) -> np.ndarray:
    """How often each example is in each resample, `(draws, examples)`; the arms of a run are resampled alike."""
    drawn = np.random.default_rng(seed).multinomial(examples, np.full(examples, 1 / examples), size=draws)
    return drawn.astype(float)  # products of integers have no fast path


def _check(name: str, totals: np.ndarray, other: str, against: np.ndarray | None, draws: int) -> None:
    whole("draws", draws, 1)
    for what, given in ((name, totals), (other, against)):
        if given is not None and (np.ndim(given) != 2 or np.shape(given)[1] != 2 or not len(given)):
            raise ValueError(f"{what} must be (examples, 2), numerator and denominator, got shape {np.shape(given)}")
    if against is not None and len(against) != len(totals):
        raise ValueError(f"paired arms must have the same examples, got {len(totals)} and {len(against)}")
