"""No word of a figure leaves its canvas or runs into another, whatever names, numbers and points it is given."""

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from kilter.lab import delays, embedding_plots, plots, timeline
from kilter.lab.layout import lanes, width, wrap
from kilter.lab.text_columns import text_columns
from kilter.lab.theme import theme

LONG = "The true next passage of a book against another passage of the very same book, as a judge sees it"
WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
NAMES = ["CTC", LONG, WORD, "_hidden", "$x$ costs $y$", "語彙" * 30, "two\nlines", "a <b> & c"]
HUGE = [1e9, 1e9 + 1, -3e12, 5e11]
RAND = np.random.default_rng(0)


def words_of(fig: Figure) -> list[tuple[str, Any]]:
    """Every visible text of a figure that was drawn, with its box; ticks beyond the axes are not drawn."""
    with theme():
        fig.draw_without_rendering()
        unseen = {
            label
            for axes in fig.axes
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            for label in (tick.label1, tick.label2)
            if not min(ends := axis.get_view_interval()) <= tick.get_loc() <= max(ends)
        }
        texts = [t for t in fig.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in unseen]
        return [
            (
                text.get_text(),
                Text.get_window_extent(text) if isinstance(text, Annotation) else text.get_window_extent(),
            )
            for text in texts
        ]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Draw, and look at the boxes of all words."""

    def look(module: Any, draw: Callable[..., str], *inputs: Any) -> list[str]:
        drawn: list[Figure] = []
        save = module.to_svg
        monkeypatch.setattr(module, "to_svg", lambda fig, **told: drawn.append(fig) or save(fig, **told))
        ElementTree.fromstring(draw(*inputs))
        monkeypatch.undo()
        found = words_of(drawn[0])
        canvas = drawn[0].bbox
        for text, box in found:
            inside = canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
            assert inside, f"{text!r} leaves the canvas: {box.extents} of {canvas.extents}"
        for (one, a), (other, b) in itertools.combinations(found, 2):
            assert not a.padded(-0.75).overlaps(b.padded(-0.75)), f"{one!r} overlaps {other!r}"
        return [text for text, _ in found]

    return look


def plane(points: list[tuple[float, float]], names: list[str], label: str = "Rate", series: str = "") -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for place, ((a, b), name) in enumerate(zip(points, itertools.cycle(names), strict=False)):
        found = {"x": {"mean": a, "low": a - abs(a) / 9, "high": a + abs(a) / 9}, "y": {"mean": b, "low": None}}
        role = ("baseline", "method", "context")[min(place, 2)]
        arms[f"arm {place}"] = {"label": name, "role": role, "series": series, "point": f"{place}" * bool(series)}
        arms[f"arm {place}"]["metrics"] = found
    metric = {"label": label, "unit": "%", "better": "lower", "digits": 2, "bounds": [0, 100]}
    return {"metrics": {"x": {**metric, "bounds": None}, "y": metric}, "baseline": "arm 0", "arms": arms}


def spread(count: int, scale: float = 1.0) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in RAND.uniform(0, scale, (count, 2))]


PLANES: Mapping[str, dict[str, Any]] = {
    "one point": plane([(3.0, 4.0)], ["CTC"]),
    "one point, long name": plane([(3.0, 4.0)], [LONG], LONG * 3),
    "at nought": plane([(0.0, 0.0)] * 3, ["a", "b", "c"]),
    "few": plane([(1, 2), (3, 4), (2, 9)], ["CTC", "AWP", "Peak-First"]),
    "on top of each other": plane([(1.0, 1.0)] * 5, ["CTC only", "AWP", "TrimTail", "Peak-First", "Bayes risk"]),
    "nasty names": plane(spread(8), NAMES, WORD),
    "long names": plane(spread(7), [f"{place} {LONG}" for place in range(7)], LONG),
    "many": plane(spread(40), [LONG, "AWP", WORD], LONG),
    "tiny": plane(spread(4, 1e-9), ["CTC", "AWP"]),
    "huge": plane([(a, 50.0) for a in HUGE], ["CTC", "AWP", "TrimTail", "MWER"]),
    "huge and near": plane([(1e9 + a, 1e-7 * a) for a in range(4)], ["CTC", "AWP", "TrimTail", "MWER"]),
    "one series": plane(spread(6), [LONG], series="one"),
    "one series of many, on top of each other": plane([(1.0, 1.0)] * 30, [LONG], series="one"),
}


@pytest.mark.parametrize("name", PLANES)
def test_tradeoff(name: str, check: Callable[..., list[str]]) -> None:
    summary = PLANES[name]
    said = " ".join(check(plots, plots.tradeoff, summary, "x", "y"))
    joined = "".join(said.split())
    for arm in [*summary["arms"].values()][:1]:
        assert "".join(arm["label"].split()) in joined, "a name is wrapped, never cut"
    assert all(0 <= float(t) <= 100 for t in said.split(" (")[0].split() if t.isdigit())


SENTENCE = [{"word": text, "start": 0.1 * k, "end": 0.1 * k + 0.08} for k, text in enumerate(["a", WORD, *"bcdefgh"])]
HEARD: Mapping[str, dict[str, list[tuple[str, float]]]] = {
    "nothing": {"CTC": [], "AWP": []},
    "one": {"CTC": [("a", 0.0)]},
    "long names": {LONG: [("a", 0.2)], WORD: [("b", 0.4)], LONG * 3: []},
    "nasty names": {name: [("a", 0.1)] for name in NAMES},
    "all at once": {"CTC": [(text, 0.5) for text in "abcdefgh"], "AWP": [(WORD, 0.5)] * 9},
    "many": {f"arm {place}": [(LONG, 0.1 * k) for k in range(12)] for place in range(20)},
    "very late": {"CTC": [("a", 1000.0)], "AWP": [("a", 0.01)]},
    "silent, many": {f"{place} {LONG}": [] for place in range(20)},
}


@pytest.mark.parametrize("name", HEARD)
def test_timeline(name: str, check: Callable[..., list[str]]) -> None:
    sound = RAND.normal(0, 0.1, 8000).astype(np.float32)
    said = check(timeline, timeline.timeline, sound, 8000, SENTENCE, HEARD[name])
    assert not any(text.startswith("-") for text in said)


def test_an_arm_without_a_word_has_no_blank_row(check: Callable[..., list[str]]) -> None:
    sound = np.zeros(8000, np.float32)
    said = check(timeline, timeline.timeline, sound, 8000, SENTENCE, {"heard": [("a", 0.3)], "deaf": []})
    assert "heard" in said
    assert "deaf" not in said
    assert "No word emitted: deaf" in said


CURVES: Mapping[str, tuple[dict[str, list[float]], str]] = {
    "one": ({"a": [3.0]}, "the end"),
    "long": ({LONG: [1.0, 2.0], WORD: [-5.0, 9.0]}, LONG),
    "nasty": ({name: [float(place)] for place, name in enumerate(NAMES)}, "the end"),
    "many": ({f"{place} {LONG}": [float(place)] * 3 for place in range(30)}, "the end"),
    "huge": ({"a": HUGE, "b": [0.0]}, "the end"),
    "tiny": ({"a": [1e-9, 2e-9]}, "the end"),
}


@pytest.mark.parametrize("name", CURVES)
def test_delay_curves(name: str, check: Callable[..., list[str]]) -> None:
    check(delays, delays.delay_curves, *CURVES[name])


SPECTRA: Mapping[str, dict[str, list[float]]] = {
    "one": {"a": [3.0]},
    "two": {"a": [3.0, 2.0]},
    "all alike": {"a": [1.0] * 40},
    "dead": {"a": [1.0, 1e-9, 0.0, 0.0]},
    "one direction": {"a": [1e9, *[1e-9] * 9]},
    "wide": {"a": [*np.geomspace(1, 1e-5, 5000)]},
    "nasty": {name: [1.0, 0.5, 0.3 / (place + 1)] for place, name in enumerate(NAMES)},
    "many": {f"{place} {LONG}": [*np.linspace(1, 0, 99 + place)] for place in range(30)},
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra(name: str, check: Callable[..., list[str]]) -> None:
    assert [text for text in check(embedding_plots, embedding_plots.spectrum_plot, SPECTRA[name]) if text[0].isdigit()]


CLOUD = (RAND.normal(size=99) / 3).tolist()
COSINES: Mapping[str, Mapping[str, Any]] = {
    "one": {"a": [0.3]},
    "all the same": {"a": [1.0] * 9},
    "opposites": {"a": [-1.0, 1.0]},
    "very near": {"a": [0.999999, 0.999998], "b": [0.9999995]},
    "nasty": {name: {name: CLOUD, "b": CLOUD} for name in NAMES},
    "many kinds": {f"{place} {LONG}": CLOUD for place in range(20)},
    "many models": {f"{place} {LONG}": {LONG: CLOUD, "pairs": CLOUD} for place in range(20)},
}


@pytest.mark.parametrize("name", COSINES)
def test_cosines(name: str, check: Callable[..., list[str]]) -> None:
    assert "cosine" in check(embedding_plots, embedding_plots.similarity_plot, COSINES[name])


MAPS: Mapping[str, tuple[dict[str, Any], list[str]]] = {
    "one": ({"a": [[0.0, 0.0]]}, ["x"]),
    "long": ({LONG: RAND.normal(size=(9, 2)), WORD: RAND.normal(size=(9, 2))}, [LONG, WORD, "a"] * 3),
    "nasty": ({name: RAND.normal(size=(16, 2)) for name in NAMES}, NAMES * 2),
    "many": ({f"{place} {LONG}": RAND.normal(size=(40, 2)) for place in range(11)}, [f"{p} {LONG}" for p in range(40)]),
    "huge": ({"a": [[1e30, 1.0], [-1e30, 1.0]]}, ["x", "y"]),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str, check: Callable[..., list[str]]) -> None:
    check(embedding_plots, embedding_plots.map_plot, *MAPS[name])


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_text_columns(count: int) -> None:
    texts = ["", "two words", LONG, WORD, " ".join("語彙" * 4 for _ in range(9))]
    root = ElementTree.fromstring(text_columns(LONG * 4, {f"{place} {LONG} {WORD}": texts for place in range(count)}))
    boxes = []
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, line = float(element.get("x", 0)), float(element.get("y", 0)), "".join(element.itertext())
        boxes.append((x, y - 11, x + width(line, 11, "bold" if element.get("class") == "name" else "normal"), y + 3))
    assert all(x0 >= 0 and x1 <= float(root.get("width", 0)) for x0, _, x1, _ in boxes)
    assert all(y0 >= 0 and y1 <= float(root.get("height", 0)) for _, y0, _, y1 in boxes)
    for (a0, b0, a1, b1), (c0, d0, c1, d1) in itertools.combinations(boxes, 2):
        assert a1 <= c0 or c1 <= a0 or b1 <= d0 or d1 <= b0


def test_no_letter_is_lost_in_wrapping() -> None:
    for text in (LONG, WORD, f"a {WORD} b", ""):
        lines = wrap(text, 60.0, 9)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(width(line, 9) <= 60 for line in lines)
    assert width("語" * 10, 9) >= 90, "such a letter is as wide as it is tall"


def test_lanes_are_taken_from_the_lowest() -> None:
    boxes = [(float(a), float(a) + 1.5) for a in range(6)]
    assert lanes(boxes, 2) == [0, 1, 0, 1, 0, 1]
    assert lanes(boxes, 1) == [0, None, 0, None, 0, None]
