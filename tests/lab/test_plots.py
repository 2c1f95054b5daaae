"""Figures: themed, accessible, the same bytes every time, and true to the numbers they are given."""

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from kilter.lab.plots import tradeoff
from kilter.lab.theme import PALETTE, theme_css
from kilter.lab.timeline import timeline

RATE = 8000
WORDS = [
    {"word": "three", "start": 0.1, "end": 0.3},
    {"word": "five", "start": 0.4, "end": 0.6},
]
ARMS = {"CTC only": [("three", 0.7), ("five", 0.9)], "CTC + AWP": [("three", 0.4), ("nine", 0.7)]}
SUMMARY = {
    "metrics": {
        "wer": {"label": "Word error rate", "unit": "%", "better": "lower"},
        "delay_ms": {"label": "Mean emission delay", "unit": "ms", "better": "lower"},
    },
    "baseline": "ctc",
    "arms": {
        "ctc": {
            "label": "CTC only",
            "role": "baseline",
            "metrics": {
                "wer": {"mean": 0.21, "low": 0.1, "high": 0.3},
                "delay_ms": {"mean": 380.0, "low": 370.0, "high": 390.0},
            },
        },
        "awp": {
            "label": "CTC + AWP <1>",
            "role": "method",
            "metrics": {
                "wer": {"mean": 0.35, "low": None, "high": None},
                "delay_ms": {"mean": 179.0, "low": 170.0, "high": 188.0},
            },
        },
        "residual": {
            "label": "Residual",
            "role": "context",
            "metrics": {"wer": {"mean": 1.8}, "delay_ms": {"mean": -187.0}},
        },
        "unfinished": {"label": "Unfinished", "role": "method", "metrics": {"wer": {"mean": None}}},
    },
}


def noise(seconds=1.0):
    return np.random.default_rng(0).normal(0, 0.1, round(RATE * seconds)).astype(np.float32)


def drawn(svg: str) -> str:
    """What is drawn, without the style sheet."""
    return svg.partition("</style>")[2]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def spoken(svg):
    (description,) = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}desc")
    return description.text


@pytest.fixture(scope="module", params=["tradeoff", "timeline"])
def draw(request):
    if request.param == "tradeoff":
        return lambda: tradeoff(SUMMARY)
    return lambda: timeline(noise(), RATE, WORDS, ARMS)


def test_figures_repeat_whatever_the_users_matplotlibrc(draw):
    once = draw()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert draw() == once


def test_figures_repeat_in_another_process():
    drawn = timeline(noise(), RATE, WORDS, ARMS)
    script = (
        "import json, sys, numpy as np; from kilter.lab.timeline import timeline\n"
        "audio, words, arms = json.load(sys.stdin)\n"
        "arms = {name: [tuple(emission) for emission in row] for name, row in arms.items()}\n"
        "sys.stdout.buffer.write(timeline(np.array(audio, 'f4'), 8000, words, arms).encode())"
    )
    told = json.dumps([noise().tolist(), WORDS, ARMS]).encode()
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], input=told, env=environment, capture_output=True, check=True)
    assert done.stdout.decode() == drawn


def test_figures_follow_the_theme_and_say_what_they_show(draw):
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert "#fe01" not in svg
    assert set(re.findall(r"var\(--([^)]+)\)", svg)) <= set(PALETTE)
    assert theme_css() in svg
    assert "<metadata>" not in svg
    assert "font-family: " not in svg
    assert spoken(svg)


def test_tradeoff_labels_every_arm_that_has_both_metrics():
    svg = tradeoff(SUMMARY)
    assert {"CTC only", "CTC + AWP <1>", "Residual"} <= set(texts(svg))
    assert "Unfinished" not in texts(svg)
    assert spoken(svg).endswith("CTC only: 380, 0.21; CTC + AWP <1>: 179, 0.35; Residual: −187, 1.8")
    assert "Word error rate, %  (←\N{NO-BREAK SPACE}better)" in texts(svg)


def test_tradeoff_points_to_the_better_side():
    metrics = {**SUMMARY["metrics"], "wer": {"label": "Accuracy", "unit": "%", "better": "higher"}}
    assert "Accuracy, %  (better\N{NO-BREAK SPACE}→)" in texts(tradeoff({**SUMMARY, "metrics": metrics}))


def test_costs_that_differ_by_orders_of_magnitude_have_a_logarithmic_axis():
    costs = {"ctc": (2e5, -1e5, 5e5), "awp": (900.0, 800.0, 1000.0)}  # an interval over three seeds may end below 0
    arms = {
        arm: {**one, "metrics": {**one["metrics"], "ms": dict(zip(("mean", "low", "high"), costs[arm], strict=True))}}
        for arm, one in SUMMARY["arms"].items()
        if arm in costs
    }
    metrics = SUMMARY["metrics"] | {
        "ms": {"label": "A query", "unit": "ms", "better": "lower", "bounds": (0.0, None), "log": True}
    }
    svg = tradeoff({**SUMMARY, "metrics": metrics, "arms": arms}, x="ms")
    assert {"1,000", "10,000", "100,000"} <= {*texts(svg)}


def test_tradeoff_without_points_is_an_error():
    with pytest.raises(ValueError, match="no arm has both 'bleu' and 'wer'; the summary's metrics are wer, delay_ms"):
        tradeoff(SUMMARY, x="bleu")


def test_timeline_measures_delays_from_the_true_ends():
    svg = timeline(noise(), RATE, WORDS, ARMS)
    assert spoken(svg) == "CTC only: three five, mean +350 ms; CTC + AWP: three nine, mean +100 ms"
    assert [text for text in texts(svg) if text.startswith("+")] == ["+400", "+300", "+100"]


def test_timeline_of_early_missing_and_late_tokens():
    arms = {"early": [("five", 0.5)], "silent": [], "late": [("five", 2.5)]}
    svg = timeline(noise(), RATE, WORDS, arms)
    assert spoken(svg) == "early: five, mean −100 ms; silent: no word emitted; late: five, mean +1900 ms"
    assert "2.5" in texts(svg)  # the axis reaches the late one


@pytest.mark.parametrize("audio", [np.zeros(RATE), np.zeros(0), noise(0.001)], ids=["silent", "empty", "click"])
def test_timeline_of_hardly_any_sound(audio):
    with np.errstate(all="raise"):
        ElementTree.fromstring(timeline(audio, RATE, WORDS, ARMS))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", sorted(set(PALETTE) - {"page", "panel", "grid"}))
@pytest.mark.parametrize("ground", ["page", "panel"])
def test_text_colours_meet_wcag_aa(name, ground, theme):
    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    dim, bright = sorted(luminance(PALETTE[key][theme]) for key in (name, ground))
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_arms_of_one_series_are_joined_and_labelled_by_their_strength() -> None:
    def arm(label: str, series: str, point: str, wer: float, delay: float) -> dict:
        metrics = {"wer": {"mean": wer}, "delay_ms": {"mean": delay}}
        return {"label": label, "role": "method", "series": series, "point": point, "metrics": metrics}

    several = {f"awp-{i}": arm(f"AWP {i}", "awp", str(i), 0.1 * i, 400.0 - 100 * i) for i in (1, 2, 3)}
    svg = tradeoff({**SUMMARY, "arms": {"ctc": SUMMARY["arms"]["ctc"], **several}})
    assert {"AWP 1", "2", "3"} <= set(texts(svg))
    assert "AWP 2" not in texts(svg)
    colours = {name for name, (light, _) in PALETTE.items() if name.startswith("series") and f": {light}" in drawn(svg)}
    assert colours == {"series-1"}


@pytest.mark.parametrize("name", sorted(PALETTE))
def test_colours_are_there_without_css_variables_and_follow_the_theme_with_them(name: str) -> None:
    svg, light = tradeoff(SUMMARY), PALETTE[name][0]
    assert "var(" not in drawn(svg)
    names = [other for other, (same, _) in PALETTE.items() if same == light]  # two may be one in the light
    rules = [f'[style*="fill: {light}"]{{fill:var(--{other})!important}}' for other in names]
    assert sum(rule in svg.partition("@supports")[2] for rule in rules) == 1
    assert len({PALETTE[other] for other in names}) == 1
