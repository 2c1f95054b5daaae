"""Room for every word of a figure: text is measured, then wrapped, moved or given a larger canvas.

Widths are those of DejaVu Sans, which matplotlib brings along; the fonts that readers have are hardly ever wider.
"""

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kilter.lab.numbers import MINUS, Bounds
from kilter.lab.theme import SIZE, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

PAD = 5.0
"""Points between a figure's words and the edge of its canvas."""
LINE = 1.3
"""Height of a line of text, in sizes of its letters."""
_SPOTS = [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)]  # for a label, best first
_RINGS = (1.0, 2.2, 3.6)

Note = tuple[str, str, tuple[float, float], Sequence[tuple[float, float, float, float]]]
"""Words, colour, point and the bars through it (left, bottom, right, top), in data units."""


def width(text: str, size: float | int, weight: str = "normal") -> float:
    """How wide a line of text is, in the unit of its size.

    Example:
        >>> width("wide", 20) == 2 * width("wide", 10)
        True
    """
    return size * sum((_advance(letter, weight) for letter in text), 0.0)


@cache
def _advance(letter: str, weight: str) -> float:
    """Width of a letter of size 1; of one that DejaVu Sans lacks, that of the box in its place or a whole em."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        font = FontProperties(family="DejaVu Sans", size=100, weight=weight)
        drawn = text_to_path.get_text_width_height_descent(letter, font, ismath=False)[0] / 100
    return max(drawn, 1.0) if unicodedata.east_asian_width(letter) in "WF" else drawn


def wrap(text: str, room: float | int, size: float | int, weight: str = "normal") -> list[str]:
    """Lines of a text, none wider than `room`; a word that is wider is broken.

    Example:
        >>> wrap("one two", 30, 10), len(wrap("Donaudampfschifffahrt", 50, 10)), wrap("as it  is", 900, 10)
        (['one', 'two'], 3, ['as it  is'])
    """
    text = re.sub(r"[\t\r\n]+", " ", text)
    lines, line = [], ""
    for word in re.split(" +", text) if width(text, size, weight) > room else [text]:
        if width(longer := f"{line} {word}" if line else word, size, weight) <= room:
            line = longer
            continue
        lines += [line] if line else []
        while word and width(word, size, weight) > room:
            fits = max((n for n in range(1, len(word)) if width(word[:n], size, weight) <= room), default=1)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    return [*lines, line] if line or not lines else lines


def cut(text: str, room: float | int, size: float | int) -> str:
    """The text, or as much of it as there is room for and an ellipsis.

    Example:
        >>> cut("short", 90, 10), cut("not so short", 40, 10)
        ('short', 'not s…')
    """
    text = re.sub(r"[\t\r\n]+", " ", text)
    if width(text, size) <= room:
        return text
    return f"{wrap(text.replace(' ', chr(160)), room - width('…', size), size)[0]}…".replace(chr(160), " ")


def lanes(boxes: Sequence[tuple[float, float]], most: int) -> list[int | None]:
    """The lowest lane where each (left, right) touches none before it; None where all are taken.

    Example:
        >>> lanes([(0.0, 10.0), (5.0, 15.0), (12.0, 20.0), (6.0, 7.0)], 2)
        [0, 1, 0, None]
    """
    taken: list[list[tuple[float, float]]] = [[] for _ in range(most)]
    found: list[int | None] = []
    for left, right in boxes:
        free = (place for place, lane in enumerate(taken) if all(right <= a or left >= b for a, b in lane))
        found.append(place := next(free, None))
        if place is not None:
            taken[place].append((left, right))
    return found


def settle(
    fig: "Figure",
    axes: "Axes",
    *,
    right: float = 0.0,
    top: float = 0.0,
    bounds: Mapping[str, Bounds | None] | None = None,
    least: tuple[float, float] = (170.0, 150.0),
) -> None:
    """Give the one plot of a figure as much of its canvas as its words leave, and let the canvas grow if need be.

    Args:
        fig: the figure.
        axes: its axes; what they are called is wrapped to their length.
        right: points to leave free on the right, e.g. for a key.
        top: points to leave free above.
        bounds: by "x" and "y", between which there are ticks.
        least: width and height of the plot, in points.
    """
    from matplotlib.ticker import AutoLocator
    from matplotlib.transforms import Bbox

    across, up = axes.xaxis, axes.yaxis
    names = {axis: axis.label.get_text() for axis in (across, up)}
    free = [axis for axis in (across, up) if isinstance(axis.get_major_locator(), AutoLocator)]
    for _ in range(3):  # what wraps depends on the room, and the room on what wraps
        for axis, ends in ((across, (bounds or {}).get("x")), (up, (bounds or {}).get("y"))):
            length = (axes.bbox.width if axis is across else axes.bbox.height) * 72 / fig.dpi
            if axis in free:
                _thin(axis, ends, length, beside=axis is across)
            _name(axis, names[axis], length)
        fig.draw_without_rendering()
        words, plot, point = axes.get_tightbbox(), axes.bbox, fig.dpi / 72
        if words is None:
            raise RuntimeError("an empty plot has no extent")
        before = [PAD + (plot.x0 - words.x0) / point, PAD + (plot.y0 - words.y0) / point]
        after = [right + PAD + (words.x1 - plot.x1) / point, top + PAD + (words.y1 - plot.y1) / point]
        canvas = [72 * length for length in fig.get_size_inches()]
        room = [max(canvas[i] - before[i] - after[i], least[i]) for i in (0, 1)]
        canvas = [before[i] + room[i] + after[i] for i in (0, 1)]
        fig.set_size_inches(*(round(length, 1) / 72 for length in canvas))
        edges = [before[0] / canvas[0], before[1] / canvas[1], room[0] / canvas[0], room[1] / canvas[1]]
        axes.set_position(Bbox.from_bounds(*(round(edge, 4) for edge in edges)))
    fig.draw_without_rendering()


def _name(axis: "Axis", name: str, room: float) -> None:
    """Wrap an axis title to its axis; a factor or an offset of the ticks is said in it."""
    if offset := axis.get_major_formatter().get_offset():
        offset = offset.replace("-", MINUS)
        name = f"{name} {offset if offset[0] in f'+{MINUS}' else f'×{offset}'}"
    axis.get_offset_text().set_visible(False)
    axis.set_label_text("\n".join(wrap(name, room, SIZE)))


def _thin(axis: "Axis", bounds: Bounds | None, room: float, *, beside: bool) -> None:
    """As many ticks as have room for their numbers, beside or above each other, and none where no figure can be."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    least, most = (None if bounds is None else bounds[i] for i in (0, 1))
    low, high = sorted(axis.get_view_interval())
    ticks: list[float] = []
    for bins in range(min(9, max(1, int(room / SIZE / (3 if beside else 2)))), 0, -1):
        every = MaxNLocator(bins, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = [tick for tick in every if low <= tick <= high]
        ticks = [tick for tick in ticks if (least is None or tick >= least) and (most is None or tick <= most)]
        axis.set_major_locator(FixedLocator(ticks))
        tall = [width(text, SIZE) if beside else LINE * SIZE for text in axis.get_major_formatter().format_ticks(ticks)]
        places = [(tick - low) / (high - low) * room for tick in ticks]
        ends = [(place - length / 2 - 2, place + length / 2 + 2) for place, length in zip(places, tall, strict=True)]
        if all(a[1] <= b[0] for a, b in pairwise(ends)):
            return
    axis.set_major_locator(FixedLocator(ticks[:1]))


def label_points(fig: "Figure", axes: "Axes", notes: Sequence[Note], size: float = 9.0) -> list[str]:
    """Write each note by its point, where it covers no other words, no point, and least of the bars.

    Returns:
        The words there was no room for.
    """
    from matplotlib.transforms import Bbox

    spots = [(x * ring, y * ring) for ring in _RINGS for x, y in _SPOTS]
    points = [Bbox([at, at]).padded(5.5) for at in (axes.transData.transform(point) for *_, point, _ in notes)]
    bars = [Bbox.from_extents(*bar).transformed(axes.transData).padded(2) for *_, few in notes for bar in few]
    taken: list[Bbox] = []
    left_out = []
    for words, ink, point, _ in notes:
        if not words:  # a point that others keep clear of
            continue
        text = "\n".join(wrap(words, 118.0, size))
        note = axes.annotate(text, point, (0, 0), textcoords="offset points", color=ink, size=size, linespacing=1.1)

        def place(spot: tuple[float, float], note: Any = note) -> "Bbox":
            note.set_position((8 * spot[0], 6 * spot[1]))
            note.set(ha=_side(spot[0], "left", "right"), va=_side(spot[1], "bottom", "top"))
            return note.get_window_extent()

        def cost(spot: tuple[float, float]) -> float:
            box = place(spot)
            outside = any(not axes.bbox.contains(*corner) for corner in box.corners())
            if outside or box.padded(1).count_overlaps(taken) or box.count_overlaps(points):
                return float("inf")
            return box.count_overlaps(bars) + 0.8 * _RINGS.index(max(map(abs, spot)))

        best = min(spots, key=cost)
        if cost(best) == float("inf"):
            note.remove()
            left_out.append(words)
        else:
            taken.append(place(best))
            if max(map(abs, best)) > _RINGS[0]:  # far from its point: a thin line leads there
                line = {"arrowstyle": "-", "color": ink, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
                axes.annotate("", point, (8 * best[0], 6 * best[1]), textcoords="offset points", arrowprops=line)
    return left_out


def _side(offset: float, positive: str, negative: str) -> str:
    return "center" if offset == 0 else positive if offset > 0 else negative


class Key:
    """Marks and what they mean, one below the other; wrapped and measured before it is drawn.

    Args:
        entries: name, colour and the looks of the mark (of matplotlib's lines).
        room: width of the names, in points.
    """

    SIZE, MARK = 9.0, 27.0

    def __init__(self, entries: Sequence[tuple[str, str, Mapping[str, Any]]], room: float) -> None:
        self.entries = [(wrap(name, room, self.SIZE), ink, look) for name, ink, look in entries]
        every = [line for lines, *_ in self.entries for line in lines]
        self.width = self.MARK + max((width(line, self.SIZE) for line in every), default=0.0)
        self.height = sum(self._tall(lines) for lines, *_ in self.entries)

    def _tall(self, lines: Sequence[str]) -> float:
        return LINE * self.SIZE * len(lines) + 3

    def draw(self, fig: "Figure", left: float, top: float, coloured: bool = True) -> None:
        """Draw it, with its upper left corner so many points from the canvas's left and bottom edge."""
        from matplotlib.lines import Line2D

        across, up = (72 * length for length in fig.get_size_inches())
        for lines, ink, look in self.entries:
            middle = top - LINE * self.SIZE / 2
            ends = [left, left + self.MARK - 7]
            spots = ends if look.get("linestyle") != "none" else [sum(ends) / 2]
            fig.add_artist(Line2D([x / across for x in spots], [middle / up] * len(spots), color=ink, **look))
            for place, line in enumerate(lines):
                y = middle - place * LINE * self.SIZE
                tint = ink if coloured else colour("ink")
                write(fig, line, left + self.MARK, y, size=self.SIZE, color=tint, va="center")
            top -= self._tall(lines)


def write(fig: "Figure", text: str, x: float, y: float, **look: Any) -> "Text":
    """Write so many points from the canvas's left and bottom edge."""
    across, up = (72 * length for length in fig.get_size_inches())
    return fig.text(x / across, y / up, text, **look)
