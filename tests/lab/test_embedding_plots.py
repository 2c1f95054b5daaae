"""Figures of vectors: true to their numbers, themed, small, and clear about what cannot be drawn."""

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from kilter.lab.embedding_plots import map_plot, similarity_plot, spectrum_plot
from kilter.lab.theme import PALETTE, theme_css

RAND = np.random.default_rng(0)
SPECTRA = {"before": [0.75, 0.25, 0.0], "after": [1.0, 1.0, 1.0]}
COSINES = {"before": {"random": [0.9, 0.8], "pairs": [0.95]}, "after": {"random": [-0.1, 0.1], "pairs": [0.7, 0.8]}}
POINTS = {"before": RAND.normal(size=(6, 2)), "after": RAND.normal(size=(6, 2))}
GROUPS = ["de", "en", "fr"] * 2

DRAW: dict[str, Callable[[], str]] = {
    "spectrum": lambda: spectrum_plot(SPECTRA),
    "similarity": lambda: similarity_plot(COSINES),
    "map": lambda: map_plot(POINTS, GROUPS),
}


def texts(svg: str, tag: str = "text") -> list[str]:
    found = ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return ["".join(element.itertext()) for element in found]


@pytest.mark.parametrize("name", DRAW)
def test_figures_are_themed_say_what_they_show_and_repeat(name: str) -> None:
    svg = DRAW[name]()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert texts(svg, "title")
    assert all(texts(svg, "desc"))
    assert "#fe01" not in svg
    assert set(re.findall(r"var\(--([^)]+)\)", svg)) <= set(PALETTE)
    assert theme_css() in svg
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert DRAW[name]() == svg


def test_the_spectrum_says_how_many_directions_count() -> None:
    svg = spectrum_plot(SPECTRA)
    rank = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert f"before: effective rank {rank:.1f} of 3" in texts(svg)
    assert "after: effective rank 3.0 of 3" in texts(svg)
    assert "all 3 directions alike" in texts(svg)
    assert "first direction 75.0 %" in texts(svg, "desc")[0]
    assert "alike" not in " ".join(texts(spectrum_plot({"a": [1.0], "b": [2.0, 1.0]})))


def test_each_model_has_its_panel_and_the_means_are_said() -> None:
    svg = similarity_plot(COSINES)
    assert {"before", "random: mean 0.85; pairs: mean 0.95", "after", "random: mean 0.00; pairs: mean 0.75"} <= {
        *texts(svg)
    }
    assert texts(svg, "desc") == [
        "before: random: mean 0.85; pairs: mean 0.95. after: random: mean 0.00; pairs: mean 0.75"
    ]
    flat = similarity_plot({"random": [0.9, 0.8], "none": [], "pairs": [0.95]})
    assert {"random: mean 0.85", "pairs: mean 0.95"} <= {*texts(flat)}
    assert "none" not in "".join(texts(flat))


def test_shares_are_drawn_whatever_the_number_of_pairs() -> None:
    """A thousand pairs and ten of one distribution are equally high."""
    few = [0.1, 0.5, 0.5, 0.9]
    svg = similarity_plot({"few": few, "many": few * 250})
    heights = [re.findall(r"[ML] [\d.]+ ([\d.]+)", path) for path in re.findall(r'd="(M[^"]+)" clip-path', svg)]
    lines = [path for path in heights if len(path) == 120]
    assert len(lines) == 2
    assert lines[0] == lines[1]


def test_the_map_has_a_look_for_each_group() -> None:
    svg = map_plot(POINTS, GROUPS)
    assert {"before", "after", "de", "en", "fr"} == {*texts(svg)}
    x, y = POINTS["before"][0::3].mean(0)
    assert f"before: de around ({x:g}, {y:g})".replace("-", "−") in texts(svg, "desc")[0]
    assert texts(map_plot({"a": [[0.0, 0.0], [0.0, 0.0]]}, ["all", "all"])) == ["a"], "one group needs no key"


def test_the_rarest_of_many_groups_share_a_look() -> None:
    groups = [f"language {place % 12}" for place in range(60)] + ["language 3"]
    said = texts(map_plot({"a": RAND.normal(size=(61, 2))}, groups))
    assert "3 others" in said
    assert "language 3" in said
    assert len(said) == 1 + 9 + 1


def test_they_stay_small() -> None:
    assert len(spectrum_plot({"a": np.geomspace(1, 1e-6, 5000).tolist()})) < 40_000
    assert len(similarity_plot({"a": (RAND.normal(size=100_000) / 9).tolist()})) < 40_000
    assert len(map_plot({"a": RAND.normal(size=(20_000, 2))}, ["x", "y"] * 10_000)) < 80_000


@pytest.mark.parametrize("values", [[], [0.0], [1.0, math.nan], [1.0, -1.0]])
def test_no_spectrum_is_an_error(values: list[float]) -> None:
    with pytest.raises(ValueError, match="curves: the singular values of a must be finite, not below 0 and not all 0"):
        spectrum_plot({"a": values})


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="curves: there is no model"):
        spectrum_plot({})
    for nothing in ({}, {"a": []}, {"a": {"random": []}}):
        with pytest.raises(ValueError, match="samples: there is no cosine"):
            similarity_plot(nothing)
    with pytest.raises(ValueError, match="points: there is no model"):
        map_plot({}, [])
    for given in ([[0.0, 1.0]], [[0.0], [1.0]], [[0.0, 1.0], [math.nan, 0.0]]):
        with pytest.raises(ValueError, match=re.escape("points of a must be finite and (2, 2), like groups; got")):
            map_plot({"a": given}, ["x", "y"])
