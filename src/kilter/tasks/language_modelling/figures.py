"""What the report of language modelling shows: figures against length, the weights of domains, and the arms' losses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kilter.lab.delays import DASHES, TINTS
from kilter.lab.files import read_json
from kilter.lab.numbers import fixed
from kilter.lab.recipe import Picture
from kilter.tasks.language_modelling.judging import lengths

_KEPT = "mixture.json"
_WEIGHTS = "What the next rows are drawn by, from the start on, of the first seed; the axis up is that of all arms."
Curves = Mapping[str, Sequence[tuple[float | int, float | int]]]
_ROW = 17.0
"""Height of a bar with its distance, in points."""
_MARKS = "oD^vsPX"
_INKS = (TINTS[-1], *TINTS[:-1], "bad", "fair", "ink")
"""Of arms, the first of which is the baseline: no two alike."""
_BESIDE = 7.0
"""Height of an arm's own line in a row, in points."""
_DOTTED = "The dotted line is the length of training rows; shades are intervals."
_FIXED = 1e-6
"""Weights that move by no more have not moved."""


def remarks(summary: Mapping[str, Any], *, small: bool, longest: int, block: int) -> list[str]:
    """What the figures are, and are not."""
    notes = []
    if small:
        notes.append(
            "A token is a byte, and the model is small and trained for minutes: read the differences between arms, not "
            "the height of the perplexity."
        )
    if longest > 1:
        notes.append(
            f"Perplexity of the last tokens is that of the same {block // 4} tokens at every length, with more and "
            "more of the text before them; the other is the mean over all tokens of windows of that length."
        )
    if any(len(arm["seeds"]) > 1 for arm in summary["arms"].values()):
        notes.append("Intervals are over seeds: another start, order of texts and draw of domains.")
    return notes


def pictures(summary: Mapping[str, Any], run: Path, *, longest: int, block: int) -> list[Picture]:
    """Figures against length, weights as training went on, epochs of domains, and losses side by side."""
    from kilter.lab.curves import metric_curves

    found, known = [], summary["metrics"]
    if longest > 1:
        for metric, title, caption in (
            (
                "perplexity",
                "Perplexity against length",
                f"Of all tokens, by the length of the text that is read at once. {_DOTTED}",
            ),
            (
                "last",
                "The same tokens with more text before them",
                f"What does not fall has no use for what is farther. {_DOTTED}",
            ),
            ("lookup", "Names looked up against length", f"The name asked for stands in the first block. {_DOTTED}"),
        ):
            if at := {
                float(block * times): name for times in lengths(longest) if (name := f"{metric}_{times}x") in known
            }:
                rate = metric == "lookup"
                how: Any = {"up": "names found, %", "log": "x"} if rate else {"up": "perplexity", "log": "xy"}
                svg = metric_curves(summary, at, across="tokens", mark=float(block), **how)
                found.append(Picture(metric, title, caption, svg))
    trails = {arm: trail for arm in summary["arms"] if (trail := trail_of(run, arm))}
    labels = {arm: summary["arms"][arm]["label"] for arm in trails}
    moved = {arm: trail for arm, trail in trails.items() if _moved(trail)}
    top = max((max(row["weights"].values()) for trail in moved.values() for row in trail), default=1.0)
    for arm, trail in moved.items():
        curves = {one: [(row["step"], row["weights"][one]) for row in trail] for one in trail[0]["weights"]}
        title = f"Weights of the domains: {labels[arm]}"
        svg = curves_plot(curves, across="step", up="weight", title=title, top=top)
        found.append(Picture(f"weights-{arm}", title, _WEIGHTS, svg))
    if any(len(trail[-1]["epochs"]) > 1 for trail in trails.values()):
        epochs = {labels[arm]: trail[-1]["epochs"] for arm, trail in trails.items()}
        caption = "How often a training passed through each domain, of the first seed."
        found.append(Picture("epochs", "Epochs of every domain", caption, dots_plot(epochs, "epochs")))
    name = next((name for name in summary["metrics"] if name.endswith("loss")), None)
    if name is not None and longest == 1:
        losses = {one["label"]: one["metrics"][name] for one in summary["arms"].values() if name in one["metrics"]}
        caption = "Of text that was never learnt from, with intervals; bars do not begin at 0."
        found.append(Picture("loss", "Loss on the target", caption, bars_plot(losses, "nats per token")))
    return found


def trail_of(run: Path, arm: str) -> list[dict[str, Any]]:
    """Weights and epochs of an arm as training went on, of its first seed that kept them."""
    for file in sorted((run / "arms" / arm).glob(f"seed-*/{_KEPT}")):
        if rows := read_json(file)["rows"]:
            return rows
    return []


def epochs_said(summary: Mapping[str, Any], run: Path) -> list[str]:
    """How often each arm passed through the domain that it read most, and the one it read least."""
    said = []
    for arm, one in summary["arms"].items():
        if (trail := trail_of(run, arm)) and len(epochs := trail[-1]["epochs"]) > 1:
            least, most = min(epochs, key=epochs.__getitem__), max(epochs, key=epochs.__getitem__)
            said.append(f"{one['label']}: {most} {fixed(epochs[most], 1)} times, {least} {fixed(epochs[least], 1)}")
    return [f"Domains passed through most and least, of the first seed: {'; '.join(said)}."] * bool(said)


def _moved(trail: Sequence[Mapping[str, Any]]) -> bool:
    first = trail[0]["weights"]
    return any(abs(row["weights"][name] - first[name]) > _FIXED for row in trail for name in first)


# Drawing ----------------------------------------------------------------------------------------------------


def curves_plot(curves: Curves, *, across: str, up: str, title: str, top: float) -> str:
    """A line for each name, the axis up from 0.

    Args:
        curves: points by name.
        across: what the axis across is called.
        up: what the other is.
        title: of the figure.
        top: value up to which the axis up goes, alike in figures that are compared.
    """
    from matplotlib.figure import Figure

    from kilter.lab.layout import Key, settle
    from kilter.lab.numbers import short
    from kilter.lab.theme import colour, theme, to_svg

    with theme():
        fig = Figure(figsize=(7.6, 3.6))
        axes = fig.subplots()
        axes.grid(True)
        entries: list[Any] = []
        for place, (name, points) in enumerate(curves.items()):
            ink = colour(TINTS[place % len(TINTS)])
            look: dict[str, Any] = {
                "linewidth": 1.6,
                "dashes": DASHES[place // len(TINTS) % len(DASHES)] or (None, None),
            }
            look |= {"marker": _MARKS[place % len(_MARKS)], "markersize": 5} if len(points) < 12 else {}
            axes.plot(*zip(*points, strict=True), color=ink, **look)
            entries.append((name, ink, look))
        axes.set(xlabel=across, ylabel=up, ylim=(0, 1.05 * top))
        key = Key(entries, 190.0)
        settle(fig, axes, right=key.width + 14, least=(260.0, max(180.0, key.height)))
        _draw_key(fig, axes, key)
        told = "; ".join(f"{name}: {short(points[0][1])} to {short(points[-1][1])}" for name, points in curves.items())
        return to_svg(fig, title=title, description=f"{up} by {across}. {told}")


def dots_plot(values: Mapping[str, Mapping[str, float]], across: str) -> str:
    """A row for each thing, in which each arm has a mark at its value, one below the other.

    Args:
        values: by arm, and by what has a row.
        across: what the values are.
    """
    from matplotlib.figure import Figure

    from kilter.lab.layout import Key, settle
    from kilter.lab.numbers import short
    from kilter.lab.theme import colour, theme, to_svg

    rows = [*dict.fromkeys(name for one in values.values() for name in one)]
    with theme():
        tall = len(rows) * max(_ROW, _BESIDE * (len(values) + 1))
        fig = Figure(figsize=(7.6, (tall + 60) / 72))
        axes = fig.subplots()
        axes.grid(True, axis="x")
        for place in range(1, len(rows)):
            axes.axhline(place - 0.5, color=colour("grid"), linewidth=1.0)
        entries: list[Any] = []
        for place, (arm, one) in enumerate(values.items()):
            ink, below = colour(_INKS[place % len(_INKS)]), (place + 1) / (len(values) + 1) - 0.5
            look = {"linestyle": "none", "marker": _MARKS[place % len(_MARKS)], "markersize": 5}
            axes.plot([*one.values()], [rows.index(name) + below for name in one], color=ink, **look)
            entries.append((arm, ink, look))
        axes.set(ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)), xlabel=across)
        axes.set_yticklabels(rows)
        axes.set_xlim(left=0)
        key = Key(entries, 190.0)
        settle(fig, axes, right=key.width + 14, least=(240.0, max(tall, key.height)))
        _draw_key(fig, axes, key)
        told = "; ".join(
            f"{arm}: {', '.join(f'{n} {short(v)}' for n, v in one.items())}" for arm, one in values.items()
        )
        return to_svg(fig, title=across, description=told)


def bars_plot(values: Mapping[str, Mapping[str, Any]], across: str) -> str:
    """A bar for each arm, with its interval.

    Args:
        values: by arm, `mean`, and `low` and `high` or None.
        across: what the values are.
    """
    from matplotlib.figure import Figure

    from kilter.lab.layout import settle
    from kilter.lab.numbers import short
    from kilter.lab.theme import colour, theme, to_svg

    arms, means = [*values], [one["mean"] for one in values.values()]
    ends = [(one["low"] or one["mean"], one["high"] or one["mean"]) for one in values.values()]
    least, most = min(low for low, _ in ends), max(high for _, high in ends)
    left = max(0.0, least - 0.25 * (most - least or most))
    with theme():
        fig = Figure(figsize=(6.4, (len(arms) * _ROW + 60) / 72))
        axes = fig.subplots()
        axes.grid(True, axis="x")
        inks = [colour("baseline" if place == 0 else "series-1") for place in range(len(arms))]
        axes.barh(range(len(arms)), [mean - left for mean in means], left=left, height=0.62, color=inks, alpha=0.55)
        for place, (low, high) in enumerate(ends):
            axes.plot([low, high], [place, place], color=colour("ink"), linewidth=1.3)
        axes.set(ylim=(len(arms) - 0.5, -0.5), yticks=range(len(arms)), xlabel=f"{across}  (←\N{NO-BREAK SPACE}better)")
        axes.set_yticklabels(arms)
        axes.set_xlim(left, most + 0.05 * (most - left))
        settle(fig, axes, least=(240.0, len(arms) * _ROW))
        told = "; ".join(f"{arm}: {short(mean)}" for arm, mean in zip(arms, means, strict=True))
        return to_svg(fig, title=across, description=told)


def _draw_key(fig: Any, axes: Any, key: Any) -> None:
    plot, point = axes.bbox, fig.dpi / 72
    key.draw(fig, plot.x1 / point + 14, (plot.y0 + plot.y1) / 2 / point + key.height / 2)
