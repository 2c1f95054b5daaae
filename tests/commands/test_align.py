"""`kilter align`: what it writes, that a kill costs a batch at most, and what it says when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kilter.cli import main
from kilter.evaluation.word_times import read_ctm, read_jsonl, read_textgrid
from tests.own import letter_model, recordings, word_model

pytestmark = pytest.mark.host

TEXTS = {"a": "AB CAD", "b": "", "c": "BAG", "d": "DEAF A BAD CAB", "e": "FAD"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letter_model(tmp_path_factory.mktemp("own") / "model")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return recordings(tmp_path / "data", TEXTS)


def run(*arguments: object) -> int:
    return main(["align", *map(str, arguments)])


def test_one_recording_with_a_text(model: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(manifest.parent / "a.wav", "--model", model, "--text", "AB  CAD") == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["id"], found["text"], found["heard"]) == ("a", "AB CAD", False)
    assert [word["word"] for word in found["words"]] == ["AB", "CAD"]


def test_without_a_text_what_is_heard(tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(manifest.parent / "b.wav", "--model", word_model(tmp_path / "words")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["heard"]
    assert found["words"]
    assert found["text"] == " ".join(word["word"] for word in found["words"])


def test_a_text_beside_the_recording(model: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    (manifest.parent / "c.txt").write_text("BAD\n")
    assert run(manifest.parent / "c.wav", "--model", model) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "BAD"


def test_formats_tell_the_same(model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    outs = {name: tmp_path / "out" / name for name in ("jsonl", "ctm", "textgrid")}
    for name, out in outs.items():
        assert run(manifest, "--model", model, "--format", name, "--out", out) == 0
        assert "word times of 5 of 5 recordings" in capsys.readouterr().err
    lines = read_jsonl(outs["jsonl"].read_text(), "x")
    assert [*lines] == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]  # in the order of the manifest
    marked = read_ctm(outs["ctm"].read_text(), "x")
    for name, words in lines.items():
        key = name.removesuffix(".wav")
        grid = read_textgrid((outs["textgrid"] / f"{key}.TextGrid").read_text(), "x")
        for other in (grid, marked.get(key, [])):
            assert [word.token for word in other] == [word.token for word in words]
            assert [time for word in other for time in word[1:]] == pytest.approx(
                [time for word in words for time in word[1:]], abs=2e-3
            )


def test_batches_do_not_matter(model: Path, manifest: Path, tmp_path: Path) -> None:
    for size in (1, 5):
        assert run(manifest, "--model", model, "--batch-size", size, "--out", tmp_path / f"{size}.jsonl") == 0
    one, five = (read_jsonl((tmp_path / f"{size}.jsonl").read_text(), "x") for size in (1, 5))
    assert one.keys() == five.keys()


@pytest.mark.parametrize("format", ["jsonl", "ctm"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.7, 0.97])
def test_a_file_cut_anywhere_is_completed(
    format: str, left: float, model: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "words"
    command = (manifest, "--model", model, "--batch-size", "2", "--format", format, "--out", out)
    assert run(*command) == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: int(left * len(whole))])
    assert run(*command) == 0
    assert out.read_bytes() == whole


def test_what_is_done_is_not_done_again(
    model: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kilter.models.aligning

    out = tmp_path / "grids"
    command = (manifest, "--model", model, "--batch-size", "2", "--format", "textgrid", "--out", out)
    assert run(*command) == 0
    (out / "c.TextGrid").unlink()
    (out / "d.TextGrid").write_text((out / "d.TextGrid").read_text(), encoding="utf-16")  # as Praat may save it
    whole = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    seen = []
    real = kilter.models.aligning.align
    monkeypatch.setattr(
        kilter.models.aligning,
        "align",
        lambda model, rows, *rest, **more: seen.append(len(rows)) or real(model, rows, *rest, **more),
    )
    assert run(*command) == 0
    assert len(seen) == 1
    assert (out / "c.TextGrid").exists()
    assert {path: path.stat().st_mtime_ns for path in whole} == whole


def test_another_text_is_aligned_anew(model: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "words.jsonl"
    assert run(manifest, "--model", model, "--out", out) == 0
    manifest.write_text(manifest.read_text().replace("BAG", "BAD"))
    assert run(manifest, "--model", model, "--out", out) == 0
    assert [word.token for word in read_jsonl(out.read_text(), "x")["c.wav"]] == ["BAD"]


@pytest.mark.parametrize("format", ["jsonl", "ctm", "textgrid"])
def test_what_another_run_made_is_left_alone(
    format: str, model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Another model, another text: none of the old times pass for new ones."""
    other, out = tmp_path / "other", tmp_path / "out"
    shutil.copytree(model, other)
    command = (manifest.parent / "a.wav", "--format", format, "--out", out)
    assert run(*command, "--model", other, "--text", "AB") == 0
    (file,) = out.glob("*.TextGrid") if format == "textgrid" else [out]
    before = file.read_bytes()
    capsys.readouterr()
    assert run(*command, "--model", model) == 1
    said = capsys.readouterr().err
    assert f"{out}: was made with model {str(other)!r}, now {str(model)!r}; text 'AB', now None; give --out" in said
    assert file.read_bytes() == before
    file.unlink()
    assert run(*command, "--model", model) == 0  # what is gone binds nobody


def test_a_model_trained_further_is_another(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own, out = tmp_path / "own", tmp_path / "words.jsonl"
    word_model(own)
    assert run(manifest.parent / "b.wav", "--model", own, "--out", out) == 0
    word_model(own, seed=3)
    assert run(manifest.parent / "b.wav", "--model", own, "--out", out) == 1
    assert "was made with weights" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["short", "long text"])
@pytest.mark.parametrize("foretold", [True, False])
def test_one_bad_recording_costs_no_other(
    bad: str,
    foretold: bool,
    model: Path,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told before any work where that can be; else what the others say is brought out before the end."""
    import soundfile

    import kilter.models.aligning

    if bad == "short":
        soundfile.write(manifest.parent / "c.wav", np.full(3, 0.1), 8000)
    else:
        manifest.write_text(manifest.read_text().replace("BAG", "A BAD CAB " * 90))
    said = "(c.wav): "
    if not foretold:
        monkeypatch.setattr(kilter.models.aligning, "check_fit", lambda *_: None)
    out = tmp_path / "words.jsonl"
    assert run(manifest, "--model", model, "--out", out) == 1
    assert said in (error := capsys.readouterr().err)
    assert "--skip-bad" in error
    assert out.exists() != foretold
    assert run(manifest, "--model", model) == 1
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == (0 if foretold else 4)
    if not foretold:
        assert out.read_text() == printed


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a kill that cannot be caught is POSIX's")
def test_killed_in_the_middle(model: Path, tmp_path: Path) -> None:
    manifest = recordings(tmp_path / "many", {f"r{i:02}": "DEAF A BAD CAB" for i in range(40)})
    out = tmp_path / "words.jsonl"
    arguments = ["align", str(manifest), "--model", str(model), "--batch-size", "1", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "kilter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and not (out.exists() and out.read_bytes().count(b"\n") > 4)
    ):
        time.sleep(0.002)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = out.read_bytes()
    assert 4 < begun.count(b"\n") < 40
    assert main([*arguments, "--batch-size", "3"]) == 0
    whole = out.read_bytes()
    assert set(begun.rpartition(b"\n")[0].splitlines()) < set(whole.splitlines())
    assert whole.count(b"\n") == 40
    shutil.move(out, tmp_path / "first.jsonl")
    assert main(arguments) == 0
    assert out.read_bytes() == whole


# What is wrong ---------------------------------------------------------------------------------------------------


def test_a_text_that_cannot_be_spelt(
    model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest.write_text(manifest.read_text().replace("BAG", "BUG"))
    assert run(manifest, "--model", model) == 1
    said = capsys.readouterr().err
    assert "line 3 (c.wav)" in said
    assert "'BUG'" in said
    assert "--skip-bad" in said
    out = tmp_path / "words.jsonl"
    assert run(manifest, "--model", model, "--skip-bad", "--out", out) == 0
    said = capsys.readouterr().err
    assert f"left out: {manifest}, line 3 (c.wav): the tokenizer does not know" in said
    assert "word times of 4 of 5" in said
    assert len(out.read_text().splitlines()) == 4


def test_a_text_too_long_for_its_recording(model: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    text = "A BAD CAB " * 90
    manifest.write_text(manifest.read_text().replace("BAG", text))
    assert run(manifest, "--model", model) == 1
    said = capsys.readouterr().err
    assert "(c.wav): the text needs at least 899 frames of 2 ms and the recording has" in said.replace("\n", " ")
    assert "--skip-bad" in said
    assert run(manifest, "--model", model, "--skip-bad") == 0
    captured = capsys.readouterr()
    assert f"left out: {manifest}, line 3 (c.wav): the text needs" in captured.err
    assert len(captured.out.splitlines()) == 4


def test_a_recording_that_cannot_be_read(model: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    (manifest.parent / "c.wav").write_bytes(b"not audio")
    assert run(manifest, "--model", model) == 1
    assert "c.wav" in capsys.readouterr().err
    assert run(manifest, "--model", model, "--skip-bad") == 0
    assert "left out:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{data}/mine.jsonl", "--format", "textgrid"], 2, "add --out FOLDER"),
        (["{data}", "--text", "A"], 2, "--text is the transcript of one recording"),
        (["{data}/mine.jsonl", "--text", "A"], 2, "--text is the transcript of one recording"),
        (["{data}/a.wav", "--text", " "], 2, "--text is empty"),
        (["{data}/a.wav", "--text", "\u200b\ufeff"], 2, "--text is empty"),
        (["{data}/none.wav"], 1, "no such file or folder"),
        (["{data}/mine.jsonl", "--text-column", "sentence"], 1, "no text in column 'sentence'"),
        (["{data}/mine.jsonl", "--out", "{data}"], 1, "--format jsonl writes one file"),
        (["{data}/mine.jsonl", "--out", "{data}/mine.jsonl"], 1, "is where the recordings come from"),
        (["{data}/a.wav", "--out", "{data}/mine.jsonl"], 1, "was not made by kilter align"),
        (["{data}/mine.jsonl", "--format", "textgrid", "--out", "{data}/mine.jsonl"], 1, "writes a folder"),
        (["{data}/mine.jsonl", "--batch-size", "0"], 1, "batch_size must be at least 1"),
        (["{data}/mine.jsonl", "--device", "gpu"], 1, "device: 'gpu'"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: list[str], code: int, said: str, model: Path, manifest: Path, capsys: pytest.CaptureFixture
) -> None:
    before = manifest.read_bytes()
    assert run(*(one.format(data=manifest.parent) for one in arguments), "--model", model) == code
    assert said in capsys.readouterr().err
    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    ("format", "theirs", "said"),
    [
        ("ctm", "zoe 1 0 1 hello\n", "holds 'zoe', which is not among the recordings of"),
        ("ctm", "a 1 0 1 hello\n", "'a 1 0 1 hello' is no line of kilter align"),
        ("ctm", "notes to keep", "its last line, b'notes to keep', is none that kilter align began"),
        ("jsonl", "[1, 2, 3]", "its last line, b'[1, 2, 3]', is none"),
        ("jsonl", '{"id": "a.wav", "words": [], "speaker": 7}\n', "is no line of kilter align"),
        ("jsonl", '{"audio": "a.wav"}\n', "expected an object with id and words"),
        ("jsonl", "\xff\n", "is neither UTF-8 nor UTF-16"),
    ],
)
@pytest.mark.parametrize("recorded", [True, False])
def test_a_file_of_others_is_left_alone(
    format: str,
    theirs: str,
    said: str,
    recorded: bool,
    model: Path,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Also where it has taken the place of one of ours."""
    out = tmp_path / "words"
    command = (manifest, "--model", model, "--format", format, "--out", out)
    if recorded:
        assert run(*command) == 0
    out.write_text(theirs, encoding="latin-1")
    assert run(*command) == 1
    assert (said if recorded else "was not made by kilter align") in capsys.readouterr().err
    assert out.read_text(encoding="latin-1") == theirs


def test_textgrids_of_others_are_left_alone(
    model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "a.TextGrid").write_text("by hand")
    assert run(manifest, "--model", model, "--format", "textgrid", "--out", tmp_path) == 1
    assert "was not made by kilter align (there is no .align.json)" in capsys.readouterr().err
    assert (tmp_path / "a.TextGrid").read_text() == "by hand"


def test_two_recordings_of_one_name(model: Path, manifest: Path, capsys: pytest.CaptureFixture) -> None:
    manifest.write_text(manifest.read_text() * 2)
    assert run(manifest, "--model", model) == 1
    assert "stands twice" in capsys.readouterr().err


def test_what_is_not_a_recogniser(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(manifest, "--model", tmp_path / "nowhere") == 1
    assert "nowhere: not a folder or hub id" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Example: kilter align" in said
    assert "peaky" in said
