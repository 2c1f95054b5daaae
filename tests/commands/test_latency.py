"""`kilter latency`: figures that can be worked out by hand, every kind of reference, and what is wrong with one."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.commands.latency import _labels
from tests.own import letter_model, recordings, word_model

pytestmark = pytest.mark.host

SHIFT = 30.0  # of the small recogniser, in ms


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, recordings with texts, and the word times of the first in every form."""
    folder = tmp_path_factory.mktemp("own")
    a, b = word_model(folder / "models" / "a" / "model"), word_model(folder / "models" / "b" / "model", seed=3)
    assert a != b
    manifest = recordings(folder / "data", {name: "" for name in "abcdef"})
    for form, out in (("jsonl", "times.jsonl"), ("ctm", "times.ctm"), ("textgrid", "grids")):
        assert main(["align", str(manifest), "--model", str(a), "--format", form, "--out", str(folder / out)]) == 0
    times = {row["id"]: row for row in map(json.loads, (folder / "times.jsonl").read_text().splitlines())}
    assert sum(len(row["words"]) for row in times.values()) > 20
    (folder / "times.JSON").write_text(json.dumps([*times.values()]))
    cells = ('"' + json.dumps(row["words"]).replace('"', '""') + '"' for row in times.values())
    (folder / "times.csv").write_text("id,words\n" + "".join(map("{},{}\n".format, times, cells)))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    full = [row | {"text": times[row["audio"]]["text"], "words": times[row["audio"]]["words"]} for row in rows]
    (folder / "data" / "full.jsonl").write_text("".join(json.dumps(row) + "\n" for row in full))
    return folder


def measure(own: Path, out: Path, *arguments: object, data: str = "full.jsonl", models: str = "a") -> dict[str, Any]:
    chosen = [part for name in models for part in ("--model", str(own / "models" / name / "model"))]
    assert main(["latency", str(own / "data" / data), *chosen, "--out", str(out), *map(str, arguments)]) == 0
    return json.loads((out / "latency.json").read_text())


def against(own: Path, name: str) -> tuple[str, ...]:
    return () if name == "words" else ("--against", str(own / name))


@pytest.mark.parametrize("reference", ["words", "times.jsonl", "times.JSON", "times.csv", "times.ctm", "grids"])
def test_after_its_own_word_times(reference: str, own: Path, tmp_path: Path) -> None:
    """A word of one token comes a frame after it starts, so each delay follows from the word's own length."""
    (found,) = measure(own, tmp_path / "out", *against(own, reference))["models"]
    assert found["matched"] == found["words"] > 20
    assert found["onset_ms"] == pytest.approx(SHIFT, abs=0.1)
    assert found["onset_variance_ms2"] == pytest.approx(0, abs=1)
    lengths = [
        1e3 * (word["end"] - word["start"])
        for line in (own / "times.jsonl").read_text().splitlines()
        for word in json.loads(line)["words"]
    ]
    delays = [SHIFT - length for length in lengths]
    assert found["delay_ms"] == pytest.approx(sum(delays) / len(delays), abs=0.5)
    early = sum(delay < -0.5 for delay in delays) / len(delays)
    assert found["early_share"] == early < 1, "a word of one frame comes at its end, not before it"
    assert found["delay_low"] <= found["delay_ms"] <= found["delay_high"]
    assert [*found["delays"]] == [f"{name}.wav" for name in "abcdef"]
    assert found["wer"] == 0.0


def test_after_another_model(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = measure(own, tmp_path / "out", "--against", own / "models" / "a" / "model", models="ab")["models"]
    same, other = found
    assert (same["label"], other["label"]) == ("a", "b")
    assert (same["delay_ms"], same["variance_ms2"], same["early_share"]) == (0.0, 0.0, 0.0)
    assert same["onset_ms"] is None
    assert same["total_ms"] is None
    assert 0 < other["matched"] <= other["words"] == same["words"]
    said = capsys.readouterr().out
    assert "times in ms after a\n" in said
    assert "start" not in said


def test_look_ahead_is_added(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    looks = ("--look-ahead-ms", 0, "--look-ahead-ms", 640)
    first, second = measure(own, tmp_path / "out", *looks, models="ab")["models"]
    assert first["total_ms"] == first["delay_ms"]
    assert second["total_ms"] == second["delay_ms"] + 640
    assert "total" in capsys.readouterr().out
    (again,) = measure(own, tmp_path / "once", "--look-ahead-ms", 40)["models"]
    assert again["look_ahead_ms"] == 40


def test_the_table_the_figure_and_json(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    measure(own, out, models="ab")
    said = capsys.readouterr().out
    assert "6 utterances" in said
    assert re.search(r"^a +\d+", said, re.M)
    assert f"figure: {out / 'latency.svg'}" in said.replace("\n", " ")
    svg = (out / "latency.svg").read_text()
    assert "milliseconds after the end of the word" in svg
    assert "a: median" in svg
    assert "prefers-color-scheme" in svg
    measure(own, out, "--json", models="ab")
    assert capsys.readouterr().out == (out / "latency.json").read_text()
    assert (out / "latency.svg").read_text() == svg


def test_without_texts_there_are_no_word_errors(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (found,) = measure(own, tmp_path / "out", *against(own, "times.ctm"), data="mine.jsonl")["models"]
    assert found["wer"] is None
    assert "WER" not in capsys.readouterr().out


def test_upper_and_lower_case_are_the_same(own: Path, tmp_path: Path) -> None:
    loud = tmp_path / "loud.ctm"
    loud.write_text((own / "times.ctm").read_text().upper().replace(".WAV", ".wav").lower().replace("one", "ONE"))
    (found,) = measure(own, tmp_path / "out", "--against", loud)["models"]
    assert found["matched"] == found["words"]


def test_a_reference_of_some(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    some = tmp_path / "some.jsonl"
    some.write_text("".join((own / "times.jsonl").read_text().splitlines(keepends=True)[:2]))
    found = measure(own, tmp_path / "out", "--against", some)
    assert found["utterances"] == 2
    assert "left out: 4 of 6 recordings, without a reference" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["words", "times.jsonl", "times.ctm", "grids"])
def test_a_word_after_the_end_is_named(name: str, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Times in milliseconds would give delays of a quarter of an hour."""
    data, times = tmp_path / "data", shutil.copytree(own, tmp_path / "own")
    files = {"words": "data/full.jsonl", "grids": "grids/f.TextGrid"}
    file = times / files.get(name, name)
    text = file.read_text()
    number = re.compile(r"(?<=[ =])\d+\.\d+(?= 0| *\n)|(?<=t\": )\d+\.\d+|(?<=d\": )\d+\.\d+")
    file.write_text(number.sub(lambda found: str(1000 * float(found[0])), text))
    assert file.read_text() != text
    with pytest.raises(AssertionError):
        measure(times, data, *against(times, name))
    said = capsys.readouterr().err
    assert re.search(
        r": '\w(\.wav)?' has '\w+' at \d+ s, and .*\w\.wav\)? ends at 1\.\d+ s; give times in seconds", said
    )
    assert not data.exists()


def test_nothing_in_common_to_time(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Words nobody heard: both sides are named, and nothing is written."""
    model, other, out = own / "models" / "a" / "model", tmp_path / "other.ctm", tmp_path / "out"
    other.write_text("a 1 0 1 Never\n")
    data = own / "data" / "full.jsonl"
    assert main(["latency", str(data), "--model", str(model), "--against", str(other), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert f"{model} and the words in {other} have no word in common: {model} says '" in said
    assert "the reference 'never'; do both" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{own}/data/mine.jsonl"], 1, "no recording has the true spans of its words in a column `words`"),
        (
            ["{own}/data/full.jsonl", "--against", "{tmp}/other.ctm"],
            1,
            "has 'zoe' …, the other 'a.wav', 'b.wav', 'c.wav' …",
        ),
        (["{own}/data/full.jsonl", "--against", "{tmp}/empty"], 1, "holds neither a model (config.json) nor TextGrids"),
        (["{own}/data/full.jsonl", "--against", "{tmp}/none.jsonl"], 1, "not a model"),
        (["{own}/data/full.jsonl", "--against", "{own}/data/full.jsonl"], 1, "expected an object with id and words"),
        (["{own}/data/full.jsonl", "--model", "{tmp}/empty"], 1, "empty: not a folder or hub id"),
        (["{own}/data/none.csv"], 1, "no such file"),
        (["{own}/data/full.jsonl", *["--look-ahead-ms", "1"] * 3], 1, "3 values for 1 models"),
        (["{own}/data/full.jsonl", *["--model", "{own}/models/a/model"] * 2], 1, "model: one stands twice in"),
        (["{own}/data/full.jsonl", "--batch-size", "0"], 1, "batch_size must be at least 1"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], code: int, said: str, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.ctm").write_text("zoe 1 0 1 hello\n")
    given = [one.format(own=own, tmp=tmp_path) for one in arguments]
    model = [] if "--model" in given else ["--model", str(own / "models" / "a" / "model")]
    assert main(["latency", *given, *model, "--out", str(tmp_path / "out")]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("models", "labels"),
    [
        (["/runs/a/model", "/runs/b/model"], ["a", "b"]),
        (["/runs/a", "org/b"], ["/runs/a", "org/b"]),
        (["/far/away/runs/a", "/far/away/runs/a"], ["away/runs/a"] * 2),
        (["/runs/a", ""], ["/runs/a", "."]),
        (["runs", "runs/best"], ["runs", "best"]),
    ],
)
def test_labels_tell_models_apart(models: list[str], labels: list[str]) -> None:
    assert _labels(models) == labels


def test_recordings_with_word_times_are_their_own_reference(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = ["--model", str(own / "models" / "a" / "model")]
    assert main(["latency", *model, "--against", str(own / "data" / "full.jsonl"), "--out", str(tmp_path / "out")]) == 0
    assert (
        json.loads((tmp_path / "out" / "latency.json").read_text())["models"]
        == measure(own, tmp_path / "same")["models"]
    )
    assert main(["latency", *model]) == 2
    assert "which recordings?" in capsys.readouterr().err


def test_a_model_is_asked_for(own: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["latency", str(own / "data" / "full.jsonl")]) == 2
    assert "add --model FOLDER" in capsys.readouterr().err


def test_a_model_without_ctc(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    ).save_pretrained(tmp_path / "bert")
    arguments = ["latency", str(own / "data" / "full.jsonl"), "--model", str(tmp_path / "bert")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert "bert: not a folder or hub id of a transformers …ForCTC model" in capsys.readouterr().err


def test_letters(tmp_path: Path) -> None:
    """A hub model of letters, from align to latency, on word times of what it hears itself."""
    model, out = letter_model(tmp_path / "model"), tmp_path / "out"
    data = recordings(tmp_path / "data", {"a": "", "b": ""})
    assert main(["align", str(data), "--model", str(model), "--out", str(tmp_path / "times.jsonl")]) == 0
    arguments = ["--model", str(model), "--against", str(tmp_path / "times.jsonl"), "--out", str(out)]
    assert main(["latency", str(data), *arguments, "--batch-size", "1"]) == 0
    (found,) = json.loads((out / "latency.json").read_text())["models"]
    assert 0 < found["matched"] <= found["words"]
    assert found["delay_ms"] <= 0  # a word comes with the first frame of its last letter, and ends with the last


def test_help_teaches(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["latency", "--help"])
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Example: kilter latency" in said
    assert "look-ahead" in said
