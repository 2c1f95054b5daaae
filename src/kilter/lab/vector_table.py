"""What `kilter embeddings` prints: figures of vectors side by side, what good ones look like, and what one could do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilter.lab.numbers import NOTHING, Bounds, fixed

if TYPE_CHECKING:
    from kilter.evaluation.intervals import Interval

NARROW, FEW, MISSED = 0.3, 0.25, 0.95
"""From which mean cosine, below which share of the directions, and below which share of hits there is advice."""


@dataclass(frozen=True)
class Row:
    """How the table shows a figure: label, digits, where it can lie, and what a good value looks like."""

    label: str
    digits: int
    bounds: Bounds
    good: str


ROWS = {
    "mean_cosine": Row(
        "mean cosine", 3, (-1, 1), "near 0. Towards 1 all texts lie in a narrow cone, and cosines hardly differ"
    ),
    "uniformity": Row("uniformity", 2, (None, 0), "low: −4 is a sphere that is filled evenly, 0 one point"),
    "effective_rank": Row(
        "effective rank",
        1,
        (1, None),
        "many of the directions. Compare models on the same texts: more texts, more of it",
    ),
    "isotropy": Row("isotropy", 3, (0, 1), "near 1: no direction is favoured; 0.135 is one direction only"),
    "sts": Row("STS Spearman, %", 1, (-100, 100), "100 ranks pairs as people do. Compare models on the same pairs"),
    "forward": Row("first → second, %", 1, (0, 100), "100: each text finds its own translation among all of them"),
    "backward": Row("second → first, %", 1, (0, 100), "as high as the other way; else one side has hubs"),
    "alignment": Row(
        "alignment", 3, (0, 4), "low: texts of one meaning are near. Read it beside uniformity: one point has 0"
    ),
}


@dataclass(frozen=True)
class Figure:
    """A figure; those of pairs with a 95 % interval, and the paired difference from the first model."""

    value: float
    low: float | None = None
    high: float | None = None
    difference: "Interval | None" = None


@dataclass(frozen=True)
class Measured:
    """What one model's vectors are like.

    Attributes:
        normalises: whether the model itself brings its vectors to length 1.
        directions: as many as the texts can have, the most that the effective rank can be.
        dead: dimensions that are the same for every text.
    """

    model: str
    label: str
    normalises: bool
    dimensions: int
    directions: int
    dead: list[int]
    figures: dict[str, Figure]


def show(found: Sequence[Measured]) -> None:
    """Print the figures, a column for each model, and below them what good ones look like."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.label, justify="right", overflow="fold")
    table.add_row("normalises", *("yes" if one.normalises else "no" for one in found))
    table.add_row("dimensions", *(str(one.dimensions) for one in found))
    table.add_row("dead dimensions", *(str(len(one.dead)) for one in found))
    for name in found[0].figures:
        table.add_row(ROWS[name].label, *(_cell(name, one, len(found)) for one in found))
    Console().print(table)
    if any(figure.difference for one in found for figure in one.figures.values()):
        print(f"\n* differs from {found[0].label} on the same pairs: 95 % interval of the difference without 0")
    print("\nin kilter:")
    notes = Table(box=None, show_header=False, pad_edge=False)
    for name in found[0].figures:
        notes.add_row(f"  {ROWS[name].label}", ROWS[name].good)
    Console().print(notes)


def _cell(name: str, one: Measured, models: int) -> str:
    figure, digits = one.figures[name], ROWS[name].digits
    apart = figure.difference
    star = "*" * bool(apart and apart.low is not None and apart.high is not None and not apart.low <= 0 <= apart.high)
    value, low, high = (
        NOTHING if end is None else fixed(end, digits) for end in (figure.value, figure.low, figure.high)
    )
    if name == "effective_rank":
        return f"{value} of {one.directions}"
    if figure.low is None or models > 4:
        return star + value
    return f"{star}{value} ({low} to {high})" if models < 3 else f"{star}{value}\n{low} to {high}"


def advise(found: Sequence[Measured], texts: str) -> None:
    """Print what could be done, by model, where a figure says that something is off; `texts` are what was measured."""
    print("\nwhat one could do:")
    for one in found:
        value = {name: figure.value for name, figure in one.figures.items()}
        said = []
        if value["mean_cosine"] > NARROW or value["effective_rank"] < FEW * one.directions:
            said.append(f"a narrow space; to widen it: kilter run whitened-cse --model {one.model} --train {texts}")
        if one.dead:
            some = ", ".join(map(str, one.dead[:6])) + "…" * (len(one.dead) > 6)
            said.append(f"dimensions {some} are dead: leave them out before you divide by a spread")
        if min(value.get("forward", 100.0), value.get("backward", 100.0)) < 100 * MISSED:
            said.append(
                "translations are missed; to lay the languages over each other, without pairs: kilter calibrate "
                f"--model {one.model} --texts en=en.txt de=de.txt --out FOLDER"
            )
        for line in said or ["nothing stands out"]:
            print(f"  {one.label}: {line}")
