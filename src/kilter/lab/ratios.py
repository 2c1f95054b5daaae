"""A verdict on how many times a figure is another's, where a paper promises a multiple."""

from typing import TYPE_CHECKING

from kilter.evaluation.intervals import ratio_interval

if TYPE_CHECKING:
    from kilter.lab.summary import Arms


def ratio_verdict(arms: "Arms", metric: str, arm: str, baseline: str, times: float) -> dict[str, str] | None:
    """Verdict on "`metric` of `arm` is at least `times` that of `baseline`"; None if the run cannot speak to it.

    The words are those of `kilter.lab.summary.judge`, with 1 in the place of zero; five seeds are needed to hold.
    """
    if arm not in arms.figures or baseline not in arms.figures:
        return None
    seeds = sorted(arms.figures[arm].keys() & arms.figures[baseline].keys())
    pair = arms.paired(arm, baseline, metric, seeds)
    if pair is None or not pair[1][:, 0].sum():
        return None
    found = ratio_interval(*pair)
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
