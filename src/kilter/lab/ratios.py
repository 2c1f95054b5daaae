"""A verdict on how many times a figure is another's, where a paper promises a multiple."""

from typing import TYPE_CHECKING, Any

import numpy as np

from kilter.evaluation.intervals import LEVEL, Interval

if TYPE_CHECKING:
    from kilter.lab.summary import Arms


def ratio_interval(ours: np.ndarray, theirs: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """Paired percentile bootstrap interval of one mean divided by another.

    Args:
        ours: `(examples, 2)` totals, numerator and denominator, as `kilter.evaluation.intervals` has them.
        theirs: the same examples under the baseline.
        draws: resamples.
        seed: of the resampling.

    Example:
        >>> ratio_interval(np.array([[2.0, 1.0], [4.0, 1.0]]), np.array([[1.0, 1.0], [2.0, 1.0]]))
        Interval(mean=2.0, low=2.0, high=2.0)
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired arms must have the same examples, got {len(ours)} and {len(theirs)}")
    picks = np.random.default_rng(seed).multinomial(len(ours), np.full(len(ours), 1 / len(ours)), size=draws)

    def ratio(a: np.ndarray, b: np.ndarray) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (a[..., 0] / a[..., 1]) / (b[..., 0] / b[..., 1])

    low, high = np.nanquantile(ratio(picks @ ours, picks @ theirs), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(ratio(ours.sum(0), theirs.sum(0))), float(low), float(high))


def ratio_verdict(arms: "Arms", metric: str, arm: str, baseline: str, times: float) -> dict[str, str] | None:
    """Verdict on "`metric` of `arm` is at least `times` that of `baseline`"; None if the run cannot speak to it.

    The words are those of `kilter.lab.summary.judge`, with 1 in the place of zero; five seeds are needed to hold.
    """
    if arm not in arms.figures or baseline not in arms.figures:
        return None
    seeds = sorted(arms.figures[arm].keys() & arms.figures[baseline].keys())
    ours, theirs = arms.pooled(arm, metric, seeds), arms.pooled(baseline, metric, seeds)
    if ours is None or theirs is None or not theirs[:, 0].sum():
        return None
    found = ratio_interval(ours, theirs)
    low, high = float(found.low or 0), float(found.high or 0)
    if high < 1:
        verdict = "contradicted"
    elif low <= 1:
        verdict = "not seen here"
    else:
        verdict = "holds" if low >= times and len(seeds) >= 5 else "holds in direction"
    label = arms.metrics[metric].label
    return {
        "claim": f"{label} of {arm} at least {times:g} times those of {baseline}",
        "verdict": verdict,
        "why": f"×{found.mean:.2f} [{low:.2f}, {high:.2f}]; {len(seeds)} seed{'s' * (len(seeds) != 1)}",
    }
