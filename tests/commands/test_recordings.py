"""The same folder gives the same recordings in `align`, `latency` and `run`, and their names fit each other."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kilter.cli import main
from kilter.commands.align import _check_case
from kilter.evaluation.word_times import by_key, utterance_key
from tests.own import RATE, recordings, word_model

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return word_model(tmp_path_factory.mktemp("own") / "model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings at the top, in train and in test, two folders deep, in several kinds, and what is none."""
    top = tmp_path_factory.mktemp("folder")
    names = ["a", "train/a", "train/b c", "test/a", "test/deep/1.2", "x.wav/y", "caf\udce9"]
    recordings(top / "made", {str(place): "" for place in range(len(names))})
    for place, (name, suffix) in enumerate(
        zip(names, ["wav", "flac", "OGG", "opus", "aiff", "wav", "wav"], strict=True)
    ):
        samples, rate = soundfile.read(top / "made" / f"{place}.wav")
        path = top / "in" / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        format, subtype = {"opus": ("OGG", "OPUS"), "OGG": ("OGG", "VORBIS")}.get(suffix, (suffix.upper(), "PCM_16"))
        with open(path, "wb") as file:
            soundfile.write(file, samples, rate, format=format, subtype=subtype)
    (top / "in" / "talk.m4a").write_bytes(b"?")
    (top / "in" / "._a.wav").write_bytes(b"\0\5\x16\7")
    (top / "in" / "notes.txt").write_text("no recording")
    return top / "in"


IDS = {"a", "train/a", "train/b c", "test/a", "test/deep/1.2", "x.wav/y", "caf%E9"}


@pytest.mark.parametrize(("format", "out"), [("jsonl", "times.jsonl"), ("ctm", "times.ctm"), ("textgrid", "grids")])
def test_times_just_written_fit(
    format: str, out: str, folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["align", str(folder), "--model", str(model), "--format", format, "--out", str(tmp_path / out)]
    for _ in range(2):  # the second time it takes up what is there
        assert main(command) == 0
        said = capsys.readouterr().err
        assert "talk.m4a: .m4a cannot be read" in said
        assert said.count("left out: ") == 2, "the recording, and how many there are"
        assert f"word times of {len(IDS)} of {len(IDS)} recordings" in said
    against = ["--model", str(model), "--against", str(tmp_path / out), "--out", str(tmp_path / "latency")]
    assert main(["latency", str(folder), *against]) == 0
    said = capsys.readouterr().err
    assert "without a reference" not in said
    assert "talk.m4a: .m4a cannot be read" in said
    found = json.loads((tmp_path / "latency" / "latency.json").read_text("utf-8"))
    (one,) = found["models"]
    assert set(one["delays"]) == IDS
    assert one["matched"] == one["words"] > 10
    assert one["onset_ms"] == pytest.approx(30, abs=0.1)  # a frame of the small recogniser


def test_run_takes_train_and_test_of_it(folder: Path, model: Path, tmp_path: Path) -> None:
    from kilter.models.recogniser import Recogniser
    from kilter.tasks.recognition.sources import OwnRecordings

    copy = shutil.copytree(folder, tmp_path / "in")
    for part in ("train", "test"):
        for file in [file for file in (copy / part).rglob("*") if file.is_file()]:
            file.with_suffix(".txt").write_text("one")
    own = OwnRecordings(Recogniser.load(model), str(copy), str(copy), skip_bad=False)
    assert [row.id for row in own.training(0, 0, 0).headers()] == ["a", "b c"]
    assert [row.id for row in own.judged("test", 0).headers()] == ["a", "deep/1.2"]


def test_one_that_cannot_be_read_is_named_with_or_without_a_text(
    folder: Path, model: Path, capsys: pytest.CaptureFixture
) -> None:
    for text in ([], ["--text", "one"]):
        assert main(["align", str(folder / "talk.m4a"), "--model", str(model), *text]) == 1
        assert f"ffmpeg -i {folder / 'talk.m4a'} {folder / 'talk.wav'}" in capsys.readouterr().err
    assert main(["align", str(folder / "x.wav"), "--model", str(model), "--text", "one"]) == 2
    assert "x.wav is not one" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a.wav", "a.flac"), ("b c.wav", "b_c.wav")])
def test_two_of_one_name_are_refused_everywhere(
    names: tuple[str, str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in (*names, "z.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-0.1, 0.1, RATE), RATE)
    commands = (
        ["align", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "out.jsonl")],
        ["latency", str(tmp_path), "--model", str(model), "--against", str(tmp_path / "out.jsonl"), "--out"],
    )
    for command in ([*commands[0]], [*commands[1], str(tmp_path / "l")]):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert "stands twice" in said
        assert all(name in said for name in names)
        assert main([*command, "--skip-bad"]) == 0
        said = capsys.readouterr().err
        assert said.count("left out: ") == 2
        assert "left out: 1 of 3 recordings" in said


def test_references_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.ctm: 'b c\.wav' and 'b_c' are one name without suffix and spaces"):
        by_key([("a", 1), ("b c.wav", 2), ("b_c", 3)], "x.ctm")


def test_a_disk_that_folds_case_cannot_hold_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "grids" / "here"
    (tmp_path / "grids").mkdir()
    names = ["A", "sub/x", "a"]
    if not (tmp_path / "GRIDS").exists():
        _check_case(out, names)
        os.symlink(tmp_path / "grids", tmp_path / "GRIDS")
    with pytest.raises(ValueError, match=r"cannot hold both A\.TextGrid and a\.TextGrid; write jsonl or rename one"):
        _check_case(out, names)
    _check_case(out, ["A", "b"])


@pytest.mark.parametrize(
    "name", ["a.wav.flac", "a.wav/", "x/.wav", "a .wav", " a b\u2028c.m4a ", ";;a", "é", "../x.ogg/y.mp3"]
)
def test_a_name_that_is_clean_stays_as_it_is(name: str) -> None:
    assert utterance_key(utterance_key(name)) == utterance_key(name)
    assert not utterance_key(name).startswith(";;")
