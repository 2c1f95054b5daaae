"""The figure of delays: what it says in words, that it stays small, and that it follows the reader's theme."""

import re

import numpy as np
import pytest

from kilter.lab.delays import delay_curves
from kilter.lab.theme import PALETTE


def test_it_says_what_it_shows() -> None:
    svg = delay_curves({"before": [100.0, 200.0, 300.0], "after": [-50.0, 50.0], "silent": []}, "the end of the word")
    assert "before: median +200 ms, 0 % early" in svg
    assert "after: median 0 ms, 50 % early" in svg.replace("+0", "0")
    assert "silent" not in svg
    assert "<title>When words come, after the end of the word</title>" in svg
    assert f"stroke: {PALETTE['series-1'][0]}" in svg
    assert "#fe01" not in svg


def test_it_stays_small_and_repeats() -> None:
    delays = np.random.default_rng(0).normal(size=50_000).tolist()
    svg = delay_curves({"a": delays}, "the end")
    assert len(svg) < 60_000
    assert svg == delay_curves({"a": delays}, "the end")


def test_many_models_have_a_line_of_their_own() -> None:
    svg = delay_curves({f"model {place}": [float(place)] for place in range(7)}, "the end")
    named = "|".join(light for name, (light, _) in PALETTE.items() if name.startswith(("series", "baseline")))
    styles = re.findall(rf"stroke: ({named})[^\"]*", svg)
    assert len(set(styles)) == 5


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no model has a word in common"):
        delay_curves({"a": []}, "the end")
