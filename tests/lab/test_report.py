"""The page and the terminal table made from a run directory."""

import base64
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import wave
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from kilter.lab.plots import tradeoff
from kilter.lab.report import compare, load_summary, rows, table, write_report
from kilter.lab.timeline import timeline

RATE = 8000


def estimate(mean, low=None, high=None):
    return {"mean": mean, "low": low, "high": high}


def arm(label, role, wer, delay, p90):
    metrics = {"wer": estimate(*wer), "delay_ms": estimate(*delay), "delay_p90_ms": estimate(*p90)}
    return {"label": label, "role": role, "seeds": [0, 1], "metrics": metrics, "cost": {"cost_seconds": 34.2}}


def summary_of_a_run():
    return {
        "method": "align-with-purpose",
        "title": "Align With Purpose: Optimize Desired Properties in CTC Models with a General Plug-and-Play Framework",
        "paper": {
            "authors": "E. Segev, M. Alroy, R. Katsir, N. Wies and others",
            "year": 2024,
            "venue": "ICLR",
            "url": "https://arxiv.org/abs/2307.01715",
        },
        "purpose": "A streaming recogniser trained with CTC may write each word long after it was said. One more "
        "loss term asks it to write the same words sooner.",
        "preset": "demo",
        "command": "kilter run align-with-purpose --preset demo",
        "created": "2026-11-24T06:46:47+00:00",
        "versions": {"kilter": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.2"},
        "commit": "0123abc",
        "hardware": "2 cores of an x86-64 CPU",
        "settings": {"steps": 450, "warm_up": 1200, "weight": 1.0, "samples": 5, "learning_rate": 0.001},
        "data": {
            "title": "Free Spoken Digit Dataset, joined into digit strings",
            "licence": "CC BY-SA 4.0",
            "attribution": "Zohar Jackson and the Free Spoken Digit Dataset contributors",
            "page": "https://github.com/Jakobovski/free-spoken-digit-dataset",
            "source": "the folder KILTER_DATA names",
            "synthetic": False,
            "note": "Pauses between digits are random, so the end of every word is known exactly.",
            "skipped": [["7_theo_3.wav", "empty file"]],
        },
        "metrics": {
            "wer": {"label": "Word error rate", "unit": "%", "better": "lower", "digits": 2},
            "delay_ms": {"label": "Mean emission delay", "unit": "ms", "better": "lower", "digits": 0},
            "delay_p90_ms": {"label": "Delay, 90th percentile", "unit": "ms", "better": "lower", "digits": 0},
        },
        "baseline": "ctc",
        "arms": {
            "ctc": arm(
                "CTC only, the same extra steps",
                "baseline",
                (0.21, 0.08, 0.36),
                (380, 371, 389),
                (452, 441, 464),
            ),
            "awp": arm("CTC + Align With Purpose", "method", (0.35, 0.17, 0.56), (179, 170, 188), (268, 255, 281)),
            "residual": arm(
                "CTC, residual convolutions",
                "context",
                (1.8, 1.38, 2.25),
                (-187, -194, -180),
                (-92, -101, -83),
            ),
        },
        "interval": "95 % bootstrap over utterances",
        "differences": {
            "awp": {
                "wer": estimate(0.14, -0.06, 0.34),
                "delay_ms": estimate(-201, -209, -193),
                "delay_p90_ms": estimate(-184, -197, -171),
            }
        },
        "verdicts": [
            {
                "claim": "Words are emitted at least 150 ms sooner, at a word error rate within half a point.",
                "verdict": "holds in direction",
                "why": "Both intervals clear the claim, but two seeds are fewer than the five a full verdict asks.",
            }
        ],
        "notes": [
            "The residual model does not drift: it writes words before they end. If yours is like it, there is "
            "nothing here to cure.",
        ],
        "figures": [
            {
                "title": "What the shorter delay costs in accuracy",
                "caption": "Down and left is better. Bars are the intervals of the table.",
                "file": "figures/tradeoff.svg",
                "audio": None,
            },
            {
                "title": "“three five nine”",
                "caption": "A bar runs from the true end of a word to where it was written.",
                "file": "figures/utterance-1.svg",
                "audio": "figures/utterance-1.wav",
            },
        ],
    }


def write_run(run, summary):
    """A run directory as the lab leaves it, with a second of noise for a voice."""
    (run / "figures").mkdir(parents=True)
    audio = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    words = [{"word": "three", "start": 0.1, "end": 0.3}, {"word": "five", "start": 0.4, "end": 0.6}]
    emitted = {"ctc": [("three", 0.7), ("five", 0.95)], "awp": [("three", 0.5), ("nine", 0.8)]}
    (run / "figures/tradeoff.svg").write_text(tradeoff(summary), "utf-8")
    (run / "figures/utterance-1.svg").write_text(timeline(audio, RATE, words, emitted), "utf-8")
    with wave.open(str(run / "figures/utterance-1.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((audio * 2**15).astype("<i2").tobytes())
    (run / "summary.json").write_text(json.dumps(summary), "utf-8")
    return run


def resummarise(run, **changes):
    (run / "summary.json").write_text(json.dumps({**summary_of_a_run(), **changes}), "utf-8")


def printed(item):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(item)
    return console.export_text()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("lab") / "run", summary_of_a_run())


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def page(finished_run):
    return write_report(finished_run).read_text("utf-8")


class Tags(HTMLParser):
    """Every start tag of a page with its attributes, in order."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def named(self, *names):
        return [attributes for tag, attributes in self.found if tag in names]


def test_page_fetches_nothing_and_runs_nothing(page):
    tags = Tags(page)
    addresses = [value for _, a in tags.found for key, value in a.items() if key in ("src", "xlink:href")]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not tags.named("script", "link", "iframe", "object")
    assert "default-src 'none'" in tags.named("meta")[3]["content"]
    assert "http" not in "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))


def test_page_plays_the_audio_of_the_run(page, finished_run):
    (audio,) = Tags(page).named("audio")
    kind, data = audio["src"].split(",")
    assert kind == "data:audio/wav;base64"
    assert base64.b64decode(data) == (finished_run / "figures/utterance-1.wav").read_bytes()


def test_ids_are_unique_and_every_reference_resolves(page):
    ids = [attributes["id"] for _, attributes in Tags(page).found if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|aria-(?:labelledby|describedby)="([^"]+)"', page)
    assert {a or b or c for a, b, c in used} <= set(ids)


def test_page_is_navigable_without_sight(page):
    tags = Tags(page)
    levels = [int(tag[1]) for tag, _ in tags.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all("scope" in attributes for attributes in tags.named("th"))
    assert all(attributes["role"] == "img" for attributes in tags.named("svg"))
    assert page.count("<svg") == page.count("<desc>") == 2
    assert all(attributes["aria-label"] for attributes in tags.named("audio"))


def test_purpose_then_verdict_then_numbers_then_the_rest(page):
    order = [
        "One more loss term",
        "Holds in direction",
        "Before and after",
        "<strong>179</strong>",
        "<table",
        "<svg",
    ]
    places = [page.index(text) for text in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "text",
    [
        "−201 ms", "−209 to −193", "+0.14 points", "no clear change", "1.38 to 2.25", "awp − ctc",
        "CC BY-SA 4.0", "Zohar Jackson", "7_theo_3.wav", "empty file", "Real data", "0123abc",
        "kilter run align-with-purpose --preset demo", "torch 2.13.0", "warm_up", "34.2", "ICLR",
        "95 % bootstrap over utterances", "does not drift",
    ],
)  # fmt: skip
def test_page_says(page, text):
    assert text in page


def test_same_run_same_bytes(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert len(first) < 300_000


def test_a_failed_report_leaves_the_old_one(run, monkeypatch):
    before = write_report(run).read_bytes()

    def full_disk(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert {path.name for path in run.iterdir()} == {"figures", "report.html", "summary.json"}


def test_words_of_others_are_escaped(run):
    resummarise(run, purpose="<script>alert(1)</script> & more")
    page = write_report(run).read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page


def test_synthetic_data_are_said_in_page_and_terminal(run, page):
    data = {**summary_of_a_run()["data"], "synthetic": True}
    resummarise(run, data=data)
    said = "The data in this run are synthetic."
    assert said in write_report(run).read_text("utf-8")
    assert said not in page
    assert said in printed(table(load_summary(run)))


def test_a_smoke_run_has_no_verdicts(run, page):
    claim = summary_of_a_run()["verdicts"][0]["claim"]
    assert claim in page
    resummarise(run, preset="smoke")
    page = write_report(run).read_text("utf-8")
    assert claim not in page
    assert "No verdicts: the preset smoke only tries whether all runs" in page


def test_a_run_without_its_baseline_has_no_before(run):
    summary = summary_of_a_run()
    resummarise(
        run, baseline=None, arms={"awp": summary["arms"]["awp"]}, differences={}, verdicts=[], notes=[], figures=[]
    )
    page = write_report(run).read_text("utf-8")
    assert "Before and after" not in page
    assert "179" in page


def test_before_and_after_are_of_the_method_itself(run):
    summary = summary_of_a_run()
    ablated = {**summary["arms"]["awp"], "label": "Without a part"}
    arms = {"ctc": summary["arms"]["ctc"], "less": ablated, "awp": summary["arms"]["awp"]}
    both = {"less": summary["differences"]["awp"], "awp": summary["differences"]["awp"]}
    changes = {"arms": arms, "differences": both, "verdicts": [], "notes": [], "figures": []}
    resummarise(run, method="awp", **changes)
    assert "After: CTC + Align With Purpose." in write_report(run).read_text("utf-8")
    resummarise(run, method="align-with-purpose", **changes)
    assert "After: Without a part." in write_report(run).read_text("utf-8")


def test_rows_read_differences_by_the_better_direction():
    summary = summary_of_a_run()
    summary["metrics"]["wer"]["better"] = "higher"
    summary["differences"]["awp"] = {"wer": estimate(0.14, 0.02, 0.3), "delay_ms": estimate(9.0, 2.0, 16.0)}
    *_, difference = rows(summary)
    assert [cell.reading for cell in difference.cells] == ["better", "worse", ""]
    assert [cell.value for cell in difference.cells] == ["+0.14", "+9", "–"]


def test_one_seed_has_numbers_without_intervals():
    summary = summary_of_a_run()
    summary["differences"]["awp"]["wer"] = estimate(-0.001)
    cell = rows(summary)[-1].cells[0]
    assert (cell.value, cell.interval, cell.reading) == ("+0.00", "", "")


def test_terminal_table_has_what_the_page_has():
    shown = table(summary_of_a_run())
    text = printed(shown)
    for said in (
        "CTC only",
        "ctc · 2 seeds",
        "170 to 188",
        "awp − ctc",
        "no clear change",
        "lower is better",
    ):
        assert said in text
    assert "95 % bootstrap over utterances" in text
    assert [row.style for row in shown.rows] == ["", "bold", "dim", "italic"]


def test_compare_two_runs(finished_run, run):
    summary = summary_of_a_run()
    summary["arms"]["awp"]["metrics"]["delay_ms"] = estimate(150.0, 141.0, 159.0)
    del summary["arms"]["residual"]
    resummarise(run, arms=summary["arms"], settings={**summary["settings"], "steps": 900})
    shown, facts = compare(finished_run, run)
    assert list(facts["arms"]) == ["ctc", "awp"]
    assert facts["arms"]["awp"]["delay_ms"]["change"] == -29
    assert facts["differs"] == {"steps": {"a": 450, "b": 900}}
    assert json.loads(json.dumps(facts)) == facts
    text = printed(shown)
    assert "−29" in text
    assert "steps 450 → 900" in text


def test_compare_says_when_nothing_differs(finished_run):
    assert "Same settings" in printed(compare(finished_run, finished_run)[0])


def test_compare_needs_something_shared(finished_run, run):
    resummarise(run, arms={"other": summary_of_a_run()["arms"]["ctc"]})
    with pytest.raises(ValueError, match="share no arm and metric: arms ctc, awp, residual against other"):
        compare(finished_run, run)


def test_errors_name_the_file_and_the_mend(run):
    (run / "figures/utterance-1.wav").rename(run / "figures/utterance-1.aiff")
    with pytest.raises(ValueError, match=r"utterance-1\.wav: no such file"):
        write_report(run)
    figures = [{**summary_of_a_run()["figures"][1], "audio": "figures/utterance-1.aiff"}]
    resummarise(run, figures=figures)
    with pytest.raises(ValueError, match=r"utterance-1\.aiff: a report plays \.wav"):
        write_report(run)
    (run / "summary.json").write_text('{"method": "x"}', "utf-8")
    with pytest.raises(ValueError, match=r"summary\.json: no title, paper, .*kilter run"):
        write_report(run)
    (run / "summary.json").write_text('{"method": ', "utf-8")
    with pytest.raises(ValueError, match=r"summary\.json is not JSON"):
        write_report(run)
    (run / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"summary\.json: no such file"):
        write_report(run)


def test_what_was_not_measured_leaves_no_blank_rows(run):
    summary = summary_of_a_run()
    summary["arms"]["awp"]["metrics"].pop("delay_ms")
    summary["arms"]["residual"]["metrics"] = {}
    summary["differences"]["awp"] = {"wer": estimate(0.14, -0.06, 0.34)}
    summary["data"] |= {"attribution": "", "source": ""}
    summary["settings"] |= {"language": None, "arms": []}
    resummarise(run, **summary)
    page = write_report(run).read_text("utf-8")
    assert page.count('<article class="card">') == 1
    assert "None of these figures: CTC, residual convolutions." in page
    assert not re.search(r"<dd>\s*</dd>", page)
    assert "<dd>not set</dd>" in page
    assert [row.label for row in rows(summary, most=1)] == [
        "CTC only, the same extra steps", "CTC + Align With Purpose", "awp − ctc",
    ]  # fmt: skip
    assert "None of these figures: CTC, residual" in printed(table(summary)).replace("\n", " ")


LONG = "https://example.org/" + "averylongaddresswithoutanybreak" * 9


@pytest.mark.parametrize("width", [390, 1280])
def test_long_addresses_do_not_widen_the_page(run, width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser to lay the page out with")
    summary = summary_of_a_run()
    summary["arms"]["awp"]["label"] = summary["notes"][0] = summary["purpose"] = summary["command"] = LONG
    summary["title"] = summary["hardware"] = summary["commit"] = summary["settings"]["model"] = LONG
    summary["paper"]["url"] = summary["paper"]["venue"] = summary["interval"] = LONG
    summary["metrics"]["wer"]["label"] = summary["verdicts"][0]["why"] = summary["figures"][0]["caption"] = LONG
    summary["data"] |= {"title": LONG, "source": LONG, "synthetic": True, "note": LONG, "skipped": [[LONG, LONG]]}
    resummarise(run, **summary)
    page = write_report(run).read_text("utf-8").replace("<details>", "<details open>")
    page = re.sub("<meta http-equiv[^>]*>", "", page)
    script = "document.title = document.getElementById('frame').contentDocument.documentElement.scrollWidth"
    frame = f'<iframe id="frame" width="{width}" height="900" srcdoc="{escape(page)}"></iframe>'
    (tmp_path / "frame.html").write_text(f"{frame}<script>onload = () => {{{script}}}</script>", "utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "frame.html").as_uri()
    done = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<title>(\d+)</title>", done.stdout)
    assert found is not None
    assert int(found[1]) <= width
