"""Figures along an axis and of positions: true to their numbers, themed, and clear about what cannot be drawn."""

import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from kilter.lab.curves import metric_curves
from kilter.lab.position_maps import position_maps
from kilter.lab.theme import PALETTE, theme_css

AT = {128.0: "p1", 256.0: "p2", 2048.0: "p16"}


def summary(better: str = "lower", **arms: list[float | None]) -> dict[str, Any]:
    """Of arms with a mean at each place, and an interval around it."""
    made = {
        name: {
            "label": name.title(),
            "metrics": {
                key: {"mean": mean, "low": mean * 0.9, "high": mean * 1.1}
                for key, mean in zip(AT.values(), means, strict=True)
                if mean is not None
            },
        }
        for name, means in arms.items()
    }
    return {"baseline": "rope", "metrics": {key: {"better": better} for key in AT.values()}, "arms": made}


NEAR = summary(rope=[9.0, 10.0, 30.0], seqpe=[9.0, 9.0, 9.0])
FAR = summary(rope=[9.0, 100.0, 2000.0], seqpe=[9.0, 9.0, 9.0])
SQUARE = np.exp(-np.abs(np.subtract.outer(np.arange(300), np.arange(300))) / 40)

DRAW: dict[str, Callable[[], str]] = {
    "curves": lambda: metric_curves(FAR, AT, across="tokens", up="perplexity", log="xy", mark=128),
    "maps": lambda: position_maps({"before": np.ones((4, 4)), "after": SQUARE}, (0, 300), across="position", mark=64),
}


def texts(svg: str, tag: str = "text") -> list[str]:
    found = ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return ["".join(element.itertext()) for element in found]


@pytest.mark.parametrize("name", DRAW)
def test_figures_are_themed_say_what_they_show_and_repeat(name: str) -> None:
    svg = DRAW[name]()
    assert ElementTree.fromstring(svg).get("role") == "img"
    assert texts(svg, "title")
    assert all(texts(svg, "desc"))
    assert "#fe01" not in svg
    assert set(re.findall(r"var\(--([^)]+)\)", svg)) <= set(PALETTE)
    assert theme_css() in svg
    assert len(svg) < 200_000
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert DRAW[name]() == svg


class TestCurves:
    def test_each_arm_is_told_with_its_figures(self) -> None:
        svg = DRAW["curves"]()
        assert texts(svg, "desc") == ["Rope: 9 at 128, 100 at 256, 2000 at 2048; Seqpe: 9 at 128, 9 at 256, 9 at 2048"]
        assert {"Rope", "Seqpe", "tokens", "128", "256", "2,048"} <= {*texts(svg)}
        assert "perplexity  (← better)" in " ".join(texts(svg)).replace("\N{NO-BREAK SPACE}", " ")

    def test_the_axis_up_is_logarithmic_only_where_figures_are_far_apart(self) -> None:
        told = [texts(metric_curves(one, AT, across="tokens", up="perplexity", log="xy")) for one in (NEAR, FAR)]
        assert {"100", "1,000"} <= {*told[1]}
        assert {"15", "20", "25"} <= {*told[0]}
        assert "15" not in told[1]

    def test_intervals_are_bands(self) -> None:
        """A band for each arm, which no bars of others hide."""
        assert DRAW["curves"]().count("FillBetween") == 2

    def test_what_was_not_measured_is_left_out(self) -> None:
        some = summary("higher", rope=[None, 3.0, None], seqpe=[None, None, None])
        assert texts(metric_curves(some, AT, across="x", up="y"), "desc") == ["Rope: 3 at 256"]
        with pytest.raises(ValueError, match="no arm has any of p1, p2, p16"):
            metric_curves(summary(rope=[None, None, None]), AT, across="x", up="y")


class TestMaps:
    def test_the_scale_is_centred_at_0(self) -> None:
        """Nothing below 0 is there, and yet it goes as far down as up."""
        svg = position_maps({"after": SQUARE}, (0, 300), across="position")
        ticks = {float(one.replace("\N{MINUS SIGN}", "-")) for one in texts(svg) if one[:1] in "\N{MINUS SIGN}01"}
        assert {-1.0, 0.0, 1.0} <= ticks

    def test_a_map_says_how_cosines_fall(self) -> None:
        near, far = np.exp(-4 / 40), np.exp(-225 / 40)
        said = texts(DRAW["maps"](), "desc")[0]
        assert said.endswith(f"after: cosine {near:.2f} near by, {far:.2f} far away")

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({}, "nothing to draw"),
            ({"a": np.ones((2, 3))}, "a must be a square of finite cosines, got (2, 3)"),
            ({"a": np.full((2, 2), np.nan)}, "a must be a square of finite cosines"),
            ({"a": np.ones((0, 0))}, "a must be a square of finite cosines"),
        ],
    )
    def test_what_cannot_be_drawn_is_named(self, given: Any, said: str) -> None:
        with pytest.raises(ValueError, match=re.escape(said)):
            position_maps(given, (0, 1), across="position")
