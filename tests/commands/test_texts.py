"""The same text through every command: forms, spaces, case, and what a model cannot write."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.models.recogniser import Recogniser
from tests.own import letter_model, recordings

pytestmark = pytest.mark.host

Capture = pytest.CaptureFixture


def loud(folder: Path, words: tuple[str, ...], seed: int = 6) -> Path:
    """A small recogniser of whole words that says something."""
    import torch

    torch.manual_seed(seed)
    recogniser = Recogniser.small(words, "residual", 8000)
    with torch.no_grad():
        recogniser.model.lm_head.weight.mul_(4)
        recogniser.model.lm_head.bias[recogniser.tokenizer.unk_token_id] = -100
    recogniser.save(folder)
    return folder


def run(*arguments: object) -> int:
    return main([*map(str, arguments)])


def manifest(folder: Path, texts: dict[str, str], seconds: float = 1.0) -> Path:
    """Recordings with their texts, empty ones too."""
    file = recordings(folder, dict.fromkeys(texts, ""), seconds)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text(
        "".join(json.dumps({**row, "text": text}) + "\n" for row, text in zip(rows, texts.values(), strict=True))
    )
    return file


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letter_model(tmp_path_factory.mktemp("own") / "letters")


@pytest.mark.parametrize(
    "words", [("été", "où", "ça"), ("şöğüt", "ısı", "iğne"), ("vắng", "tiếng", "ở"), ("각", "한글", "밖")]
)
def test_forms_spaces_and_case_make_no_error(words: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    """A transcript in another Unicode form, on two lines, with hard spaces: the same words, times and error rates."""
    model = loud(tmp_path / "model", words)
    source = manifest(tmp_path / "data", {"a": ""}, seconds=2.0)
    assert run("align", source, "--model", model) == 0
    line = capsys.readouterr().out
    text = json.loads(line)["text"]
    assert text
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, text.replace(" ", "\u00a0\n"))
        (tmp_path / "times.jsonl").write_text(unicodedata.normalize(form, line))
        source.write_text(json.dumps({"audio": "a.wav", "text": written}) + "\n")
        options = ("--model", model, "--against", tmp_path / "times.jsonl", "--out", tmp_path / "out")
        assert run("latency", source, *options) == 0
        (found,) = json.loads((tmp_path / "out" / "latency.json").read_text())["models"]
        assert (found["wer"], found["matched"]) == (0.0, found["words"])
        assert "normalised: white space in 1" in capsys.readouterr().err
        assert run("align", source, "--model", model) == 0
        captured = capsys.readouterr()
        row = json.loads(captured.out)
        assert [word["word"] for word in row["words"]] == written.split(), "as they were written"
        assert "--keep whitespace" in captured.err


@pytest.mark.parametrize(("keep", "sign"), [("case", "U+0061"), ("whitespace", "U+00A0"), ("unicode", "")])
def test_each_part_can_be_switched_off(keep: str, sign: str, letters: Path, tmp_path: Path, capsys: Capture) -> None:
    source = manifest(tmp_path / "data", {"a": "a\u00a0bad cab"})
    assert run("align", source, "--model", letters) == 0
    assert run("align", source, "--model", letters, "--keep", keep) == (1 if sign else 0)
    assert sign in capsys.readouterr().err


def test_what_was_kept_is_part_of_what_a_file_was_made_with(letters: Path, tmp_path: Path, capsys: Capture) -> None:
    source, out = manifest(tmp_path / "data", {"a": "A BAD CAB"}), tmp_path / "times.jsonl"
    assert run("align", source, "--model", letters, "--out", out) == 0
    assert run("align", source, "--model", letters, "--out", out, "--keep", "case") == 1
    assert "was made with keep None, now ['case']" in capsys.readouterr().err


BAD = {
    "good": "A BAD CAB",
    "lacking": "A BUG",
    "blank": "A <pad>",
    "separator": "A|B",
    "beyond": "AÑB",
    "long": "ABCDEFG" * 300,
}


@pytest.fixture
def bad(letters: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model whose tokenizer has a letter more than the model, and recordings of which one is good."""
    import shutil

    import numpy as np
    import soundfile
    from transformers import AutoTokenizer

    model = tmp_path / "model"
    shutil.copytree(letters, model)
    tokenizer = AutoTokenizer.from_pretrained(letters)
    tokenizer.add_tokens(["Ñ"])
    tokenizer.save_pretrained(model)
    source = manifest(tmp_path / "data", {**BAD, "short": "A"})
    soundfile.write(source.parent / "short.wav", np.full(3, 0.1), 8000)
    return model, source


def test_align_leaves_out_what_is_bad_and_counts_it(bad: tuple[Path, Path], capsys: Capture) -> None:
    model, source = bad
    assert run("align", source, "--model", model) == 1
    said = capsys.readouterr().err
    for sign in ("U+0055", "'<pad>'", "'|'", "'Ñ'"):
        assert sign in said
    assert run("align", source, "--model", model, "--skip-bad") == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["id"] for line in captured.out.splitlines()] == ["good.wav"]
    for name in (*BAD, "short"):
        assert captured.err.count(f"({name}.wav): ") == (name != "good")
    assert "left out: 6 of 7 recordings" in captured.err


def test_latency_leaves_out_what_is_bad_and_counts_it(
    bad: tuple[Path, Path], letters: Path, tmp_path: Path, capsys: Capture
) -> None:
    model, source = bad
    options = ("--model", model, "--against", letters, "--out", tmp_path / "out")
    assert run("latency", source, *options) == 1
    captured = capsys.readouterr()
    assert "(short.wav): 3 samples" in captured.err
    assert "counted as word errors: " in captured.err
    assert run("latency", source, *options, "--skip-bad") == 0
    said = capsys.readouterr().err
    assert "left out: 5 of 7 recordings" in said, "a text too long to be aligned can still be heard"
    assert json.loads((tmp_path / "out" / "latency.json").read_text())["utterances"] == 2


@pytest.mark.parametrize("side", ["train", "eval"])
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("long", BAD["long"], "the text needs at least 2100 frames"),
        ("empty", "", "its text is empty"),
        ("space", "\u00a0\n", "its text is empty"),
        ("lacking", "A BUG", "lacks 'U' (U+0055"),
    ],
)
def test_run_names_before_training_what_does_not_fit(
    name: str, text: str, said: str, side: str, letters: Path, tmp_path: Path, capsys: Capture
) -> None:
    good, bad = manifest(tmp_path / "good", {"a": "A BAD CAB"}), manifest(tmp_path / "bad", {"a": "A", name: text})
    data = {"train": ("--train", bad, "--eval", good), "eval": ("--train", good, "--eval", bad)}[side]
    options: Any = ("--model", letters, "--steps", 1, "--arms", "ctc", "--device", "cpu", "--out", tmp_path / "run")
    assert run("run", "align-with-purpose", *options, *data) == 1
    error = capsys.readouterr().err
    assert f"line 2 ({name}.wav)" in error
    assert said in error
    assert "--skip-bad" in error
    assert not [*(tmp_path / "run").rglob("checkpoints")]


@pytest.mark.recipe
def test_run_learns_from_what_is_left(bad: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    model, source = bad
    source.write_text(source.read_text().replace("A BAD CAB", "a\\u00a0bad cab"))
    options = ("--model", model, "--train", source, "--eval", source, "--steps", 1, "--arms", "ctc", "--device", "cpu")
    assert run("run", "align-with-purpose", *options, "--batch-size", 1, "--skip-bad", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "skipped: 12 of your files or rows" in said
    assert "normalised: white space in 2, case in 2 of 2 texts" in said
    rows = (tmp_path / "run" / "arms" / "before" / "seed-0" / "utterances.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["good.wav"]


def test_sil_is_a_word(tmp_path: Path, capsys: Capture) -> None:
    """In Turkish: aligned, written and read again in every format, and after a run that goes on."""
    model = loud(tmp_path / "model", ("tahtayı", "sil", "sp"))
    source = manifest(tmp_path / "data", {"a": "Tahtayı sil", "b": "sil sp sil"})
    for form, out in (("jsonl", "times.jsonl"), ("ctm", "times.ctm"), ("textgrid", "grids")):
        command = ("align", source, "--model", model, "--format", form, "--out", tmp_path / out)
        assert run(*command) == 0
        before = {file: file.stat().st_mtime_ns for file in (tmp_path / out).rglob("*.TextGrid")}
        assert run(*command) == 0
        assert before == {file: file.stat().st_mtime_ns for file in before}
        options = ("--model", model, "--against", tmp_path / out, "--out", tmp_path / "out")
        run("latency", source, *options)
        found = json.loads((tmp_path / "out" / "latency.json").read_text())["models"][0]
        assert found["words"] == 5
    capsys.readouterr()


def test_padded_outputs_are_never_heard(letters: Path, tmp_path: Path, capsys: Capture) -> None:
    """A vocabulary rounded up: what has no name is not said, however sure the model is of it."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

    recogniser = Recogniser(
        AutoModelForCTC.from_pretrained(letters),
        AutoFeatureExtractor.from_pretrained(letters),
        AutoTokenizer.from_pretrained(letters),
    )
    source = manifest(tmp_path / "data", {"a": ""})
    recogniser.save(tmp_path / "plain")
    head = torch.nn.Linear(recogniser.model.lm_head.in_features, 48)
    with torch.no_grad():
        head.weight[:12], head.bias[:12] = recogniser.model.lm_head.weight, recogniser.model.lm_head.bias
        head.bias[12:] = 100.0
    recogniser.model.lm_head, recogniser.model.config.vocab_size = head, 48
    recogniser.save(tmp_path / "padded")
    heard = []
    for model in ("plain", "padded"):
        assert run("align", source, "--model", tmp_path / model) == 0
        row = json.loads(capsys.readouterr().out)
        heard.append([row["text"], [word["start"] for word in row["words"]]])
    assert heard[0] == heard[1]
    assert heard[0][0]
