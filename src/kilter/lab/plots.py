"""Figures that follow the reader's light or dark theme, in a page or on their own.

Matplotlib draws them; the house style and the colours are ours.
Departure from plain matplotlib: the stand-in colours it draws with become CSS variables in the saved SVG.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from html import escape
from io import StringIO
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

Word = Mapping[str, Any]  # {"word", "start", "end"}, in seconds
Emissions = Sequence[tuple[str, float]]  # (token, seconds)

# name: (light, dark). The report page uses the same table; a test holds the text colours to WCAG AA.
PALETTE = {
    "page": ("#fbfbf9", "#14161a"),
    "panel": ("#f2f3f0", "#1d2026"),
    "ink": ("#1b1d21", "#e9eaed"),
    "muted": ("#575d66", "#a4abb6"),
    "grid": ("#dfe2e4", "#2d323a"),
    "baseline": ("#596270", "#a9b2be"),
    "series-1": ("#0a5fc2", "#74b4ff"),
    "series-2": ("#a8480b", "#f2a566"),
    "series-3": ("#17703f", "#63cf97"),
    "series-4": ("#7d3ab0", "#cd9ff0"),
    "good": ("#17703f", "#63cf97"),
    "fair": ("#7a5900", "#e3bd5c"),
    "bad": ("#b3261e", "#ff9187"),
}
_SPECTROGRAM = (0.29, 0.45, 0.68)  # one hue that reads on both themes; energy is its opacity
_STAND_IN = {name: f"#fe01{place:02x}" for place, name in enumerate(PALETTE)}
_INK, _MUTED, _GRID = (_STAND_IN[name] for name in ("ink", "muted", "grid"))
_FEW = 8
"""So many arms at most have their names beside their points."""
_SHAPES = "o^Dv"
_MARKERS = {"baseline": "s", "method": "o", "context": "D"}
_SPOTS = [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)]  # for a label, best first
_SERIES = [_STAND_IN[name] for name in ("series-1", "series-2", "series-3", "series-4")]


def theme_css() -> str:
    """The palette as CSS variables: light by default and in print, dark where the reader's system is dark."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in PALETTE.items()) for i in (0, 1))
    rim = "text{paint-order:stroke;stroke:var(--page);stroke-width:2.5px}"  # no line runs through words
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}image{{filter:brightness(1.5)}}}}"
    return f":root{{{light}}}{dark}{rim}"


def colour(name: str) -> str:
    """What to draw with under `theme`, by its name in the palette; `to_svg` turns it into the reader's colour."""
    return _STAND_IN[name]


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib settings of every figure; the user's own matplotlibrc has no say, so that bytes repeat."""
    import matplotlib.style

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "kilter",
        "font.size": 9.5,
        "text.color": _INK,
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "grid.linewidth": 0.6,
        **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
        **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), _GRID),
        **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _MUTED),
    }
    with matplotlib.style.context(["default", settings]):
        yield


def to_svg(fig: "Figure", *, title: str, description: str) -> str:
    """A figure drawn under `theme` as SVG text: themed, accessible, the same bytes for the same figure."""
    buffer = StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    svg = re.sub(r"^.*?(?=<svg)|\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)  # the page's font, or the one in the style below
    svg = re.sub(r"image-rendering:[^\"]*", "", svg)  # let the browser smooth the spectrogram
    for name, stand_in in _STAND_IN.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    svg = svg.replace("<svg ", '<svg role="img" ', 1)
    svg = svg.replace("</title>", f"</title>\n <desc>{escape(description)}</desc>", 1)
    alone = "svg{background:var(--page)}text{font-family:system-ui,sans-serif}"
    return svg.replace("</style>", f"{alone}{theme_css()}</style>", 1)


def tradeoff(summary: Mapping[str, Any], x: str = "delay_ms", y: str = "wer") -> str:
    """Every arm that has both metrics as a point in their plane, with both intervals.

    The baseline is a square with guide lines, methods are discs, arms shown for context are hollow diamonds. Arms
    of one series are joined in the order of their strengths and labelled by them, the first by its whole name.
    """
    from matplotlib.figure import Figure

    metrics = summary["metrics"]
    arms = dict(summary["arms"])
    for name, arm in summary["arms"].items():
        if None in (arm["metrics"].get(key, {}).get("mean") for key in (x, y)):
            del arms[name]
    if not arms:
        raise ValueError(f"no arm has both {x!r} and {y!r}; the summary's metrics are {', '.join(metrics)}")
    with theme():
        crowded = len(arms) > _FEW
        fig = Figure(figsize=(8.4, 4.6) if crowded else (4.7, 3.7))
        box = {"left": 0.075, "right": 0.69} if crowded else {"left": 0.13, "right": 0.98}
        axes = fig.subplots(gridspec_kw={**box, "bottom": 0.14, "top": 0.98})
        axes.grid(True)
        axes.margins(x=0.08 if crowded else 0.32, y=0.2)
        axes.set(xlabel=_axis_label(metrics[x]), ylabel=_axis_label(metrics[y]))
        series, looks = {}, iter(product(_SHAPES, _SERIES))
        for name, arm in arms.items():
            if (key := arm.get("series") or name) not in series:
                series[key] = [("s", _STAND_IN["baseline"]) if name == summary["baseline"] else next(looks)]
            series[key].append(arm)
        labels = []
        for (shape, colour), *members in series.values():
            along = sorted(members, key=lambda arm: float(arm.get("point") or 0))
            role = along[0]["role"]
            fill = _STAND_IN["page"] if role == "context" else colour
            middle = [tuple(_estimate(arm["metrics"][key])[0] for key in (x, y)) for arm in along]
            axes.plot(*zip(*middle, strict=True), color=colour, linewidth=1.0, alpha=0.45, zorder=1.5)
            for arm, (a, b) in zip(along, middle, strict=True):
                across, up = (_estimate(arm["metrics"][key])[1:] for key in (x, y))
                if role == "baseline":
                    axes.axvline(a, color=colour, linewidth=0.8, dashes=(3, 3), zorder=1)
                    axes.axhline(b, color=colour, linewidth=0.8, dashes=(3, 3), zorder=1)
                axes.plot(across, (b, b), (a, a), up, color=colour, linewidth=0.8 if crowded else 1.3)
                marker = shape if crowded else _MARKERS[role]
                axes.plot(a, b, marker, color=colour, markersize=7, markerfacecolor=fill, mew=1.6)
                told = arm["label"] if not crowded and arm is along[0] else arm.get("point", "")
                if told and (not crowded or len(along) > 1):
                    bars = (across[0], b, across[1], b), (a, up[0], a, up[1])
                    labels.append((told, colour, (a, b), bars))
            if crowded:  # names beside the plot, strengths at the points
                more = "".join(f", {arm['point']}" for arm in along[1:])
                axes.plot(
                    [],
                    [],
                    shape,
                    color=colour,
                    markerfacecolor=fill,
                    mew=1.6,
                    label=textwrap.fill(along[0]["label"] + more, 28),
                )
        if crowded:
            named = axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
            for text, (look, *_) in zip(named.get_texts(), series.values(), strict=True):
                text.set_color(look[1])
            means = [arm["metrics"][y]["mean"] for arm in arms.values()]
            axes.set_ylim(top=min(axes.get_ylim()[1], 1.5 * max(means)))  # a wide interval may leave the plot
        if all(arm["metrics"][y]["mean"] >= 0 for arm in arms.values()):  # a rate does not go below nought
            axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        _label_points(fig, axes, labels)
        told = "; ".join(
            f"{arm['label']}: {arm['metrics'][x]['mean']:g}, {arm['metrics'][y]['mean']:g}" for arm in arms.values()
        )
        title = f"{metrics[y]['label']} against {metrics[x]['label'].lower()}"
        return to_svg(fig, title=title, description=f"{metrics[x]['label']}, {metrics[y]['label']}. {told}")


def timeline(audio: "np.ndarray", rate: int, words: Sequence[Word], arms: Mapping[str, Emissions]) -> str:
    """One utterance: its spectrogram with the true words, and for each arm when it emitted them.

    A bar runs from a word's true end to its emission, so its length is the delay; a hollow mark is a token
    that the reference does not have there. `arms` keeps its order; the first is drawn as the baseline.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import ConnectionPatch

    with theme():
        # Set in inches: matplotlib's layout engines differ in the last digit from process to process.
        heights, gap = [1.25, *[0.42] * len(arms)], 0.3
        tall = 1.0 + sum(heights) + gap * len(arms)
        fig = Figure(figsize=(8.4, tall))
        edges = {"left": 0.055, "right": 0.985, "bottom": 0.5 / tall, "top": 1 - 0.5 / tall}
        fig.subplots_adjust(**edges, hspace=gap * len(heights) / sum(heights))
        spectrogram, *rows = fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights).flat
        _draw_spectrogram(spectrogram, audio, rate)
        heading = {"loc": "left", "size": 9}
        spectrogram.set_title("spoken words; dotted: their true ends", color=_MUTED, pad=22, **heading)
        over = {"transform": spectrogram.get_xaxis_transform(), "clip_on": False}
        ends = {"color": _MUTED, "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": -1}
        for start, end, text in ((word["start"], word["end"], word["word"]) for word in words):
            spectrogram.plot([start, end], [1.04, 1.04], color=_INK, linewidth=1.6, **over)
            spectrogram.text((start + end) / 2, 1.08, text, ha="center", va="bottom", **over)
            bottom = {"xyB": (end, 0), "coordsB": fig.axes[-1].get_xaxis_transform()}
            fig.add_artist(ConnectionPatch((end, 1.04), coordsA=over["transform"], **bottom, **ends))
        told, colours = [], (_STAND_IN["baseline"], *_SERIES * len(arms))
        for axes, (label, emissions), colour in zip(rows, arms.items(), colours, strict=False):
            delays = _draw_emissions(axes, emissions, words, colour)
            mean = f"mean {_signed(sum(delays) / len(delays))} ms" if delays else "no word of the reference"
            axes.set_title(label, color=colour, weight="bold", pad=4, **heading)
            axes.set_title(mean, loc="right", color=colour, size=9, pad=4)
            told.append(f"{label}: {' '.join(token for token, _ in emissions)}, {mean}")
        latest = max((time for emissions in arms.values() for _, time in emissions), default=0.0)
        for axes in fig.axes[:-1]:
            axes.tick_params(bottom=False)
        fig.axes[-1].set(xlabel="seconds", xlim=(0, max(len(audio) / rate, latest + 0.2)))
        title = f"When each arm emitted “{' '.join(word['word'] for word in words)}”"
        return to_svg(fig, title=title, description="; ".join(told))


def _axis_label(metric: Mapping[str, Any]) -> str:
    better = "← better" if metric["better"] == "lower" else "better →"
    return f"{metric['label']}, {metric['unit']}  ({better})"


def _estimate(estimate: Mapping[str, Any]) -> list[Any]:
    """Mean and the ends of its interval; the mean itself where there was nothing to take an interval over."""
    mean = estimate["mean"]
    return [mean if estimate.get(key) is None else estimate[key] for key in ("mean", "low", "high")]


def _label_points(fig: "Figure", axes: "Axes", labels: Sequence[tuple[str, str, tuple, tuple]]) -> None:
    """Write each (label, colour, point, bars) inside the axes, where it covers least of what is there."""
    from matplotlib.transforms import Bbox

    fig.draw_without_rendering()  # settles the axes' limits, so that boxes are known
    taken = [Bbox.from_extents(bar).transformed(axes.transData).padded(4) for *_, bars in labels for bar in bars]
    for label, colour, point, _ in labels:
        words = textwrap.fill(label, 20)
        note = axes.annotate(words, point, (0, 0), textcoords="offset points", color=colour, size=9)

        def place(spot: tuple[int, int], note: "Annotation" = note) -> Bbox:
            note.set_position((9 * spot[0], 7 * spot[1]))
            note.set(ha=("center", "left", "right")[spot[0]], va=("center", "bottom", "top")[spot[1]])
            return note.get_window_extent()

        def cost(spot: tuple[int, int]) -> int:
            box = place(spot)
            outside = sum(not axes.bbox.contains(*corner) for corner in box.corners())
            return 2 * outside + box.count_overlaps(taken)

        taken.append(place(min(_SPOTS, key=cost)))


def _draw_spectrogram(axes: "Axes", audio: "np.ndarray", rate: int) -> None:
    """Pre-emphasised spectrogram up to 5 kHz, 50 dB deep, as the opacity of one hue."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    size, hop = round(0.02 * rate), max(round(0.005 * rate), len(audio) // 600)
    audio = np.append(audio[:1], audio[1:] - 0.9 * audio[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2 + 1), size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    top = min(rate / 2, 5000.0)
    power = power[:, : round(top / rate * size) + 1]
    loudest = np.quantile(power, 0.999) or 1.0
    opacity = 1 + np.log10(np.maximum(power / loudest, 1e-5)) / 5
    shades = ListedColormap([(*_SPECTROGRAM, level / 31) for level in range(32)])
    box = {"extent": (0, len(frames) * hop / rate, 0, top / 1000), "aspect": "auto", "origin": "lower"}
    axes.imshow(opacity.T, cmap=shades, vmin=0, vmax=1, interpolation="none", **box)
    axes.set_ylabel("kHz")


def _draw_emissions(axes: "Axes", emissions: Emissions, words: Sequence[Word], colour: str) -> list[float]:
    """One arm's row; returns the delays in ms of the tokens that the reference has too."""
    spoken, heard = [word["word"] for word in words], [token for token, _ in emissions]
    runs = SequenceMatcher(None, spoken, heard, autojunk=False).get_matching_blocks()
    ends = {run.b + step: words[run.a + step]["end"] for run in runs for step in range(run.size)}
    axes.set(ylim=(0, 1), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.axhline(0.5, color=_GRID, linewidth=0.6)
    delays = []
    for place, (token, time) in enumerate(emissions):
        fill = colour if place in ends else _STAND_IN["page"]
        axes.plot(time, 0.5, "o", color=colour, markersize=6, markerfacecolor=fill)
        about = {"xy": (time, 0.5), "textcoords": "offset points", "ha": "center"}
        axes.annotate(token, xytext=(0, 5), va="bottom", **about)
        if place in ends:
            axes.plot([ends[place], time], [0.5, 0.5], color=colour, linewidth=2.2, solid_capstyle="butt")
            delays.append(1000 * (time - ends[place]))
            axes.annotate(_signed(delays[-1]), xytext=(0, -5), va="top", color=_MUTED, size=8.5, **about)
    return delays


def _signed(milliseconds: float) -> str:
    return f"{milliseconds:+z.0f}".replace("-", "\N{MINUS SIGN}")
