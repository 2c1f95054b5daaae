"""A figure of how one thing that is measured changes along another, such as perplexity with length: a curve an arm."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from kilter.lab.delays import DASHES
from kilter.lab.layout import PAD, Key, settle
from kilter.lab.numbers import short
from kilter.lab.theme import SERIES, colour, theme, to_svg

_FAR = 4.0
"""So many times the least the greatest must be, for an axis up that is logarithmic."""


def metric_curves(
    summary: Mapping[str, Any],
    at: Mapping[float, str] | Mapping[int, str],
    *,
    across: str,
    up: str,
    log: str = "",
    mark: float | int | None = None,
) -> str:
    """The metrics of each arm along an axis, with their intervals as bands, as themed SVG.

    The baseline is grey.

    Args:
        summary: of the run.
        at: by the place on the axis across, the metric that was measured there.
        across: what the axis across is called.
        up: what the axis up is called.
        log: which axes are logarithmic: x, y, xy or neither; the axis up only where values are far apart.
        mark: a place on it that is marked, such as the length that was trained on.

    Raises:
        ValueError: no arm has any of the metrics.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    lines = {
        name: {x: found for x, key in at.items() if (found := arm["metrics"].get(key, {})).get("mean") is not None}
        for name, arm in summary["arms"].items()
    }
    lines = {name: found for name, found in lines.items() if found}
    if not lines:
        raise ValueError(f"no arm has any of {', '.join(at.values())}; metrics are {', '.join(summary['metrics'])}")
    values = [one["mean"] for found in lines.values() for one in found.values()]
    if max(values) < _FAR * min(values):
        log = log.replace("y", "")
    better = summary["metrics"][next(iter(at.values()))]["better"]
    with theme():
        fig = Figure(figsize=(6.4, 3.6))
        axes = fig.subplots()
        axes.grid(True)
        for letter in log:
            axes.set(**{f"{letter}scale": "log"})
        if mark is not None:
            axes.axvline(mark, color=colour("muted"), linewidth=1.0, dashes=(2, 2), zorder=1)
        entries, told, place = [], [], 0
        for name, found in lines.items():
            if name == summary["baseline"]:
                tint, dashes = "baseline", ()
            else:
                tint, dashes, place = SERIES[place % len(SERIES)], DASHES[place // len(SERIES) % len(DASHES)], place + 1
            look = {"linewidth": 1.6, "dashes": dashes or (None, None)}
            ink, means = colour(tint), [one["mean"] for one in found.values()]
            axes.plot([*found], means, color=ink, marker="o", markersize=3.5, mew=0, **look)
            band = [(x, one["low"], one["high"]) for x, one in found.items() if one.get("low") is not None]
            if band:  # bars of several arms would stand on each other
                places, low, high = zip(*band, strict=True)
                axes.fill_between(places, low, high, color=ink, alpha=0.13, linewidth=0)
            label = summary["arms"][name]["label"]
            entries.append((label, ink, look))
            told.append(
                f"{label}: {', '.join(f'{short(one)} at {short(x)}' for x, one in zip(found, means, strict=True))}"
            )
        hint = "(←\N{NO-BREAK SPACE}better)" if better == "lower" else "(better\N{NO-BREAK SPACE}→)"
        axes.set(xlabel=across, ylabel=f"{up}  {hint}")
        axes.xaxis.set_major_locator(FixedLocator(_apart([*map(float, at)], log="x" in log)))
        if "y" in log:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_locator(NullLocator())
        key = Key(entries, 72 * fig.get_figwidth() - 2 * PAD - Key.MARK)
        fig.set_figheight(fig.get_figheight() + key.height / 72)
        settle(fig, axes, top=key.height + 4)
        key.draw(fig, PAD, 72 * fig.get_figheight() - PAD, coloured=False)
        return to_svg(fig, title=f"{up} by {across}", description="; ".join(told))


def _apart(ticks: list[float], *, log: bool) -> list[float]:
    """Those that have room for their numbers, the last among them."""
    if log or len(ticks) < 3:
        return ticks
    least = (ticks[-1] - ticks[0]) / 12
    return [one for one, after in pairwise(ticks) if after - one >= least] + ticks[-1:]
