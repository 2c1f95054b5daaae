"""The figure of one utterance: what was said, and when each arm emitted it."""

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from kilter.lab.layout import LINE, PAD, cut, lanes, width, wrap, write
from kilter.lab.numbers import fixed
from kilter.lab.theme import SERIES, colour, theme, to_svg

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

Word = Mapping[str, Any]  # {"word", "start", "end"}, in seconds
Emissions = Sequence[tuple[str, float]]  # (token, seconds)

_SPECTROGRAM = (0.29, 0.45, 0.68)  # one hue that reads on both themes; energy is its opacity


def timeline(audio: "np.ndarray", rate: int, words: Sequence[Word], arms: Mapping[str, Emissions]) -> str:
    """One utterance: its spectrogram with the true words, and for each arm when it emitted them.

    A bar runs from a word's true end to its emission, so its length is the delay; a hollow mark is a token
    that the reference does not have there. `arms` keeps its order; the first is drawn as the baseline. Arms that
    emitted nothing have no row and are named below.
    """
    with theme():
        drawing = _Timeline(audio, rate, words, arms)
        title = f"When each arm emitted “{' '.join(word['word'] for word in words)}”"
        return to_svg(drawing.fig, title=title, description="; ".join(drawing.told))


class _Timeline:
    """Every place in points, from measured words: rows grow by as many lanes as their words need."""

    WIDE, LEFT, RIGHT, SOUND, LANES, SMALL = 605.0, 46.0, 12.0, 90.0, 4, 8.5

    def __init__(self, audio: "np.ndarray", rate: int, words: Sequence[Word], arms: Mapping[str, Emissions]) -> None:
        from matplotlib.figure import Figure

        latest = max((time for emissions in arms.values() for _, time in emissions), default=0.0)
        self.seconds = max(len(audio) / rate, latest + 0.2)
        self.room = self.WIDE - self.LEFT - self.RIGHT
        tints = dict(zip(arms, ("baseline", *SERIES * len(arms)), strict=False))
        rows = [_Row(label, said, words, colour(tints[label]), self) for label, said in arms.items() if said]
        silent = [label for label, said in arms.items() if not said]
        quiet = wrap(f"No word emitted: {'; '.join(silent)}", self.room, 9) if silent else []
        ends = "; hollow: not a word of the reference there" if any(not all(row.ends) for row in rows) else ""
        heading = wrap(f"spoken words; dotted: their true ends{ends}", self.room, 9)
        spoken = self.lanes([(word["start"] + word["end"]) / 2 for word in words], [w["word"] for w in words], 9.5)
        above = [len(heading) * 9 * LINE, 1 + max((lane for *_, lane in spoken), default=0)]
        top = PAD + above[0] + above[1] * 9.5 * LINE + 8
        tall = top + self.SOUND + 12 + sum(row.height for row in rows) + 38 + len(quiet) * 9 * LINE + PAD
        self.fig = Figure(figsize=(self.WIDE / 72, round(tall, 1) / 72))
        self.tall = 72 * self.fig.get_figheight()
        for place, line in enumerate(heading):
            self.say(line, self.LEFT, PAD + (place + 0.5) * 9 * LINE, size=9, color=colour("muted"), va="center")
        axes = self.axes(top, self.SOUND)
        _draw_spectrogram(axes, audio, rate)
        axes.set_xlim(0, self.seconds)
        y = top + self.SOUND + 12
        for row in rows:
            row.draw(y)
            y += row.height
        self.spoken(words, spoken, top, y)
        self.scale(y)
        for place, line in enumerate(quiet):
            down = y + 38 + (place + 0.5) * 9 * LINE
            self.say(line, self.LEFT, down, size=9, color=colour("muted"), va="center")
        told = {row.label: row.told for row in rows} | dict.fromkeys(silent, "no word emitted")
        self.told = [f"{label}: {told[label]}" for label in arms]

    def at(self, seconds: float) -> float:
        """Points from the left edge."""
        return self.LEFT + seconds / self.seconds * self.room

    def lanes(self, times: Sequence[float], texts: Sequence[str], size: float) -> list[tuple[str, float, int]]:
        """What is said where: each text (cut if it is very long), its middle in points, and its lane."""
        short = [cut(text, 140, size) for text in texts]
        half = [width(text, size) / 2 + 1.5 for text in short]
        middle = [min(max(self.at(t), PAD + h), self.WIDE - PAD - h) for t, h in zip(times, half, strict=True)]
        found = lanes([(m - h, m + h) for m, h in zip(middle, half, strict=True)], self.LANES)
        return [(t, m, lane) for t, m, lane in zip(short, middle, found, strict=True) if lane is not None]

    def say(self, text: str, x: float, down: float, **look: Any) -> None:
        """Write so many points from the left and the upper edge."""
        write(self.fig, text, x, self.tall - down, **look)

    def axes(self, top: float, tall: float) -> "Axes":
        """A plot over the whole room, so many points below the upper edge."""
        return self.fig.add_axes((
            self.LEFT / self.WIDE, 1 - (top + tall) / self.tall, self.room / self.WIDE, tall / self.tall
        ))  # fmt: skip

    def line(self, xs: Sequence[float], downs: Sequence[float], **look: Any) -> None:
        """Draw between points given from the left and the upper edge."""
        from matplotlib.lines import Line2D

        self.fig.add_artist(Line2D([x / self.WIDE for x in xs], [1 - down / self.tall for down in downs], **look))

    def spoken(self, words: Sequence[Word], said: Sequence[tuple[str, float, int]], top: float, bottom: float) -> None:
        """The true words above their sound, and their ends through all rows."""
        for word in words:
            start, end = self.at(word["start"]), self.at(word["end"])
            self.line([start, end], [top - 4, top - 4], color=colour("ink"), linewidth=1.6)
            dotted = {"color": colour("muted"), "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": -1}
            self.line([end, end], [top - 4, bottom], **dotted)
        for text, middle, lane in said:
            self.say(text, middle, top - 7 - (lane + 0.5) * 9.5 * LINE, ha="center", va="center")

    def scale(self, down: float) -> None:
        """The seconds, below everything."""
        axes = self.axes(down - 1, 1.0)
        axes.set(xlim=(0, self.seconds), yticks=[], xlabel="seconds")
        axes.patch.set_visible(False)
        axes.spines["left"].set_visible(False)


class _Row:
    """What one arm emitted; the delays are those of the tokens that the reference has too."""

    def __init__(self, label: str, emissions: Emissions, words: Sequence[Word], ink: str, page: _Timeline) -> None:
        spoken, heard = [word["word"] for word in words], [token for token, _ in emissions]
        runs = SequenceMatcher(None, spoken, heard, autojunk=False).get_matching_blocks()
        found = {run.b + step: words[run.a + step]["end"] for run in runs for step in range(run.size)}
        self.label, self.ink, self.page, self.emissions = label, ink, page, emissions
        self.ends = [found.get(place) for place in range(len(emissions))]
        delays = {p: 1000 * (emissions[p][1] - end) for p, end in enumerate(self.ends) if end is not None}
        self.mean = f"mean {_signed(sum(delays.values()) / len(delays))} ms" if delays else "no word of the reference"
        self.told = f"{' '.join(heard)}, {self.mean}"
        self.title = wrap(label, page.room - width(self.mean, 9) - 12, 9, "bold")
        self.tokens = page.lanes([time for _, time in emissions], heard, 9.5)
        times = [emissions[place][1] for place in delays]
        self.delays = page.lanes(times, [_signed(delay) for delay in delays.values()], page.SMALL)
        self.above = len(self.title) * 9 * LINE + self._lanes(self.tokens) * 9.5 * LINE + 5
        self.height = self.above + 5 + self._lanes(self.delays) * page.SMALL * LINE + 8

    @staticmethod
    def _lanes(said: Sequence[tuple[str, float, int]]) -> int:
        return max((lane + 1 for *_, lane in said), default=0)

    def draw(self, top: float) -> None:
        """Draw it so many points below the upper edge."""
        page, middle, ink = self.page, top + self.above, self.ink
        for place, line in enumerate(self.title):
            down = top + (place + 0.5) * 9 * LINE
            page.say(line, page.LEFT, down, color=ink, weight="bold", size=9, va="center")
        right = page.WIDE - page.RIGHT
        page.say(self.mean, right, top + 4.5 * LINE, color=ink, size=9, va="center", ha="right")
        page.line([page.LEFT, right], [middle, middle], color=colour("grid"), linewidth=0.6)
        for (_, time), end in zip(self.emissions, self.ends, strict=True):
            x = page.at(time)
            if end is not None:  # from its starting point, which shows even where another bar runs through it
                start = page.at(end)
                page.line([start, x], [middle, middle], color=ink, linewidth=2.2, solid_capstyle="butt")
                page.line([start, start], [middle - 4, middle + 4], color=ink, linewidth=1.6)
            fill = ink if end is not None else colour("page")
            page.line([x], [middle], color=ink, marker="o", markersize=6, markerfacecolor=fill, zorder=3)
        for text, x, lane in self.tokens:
            page.say(text, x, middle - 5 - (lane + 0.5) * 9.5 * LINE, ha="center", va="center")
        for text, x, lane in self.delays:
            down = middle + 5 + (lane + 0.5) * page.SMALL * LINE
            page.say(text, x, down, ha="center", va="center", size=page.SMALL, color=colour("muted"))


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
    axes.tick_params(bottom=False, labelbottom=False)


def _signed(milliseconds: float) -> str:
    return fixed(milliseconds, 0, signed=True)
