"""Figures of vectors: how many directions they use, how near texts lie to each other, and a map.

Each takes what `kilter.evaluation.embeddings` gives, by model or arm, and gives themed SVG.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kilter.lab.delays import DASHES, TINTS
from kilter.lab.layout import LINE, PAD, Key, settle, wrap, write
from kilter.lab.numbers import fixed, short
from kilter.lab.theme import SERIES, SIZE, colour, theme, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cosines = Mapping[str, Sequence[float]]

_KINDS = ("baseline", *SERIES)
_SHAPES = "os^Dv"
_MOST = 9
"""So many groups of a map have a look of their own; the smallest others share one."""
_DRAWN = 400
"""Points of a panel, at most, so that the figure stays small."""
_WIDE = 6.4 * 72


def spectrum_plot(curves: Mapping[str, Sequence[float]]) -> str:
    """Shares of the singular values from the largest to the smallest, one curve a model, both axes logarithmic.

    Args:
        curves: by model, as `spectrum` gives them; shares or the values themselves.

    Raises:
        ValueError: no model, or one whose values are none, not finite, below 0 or all 0.
    """
    import numpy as np
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError("curves: there is no model to draw")
    with theme():
        fig = Figure(figsize=(6.4, 3.6))
        axes = fig.subplots()
        axes.grid(True)
        entries, told, lows, highs, lengths = [], [], [], [], []
        for place, (name, values) in enumerate(curves.items()):
            shares = _shares(name, values)
            directions, rank = len(shares), float(np.exp(-np.sum(shares * np.log(np.maximum(shares, 1e-300)))))
            lengths.append(directions)
            picks = np.unique(np.geomspace(1, directions, 160).round().astype(int))  # the figure stays small
            look = {"linewidth": 1.7, "dashes": DASHES[place % len(DASHES)] or (None, None)}
            ink = colour(TINTS[place % len(TINTS)])
            axes.plot(picks, 100 * np.maximum(shares[picks - 1], 1e-9), color=ink, **look)
            if directions == 1:
                axes.plot(1, 100, color=ink, marker="o")
            entries.append((f"{name}: effective rank {_rounded(rank)} of {directions}", ink, look))
            told.append(f"{entries[-1][0]}, first direction {fixed(100 * shares[0], 1)} %")
            lows.append(100 * float(shares[min(directions - 1, int(0.95 * directions))]))
            highs.append(100 * float(shares[0]))
        if len({*lengths}) == 1 and lengths[0] > 1:
            look = {"linewidth": 1.0, "dashes": (2, 2)}
            axes.axhline(100 / lengths[0], color=colour("muted"), zorder=1, **look)
            entries.append((f"all {lengths[0]} directions alike", colour("muted"), look))
            lows.append(100 / lengths[0])
        # what is dead falls off the figure's lower edge
        low = max(min(filter(None, lows), default=1.0), min(100 / max(lengths), *highs) / 300)
        _log(axes, (1.0, max(*map(float, lengths), 2.0)), (low / 1.5, min(100.0, 1.3 * max(highs))))
        axes.set(xlabel="direction, strongest first", ylabel="share of the singular values, %")
        key = Key(entries, _WIDE - 2 * PAD - Key.MARK)
        fig.set_figheight(fig.get_figheight() + key.height / 72)
        settle(fig, axes, top=key.height + 4)
        key.draw(fig, PAD, 72 * fig.get_figheight() - PAD, coloured=False)
        return to_svg(fig, title="How many directions the vectors use", description="; ".join(told))


def similarity_plot(samples: Mapping[str, Cosines] | Cosines) -> str:
    """Histograms of cosines by kind of pair, such as random pairs and translations; a panel for each model.

    Args:
        samples: by model, of each kind of pair the cosines; or without models, one panel. A kind without any is not
            drawn.

    Raises:
        ValueError: no cosine at all.
    """
    import numpy as np

    nested = any(isinstance(one, Mapping) for one in samples.values())
    panels: dict[str, dict[str, Any]] = {}
    for label, kinds in (samples if nested else {"": samples}).items():
        drawn = {kind: np.asarray(values, dtype=float) for kind, values in kinds.items() if len(values)}  # type: ignore[union-attr]
        if drawn:
            panels[label] = drawn
    if not panels:
        raise ValueError("samples: there is no cosine to draw")
    with theme():
        order = list(dict.fromkeys(kind for drawn in panels.values() for kind in drawn))
        inks = {kind: colour(_KINDS[place % len(_KINDS)]) for place, kind in enumerate(order)}
        dashes = {kind: DASHES[place // len(_KINDS) % len(DASHES)] or (None, None) for place, kind in enumerate(order)}
        looks = {kind: {"linewidth": 1.6, "dashes": dashes[kind]} for kind in order}
        every = np.concatenate([values for drawn in panels.values() for values in drawn.values()])
        low, high = float(np.quantile(every, 0.001)), min(1.0, float(every.max()))
        low = max(-1.0, min(low, high - 0.02, 0.0 if low < 0.35 else low))
        edges = np.linspace(low, high, 61)
        means = {
            label: {kind: f"{kind}: mean {fixed(float(values.mean()), 2)}" for kind, values in drawn.items()}
            for label, drawn in panels.items()
        }
        one = next(iter(means.values())) if len(panels) == 1 else {}  # said in the key
        key = Key([(one.get(kind, kind), inks[kind], looks[kind]) for kind in order], _WIDE - 2 * PAD - Key.MARK)
        headings = [(label, "" if one else "; ".join(said.values())) for label, said in means.items()]
        page = _Panels(headings, key, abreast=1, wide=_WIDE - 2 * PAD - 28, tall=110.0 if one else 66.0, below=34.0)
        for axes, drawn in zip(page.axes, panels.values(), strict=True):
            for kind, values in drawn.items():
                share = 100 * np.histogram(np.clip(values, low, high), edges)[0] / len(values)
                axes.stairs(share, edges, color=inks[kind], fill=True, alpha=0.22, linewidth=0)
                xs, ys = np.repeat(edges, 2)[1:-1], np.repeat(share, 2)
                axes.plot(xs, ys, color=inks[kind], **looks[kind])
            axes.set(xlim=(low, high), ylim=(0, None), yticks=[])
            axes.spines["left"].set_visible(False)
            last = axes is page.axes[-1]
            axes.set_xticks(_round_ticks(low, high))
            axes.tick_params(labelbottom=last)
            axes.grid(True, axis="x")
        page.axes[-1].set_xlabel("cosine")
        told = ". ".join(f"{label}: " * bool(label) + "; ".join(said.values()) for label, said in means.items())
        return to_svg(page.fig, title="How near texts lie to each other", description=told)


def map_plot(points: Mapping[str, Any], groups: Sequence[str]) -> str:
    """Texts in two dimensions, coloured by group (language, side, source), a panel for each model.

    Args:
        points: by model `(n, 2)`, as `principal_plane` gives them; all panels have the texts in one order.
        groups: of each of the n texts.

    Raises:
        ValueError: no model, or points of another shape or number.
    """
    import numpy as np

    panels = {label: np.asarray(given, dtype=float) for label, given in points.items()}
    if not panels:
        raise ValueError("points: there is no model to draw")
    for label, given in panels.items():
        if given.shape != (len(groups), 2) or not len(groups) or not np.isfinite(given).all():
            raise ValueError(f"points of {label} must be finite and ({len(groups)}, 2), like groups; got {given.shape}")
    with theme():
        often = [group for group, _ in Counter(groups).most_common(_MOST)]
        names = [group for group in dict.fromkeys(groups) if group in often]
        rest = len({*groups}) - len(names)
        look = {name: (_SHAPES[place % len(_SHAPES)], colour(SERIES[place % len(SERIES)]))
                for place, name in enumerate(names)}  # fmt: skip
        if rest:
            look[other := f"{rest} other{'s' * (rest > 1)}"] = (".", colour("baseline"))
            groups = [group if group in often else other for group in groups]
        entries = [
            (name, ink, {"linestyle": "none", "marker": shape, "markersize": 5}) for name, (shape, ink) in look.items()
        ]
        abreast = min(len(panels), 3)
        headings, several = [(label, "") for label in panels], len(entries) > 1
        key = Key(entries if several else [], 110.0)
        page = _Panels(headings, key, abreast=abreast, wide=185.0, tall=185.0, beside=several)
        shown = np.unique(np.linspace(0, len(groups) - 1, min(len(groups), _DRAWN)).round().astype(int))
        told = []
        for axes, (label, given) in zip(page.axes, panels.items(), strict=True):
            for part in range(4):  # in turns, so that no group lies on top of all others
                for name, (shape, ink) in look.items():
                    some = [row for row in shown[part::4] if groups[row] == name]
                    mark = {"marker": shape, "markersize": 3.2, "mew": 0, "alpha": 0.75}
                    axes.plot(*given[some].T, color=ink, linestyle="none", **mark)
            middle, half = (given.max(0) + given.min(0)) / 2, 0.54 * max(np.ptp(given, 0).max(), 1e-9)
            limits = [(m - half, m + half) for m in middle]
            axes.set(xlim=limits[0], ylim=limits[1], xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
            centres = {name: given[[group == name for group in groups]].mean(0) for name in look}
            said = ", ".join(f"{name} around ({short(x)}, {short(y)})" for name, (x, y) in centres.items())
            told.append(f"{label}: {said}")
        return to_svg(page.fig, title="A map of the texts", description="; ".join(told))


# What they share --------------------------------------------------------------------------------------------------


class _Panels:
    """Plots of one size under their headings, with a key above or beside them; every place in points, as measured."""

    def __init__(
        self,
        headings: Sequence[tuple[str, str]],
        key: Key,
        *,
        abreast: int,
        wide: float,
        tall: float,
        below: float = 0.0,
        beside: bool = False,
    ) -> None:
        from matplotlib.figure import Figure

        gap, margin = 14.0, PAD + 14 * (not beside)
        lines = [(wrap(label, wide, SIZE, "bold") if label else [], wrap(said, wide, 9) if said else [])
                 for label, said in headings]  # fmt: skip
        heights = [LINE * (SIZE * len(label) + 9 * len(said)) + 4 for label, said in lines]
        rows = [range(first, min(first + abreast, len(lines))) for first in range(0, len(lines), abreast)]
        tops = [max(heights[place] for place in row) for row in rows]
        panels = sum(tops) + tall * len(rows) + 10.0 * (len(rows) - 1)
        across = 2 * margin + abreast * wide + (abreast - 1) * gap + (key.width + gap) * beside
        up = 2 * PAD + below + (max(panels, key.height) if beside else panels + key.height + 6)
        self.fig: Figure = Figure(figsize=(across / 72, up / 72))
        key.draw(self.fig, across - PAD - key.width if beside else PAD, up - PAD - tops[0] * beside, coloured=False)
        self.axes: list[Axes] = []
        y = up - PAD - (0 if beside else key.height + 6)
        for row, top in zip(rows, tops, strict=True):
            for column, place in enumerate(row):
                x, line = margin + column * (wide + gap), y - top + heights[place]
                for words, look in zip(lines[place], ({"weight": "bold", "size": SIZE}, {"size": 9}), strict=True):
                    for word in words:
                        ink = colour("ink" if "weight" in look else "muted")
                        line -= LINE * float(look["size"])
                        write(self.fig, word, x, line, color=ink, va="bottom", **look)
                box = (x / across, (y - top - tall) / up, wide / across, tall / up)
                self.axes.append(self.fig.add_axes(box))
            y -= top + tall + 10.0


def _shares(name: str, values: Sequence[float]) -> Any:
    import numpy as np

    found = np.sort(np.asarray(values, dtype=float))[::-1]
    if not len(found) or not np.isfinite(found).all() or found[-1] < 0 or found[0] == 0:
        raise ValueError(f"curves: the singular values of {name} must be finite, not below 0 and not all 0")
    return found / found.sum()


def _log(axes: "Axes", across: tuple[float, float], up: tuple[float, float]) -> None:
    """Both axes logarithmic, with ticks at 1, 10, 100, … or, where these are few, at 2 and 5 too."""
    import math

    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set(xscale="log", yscale="log", xlim=across, ylim=up)
    for axis, (low, high) in ((axes.xaxis, across), (axes.yaxis, up)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if math.log10(high / low) > 2 else (1, 2, 5)
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_locator(NullLocator())


def _round_ticks(low: float, high: float) -> list[float]:
    """At most six round numbers within two ends."""
    from matplotlib.ticker import MaxNLocator

    return [tick for tick in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= tick <= high]


def _rounded(rank: float) -> str:
    return fixed(rank, 0 if rank >= 10 else 1)
