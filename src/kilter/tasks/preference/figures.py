"""Figures of preference tuning: what was logged by the step, and win rates against the divergence they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kilter.lab.files import read_json
from kilter.lab.recipe import Picture

_BY_STEP = {
    "reference_log_prob": ("Log-likelihood of the references", "nats per token", "How likely the model finds them."),
    "reference_advantage": (
        "Advantage of the reference",
        "advantage",
        "How much better than its group the reference is: at 0 they are as good.",
    ),
    "completions/mean_length": ("Length of the samples", "tokens", "Of the answers that are learnt from."),
}
_SHARES = ("part_exploration", "part_imitation", "part_regulariser")
Line = Sequence[tuple[float, float]]


def by_step(summary: Mapping[str, Any], run: Path) -> list[Picture]:
    """What the trainers of the first seed logged, each arm a line; and the shares of the parts of the loss."""
    logged = {arm: rows for arm in summary["arms"] if (rows := logged_of(run, arm))}
    labels = {arm: summary["arms"][arm]["label"] for arm in logged}
    found = []
    for name, (title, up, caption) in _BY_STEP.items():
        lines = {labels[arm]: line for arm, rows in logged.items() if (line := _line(rows, name))}
        if lines:
            key = name.replace("/", "-").replace("_", "-")
            found.append(Picture(key, title, f"{caption} Of the first seed.", line_plot(lines, "step", up, title)))
    for arm, rows in logged.items():
        if shares := _shares(rows):
            title = f"Parts of the loss: {labels[arm]}"
            caption = "Size of each part among that of all three, of the first seed."
            svg = line_plot(shares, "step", "share", title, bottom=0.0)
            found.append(Picture(f"parts-{arm}", title, caption, svg))
    return found[: len(_BY_STEP) + 2]


def logged_of(run: Path, arm: str) -> list[dict[str, float]]:
    """What the trainer of an arm's first seed logged."""
    for file in sorted((run / "arms" / arm).glob("seed-*/trail.json")):
        return read_json(file)["logged"]
    return []


def _line(rows: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(float(step), row[name]) for step, row in enumerate(rows, 1) if name in row]


def _shares(rows: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """The size of each part by the step, as a share of their sum."""
    there = [
        (step, {name: abs(row[name]) for name in _SHARES}) for step, row in enumerate(rows, 1) if _SHARES[0] in row
    ]
    return {
        name.removeprefix("part_"): [(float(step), row[name] / (sum(row.values()) or 1)) for step, row in there]
        for name in _SHARES
        if there
    }


def line_plot(lines: Mapping[str, Line], across: str, up: str, title: str, bottom: float | None = None) -> str:
    """A line for each name.

    Args:
        lines: points by name.
        across: what the axis across is called.
        up: what the other is.
        title: of the figure.
        bottom: where the axis up begins; by default where the lines do.
    """
    from matplotlib.figure import Figure

    from kilter.lab.delays import DASHES, TINTS
    from kilter.lab.layout import Key, settle
    from kilter.lab.numbers import short
    from kilter.lab.theme import colour, theme, to_svg

    with theme():
        fig = Figure(figsize=(7.6, 3.6))
        axes = fig.subplots()
        axes.grid(True)
        entries: list[Any] = []
        for place, (name, points) in enumerate(lines.items()):
            ink, dashes = colour(TINTS[place % len(TINTS)]), DASHES[place // len(TINTS) % len(DASHES)]
            look: dict[str, Any] = {"linewidth": 1.6, "dashes": dashes or (None, None)}
            axes.plot(*zip(*points, strict=True), color=ink, **look)
            entries.append((name, ink, look))
        axes.set(xlabel=across, ylabel=up)
        if bottom is not None:
            axes.set_ylim(bottom=bottom)
        beside_key(fig, axes, Key(entries, 190.0), settle)
        told = "; ".join(f"{name}: {short(points[0][1])} to {short(points[-1][1])}" for name, points in lines.items())
        return to_svg(fig, title=title, description=f"{up} by {across}. {told}")


def beside_key(fig: Any, axes: Any, key: Any, settle: Any) -> None:
    """Lay the plot out with its key on the right."""
    settle(fig, axes, right=key.width + 14, least=(260.0, max(180.0, key.height)))
    plot, point = axes.bbox, fig.dpi / 72
    key.draw(fig, plot.x1 / point + 14, (plot.y0 + plot.y1) / 2 / point + key.height / 2)
