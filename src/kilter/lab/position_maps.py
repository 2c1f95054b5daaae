"""A figure of how alike positions are to each other: a square of cosines for each stage or model, in one scale."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kilter.lab.layout import LINE, PAD, wrap, write
from kilter.lab.numbers import fixed
from kilter.lab.theme import SIZE, colour, theme, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDE, _GAP, _TICKS, _SCALE = 190.0, 30.0, 48.0, 14.0
"""Points: of a panel, between two, for the numbers beside and below, and how thick the scale is."""
_MOST = 256
"""Cells of a panel, at most, in each direction: the figure stays small."""
_ALIKE, _OPPOSED = (0.29, 0.45, 0.68), (0.75, 0.40, 0.12)
_SHADES = [(*(_ALIKE if level > 0 else _OPPOSED), abs(level) / 31) for level in range(-31, 32)]
"""Of cosines from the greatest, taken negative, to it: 0 has none."""


def position_maps(
    panels: Mapping[str, Any], ends: Sequence[float | int], *, across: str, mark: float | int | None = None
) -> str:
    """Cosines of positions with each other, a panel for each stage: a hue where they are alike, another where opposed.

    Args:
        panels: by what stands above it a square `(n, n)` of cosines.
        ends: the first and last position of the axes.
        across: what the axes are called.
        mark: a position up to which was trained; a square is drawn around what lies within.

    Raises:
        ValueError: no panel, or one that is no square of finite numbers.
    """
    import numpy as np
    from matplotlib.figure import Figure

    squares = {label: np.asarray(given, dtype=float) for label, given in panels.items()}
    if not squares:
        raise ValueError("panels: there is nothing to draw")
    for label, given in squares.items():
        if given.ndim != 2 or given.shape[0] != given.shape[1] or not len(given) or not np.isfinite(given).all():
            raise ValueError(f"panels: {label} must be a square of finite cosines, got {given.shape}")
    high = max(1e-6, *(float(np.abs(given).max()) for given in squares.values()))
    with theme():
        headings = [wrap(label, _SIDE, SIZE, "bold") for label in squares]
        top = LINE * SIZE * max(map(len, headings)) + 6
        wide = 4 * PAD + _TICKS + len(squares) * _SIDE + (len(squares) - 1) * _GAP
        tall = 2 * PAD + top + _SIDE + 2 * 40 + _SCALE + 14
        fig = Figure(figsize=(wide / 72, tall / 72))
        for place, (lines, given) in enumerate(zip(headings, squares.values(), strict=True)):
            left, bottom = PAD + _TICKS + place * (_SIDE + _GAP), tall - PAD - top - _SIDE
            axes = fig.add_axes((left / wide, bottom / tall, _SIDE / wide, _SIDE / tall))
            _draw(axes, given, high, (float(ends[0]), float(ends[1])), mark)
            axes.set_xlabel(across)
            if place == 0:
                axes.set_ylabel(across)
            else:
                axes.tick_params(labelleft=False)
            for number, line in enumerate(lines):
                up = tall - PAD - SIZE * LINE * number
                write(fig, line, left, up, color=colour("ink"), weight="bold", size=SIZE, va="top")
        _scale(fig, high, wide, tall)
        told = "; ".join(f"{label}: {_fall(given)}" for label, given in squares.items())
        return to_svg(fig, title="How alike positions are", description=told)


def _draw(axes: "Axes", square: Any, high: float, ends: tuple[float, float], mark: float | int | None) -> None:
    """Cosines as the opacity of two hues, one on each side of 0, which reads on light and dark."""
    from matplotlib.colors import ListedColormap

    step = -(-len(square) // _MOST)
    box = {"extent": (*ends, *ends[::-1]), "interpolation": "none", "aspect": "auto"}
    axes.imshow(square[::step, ::step], cmap=ListedColormap(_SHADES), vmin=-high, vmax=high, **box)
    axes.locator_params(nbins=4)
    if mark is not None:
        axes.plot((mark, mark, ends[0]), (ends[0], mark, mark), color=colour("series-2"), linewidth=1.4)
        axes.set(xlim=ends, ylim=ends[::-1])


def _scale(fig: Any, high: float, wide: float, tall: float) -> None:
    """What the shades mean, below the panels."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    axes = fig.add_axes(((PAD + _TICKS) / wide, (PAD + 34) / tall, _SIDE / wide, _SCALE / tall))
    box = {"extent": (-high, high, 0, 1), "interpolation": "none", "aspect": "auto"}
    axes.imshow(np.linspace(-high, high, len(_SHADES))[None], cmap=ListedColormap(_SHADES), **box)
    axes.set(yticks=[], xlabel="cosine of two positions")
    axes.locator_params(axis="x", nbins=5)


def _fall(square: Any) -> str:
    """How the cosine falls with distance: of neighbours, and of the farthest."""
    import numpy as np

    size = len(square)
    near, far = max(1, size // 64), max(1, 3 * size // 4)
    said = [fixed(float(np.diagonal(square, one).mean()), 2) for one in (near, far) if one < size]
    return "cosine " + " near by, ".join(said) + " far away" * (len(said) > 1)
