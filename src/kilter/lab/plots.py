"""The figure of a comparison: every arm as a point in the plane of two metrics."""

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from kilter.lab.layout import Key, label_points, settle
from kilter.lab.numbers import estimate, short
from kilter.lab.theme import SERIES, colour, theme, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kilter.lab.layout import Note

_FEW = 8
"""So many arms at most have their names beside their points, if there is room."""
_SHAPES = "o^Dv"
_MARKERS = {"baseline": "s", "method": "o", "context": "D"}


def tradeoff(summary: Mapping[str, Any], x: str = "delay_ms", y: str = "wer") -> str:
    """Every arm that has both metrics as a point in their plane, with both intervals.

    The baseline is a square with guide lines, methods are discs, arms shown for context are hollow diamonds. Arms
    of one series are joined in the order of their strengths and labelled by them, the first by its whole name. Where
    names find no room beside their points they stand beside the plot. An `x` that is `log` has a logarithmic axis.
    """
    metrics = summary["metrics"]
    arms = {
        name: arm
        for name, arm in summary["arms"].items()
        if None not in (arm["metrics"].get(key, {}).get("mean") for key in (x, y))
    }
    if not arms:
        raise ValueError(f"no arm has both {x!r} and {y!r}; the summary's metrics are {', '.join(metrics)}")
    with theme():
        fig, fits = _plane(summary, arms, x, y, beside=len(arms) > _FEW)
        if not fits:
            fig, _ = _plane(summary, arms, x, y, beside=True)
        told = "; ".join(
            f"{arm['label']}: {short(arm['metrics'][x]['mean'])}, {short(arm['metrics'][y]['mean'])}"
            for arm in arms.values()
        )
        title = f"{metrics[y]['label']} against {metrics[x]['label'].lower()}"
        return to_svg(fig, title=title, description=f"{metrics[x]['label']}, {metrics[y]['label']}. {told}")


def _plane(
    summary: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], x: str, y: str, *, beside: bool
) -> "tuple[Figure, bool]":
    """The figure with names beside the plot or by the points, and whether there was room for them."""
    from matplotlib.figure import Figure

    metrics = summary["metrics"]
    fig = Figure(figsize=(8.4, 4.6) if beside else (4.7, 3.7))
    axes = fig.subplots()
    axes.grid(True)
    axes.margins(x=0.08 if beside else 0.32, y=0.2)
    axes.set(xlabel=_axis_label(metrics[x]), ylabel=_axis_label(metrics[y]))
    if metrics[x].get("log"):
        _log(axes)
    entries, notes = _draw_arms(axes, summary, arms, x, y, beside)
    heights = [arm["metrics"][y]["mean"] for arm in arms.values()]
    if min(heights) >= 0:  # a rate does not go below nought, and a wide interval may leave the plot
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        if beside and max(heights) > 0:
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.5 * max(heights)))
    key = Key(entries, 168.0)
    bounds = {"x": metrics[x].get("bounds"), "y": metrics[y].get("bounds")}
    if not beside:
        settle(fig, axes, bounds=bounds)
        return fig, not label_points(fig, axes, notes)
    settle(fig, axes, bounds=bounds, right=key.width + 14, least=(240.0, max(200.0, key.height)))
    label_points(fig, axes, notes)
    plot, point = axes.bbox, fig.dpi / 72
    key.draw(fig, plot.x1 / point + 14, (plot.y0 + plot.y1) / 2 / point + key.height / 2)
    return fig, True


def _log(axes: "Axes") -> None:
    """The axis across logarithmic, with ticks at 1, 10, 100, … in words of our own."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_arms(
    axes: "Axes", summary: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]], x: str, y: str, beside: bool
) -> "tuple[list[tuple[str, str, Mapping[str, Any]]], list[Note]]":
    """Points, bars and lines of every arm; returns the entries of a key, and what is to be said by the points."""
    metrics = summary["metrics"]
    series: dict[str, list[Any]] = {}
    looks = product(_SHAPES * len(arms), SERIES)
    for name, arm in arms.items():
        if (key := arm.get("series") or name) not in series:
            series[key] = [("s", "baseline") if name == summary["baseline"] else next(looks)]
        series[key].append(arm)
    entries, notes = [], []
    for (shape, tint), *members in series.values():
        along = sorted(members, key=lambda arm: float(arm.get("point") or 0))
        role, ink = along[0]["role"], colour(tint)
        mark = {"markersize": 7, "markerfacecolor": colour("page") if role == "context" else ink, "mew": 1.6}
        mark["marker"] = shape if beside else _MARKERS[role]
        middle = []
        for arm in along:
            a, *across = _extent(arm["metrics"][x], metrics[x])
            if metrics[x].get("log"):  # which has no place for an interval that reaches down to 0
                across[0] = max(across[0], a / 10)
            b, *up = _extent(arm["metrics"][y], metrics[y])
            middle.append((a, b))
            if role == "baseline":
                axes.axvline(a, color=ink, linewidth=0.8, dashes=(3, 3), zorder=1)
                axes.axhline(b, color=ink, linewidth=0.8, dashes=(3, 3), zorder=1)
            axes.plot(across, (b, b), (a, a), up, color=ink, linewidth=0.8 if beside else 1.3)
            axes.plot(a, b, color=ink, linestyle="none", **mark)
            told = arm["label"] if not beside and arm is along[0] else arm.get("point", "")
            bars = (across[0], b, across[1], b), (a, up[0], a, up[1])
            notes.append((told if not beside or len(along) > 1 else "", ink, (a, b), bars))
        axes.plot(*zip(*middle, strict=True), color=ink, linewidth=1.0, alpha=0.45, zorder=1.5)
        more = "".join(f", {arm['point']}" for arm in along[1:])
        entries.append((along[0]["label"] + more, ink, {"linestyle": "none", **mark}))
    return entries, notes


def _axis_label(metric: Mapping[str, Any]) -> str:
    better = "(←\N{NO-BREAK SPACE}better)" if metric["better"] == "lower" else "(better\N{NO-BREAK SPACE}→)"
    return f"{metric['label']}{', ' * bool(metric['unit'])}{metric['unit']}  {better}"


def _extent(found: Mapping[str, Any], metric: Mapping[str, Any]) -> list[float]:
    """Mean and the ends of its interval; the mean itself where there was nothing to take an interval over."""
    mean, low, high = estimate(found, metric)
    return [float(found["mean"] if value is None else value) for value in (mean, low, high)]
