"""Streams that cannot write every letter: words become plainer, data stay what they are."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kilter.models.recogniser import Recogniser
from kilter.models.small_speech import letter_tokenizer


def kilter(*arguments: str, encoding: str = "utf-8", **streams: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kilter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": encoding},
        check=False,
        **streams or {"capture_output": True},
    )


def said(*arguments: str, encoding: str) -> tuple[str, str]:
    done = kilter(*arguments, encoding=encoding)
    return done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["--help", "show align-with-purpose", "align --help", "run rankgen --help"])
def test_no_letter_becomes_a_question_mark(command: str, encoding: str) -> None:
    whole = said(*command.split(), encoding="utf-8")[0]
    assert not whole.isascii()
    plain = said(*command.split(), encoding=encoding)[0]
    assert plain.count("?") == whole.count("?")
    assert len(plain.split()) > 20


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_minus_is_a_minus(encoding: str, tmp_path: Path) -> None:
    lines = [{"texts": ["a b"], "outputs": [], "references": ["a b"], "prompt": text} for text in ("−1 λ", "é “x”")]
    file = tmp_path / "−texts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, error = said("diversity", str(file), str(tmp_path / "−more.jsonl"), encoding=encoding)
    assert error.strip().endswith("-more.jsonl: no such file; kilter generate writes one with --out")
    file.with_name("−more.jsonl").write_text(file.read_text())
    out, _ = said("diversity", str(file), str(tmp_path / "−more.jsonl"), encoding=encoding)
    assert "-texts" in out
    assert "?" not in out


@pytest.fixture(scope="module")
def recognised(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What aligns a recording of Russian words."""
    folder = tmp_path_factory.mktemp("russian")
    letters = sorted(set("добрыйденьчаш"))
    Recogniser.small(letter_tokenizer("".join(letters)), "residual", 8000, hidden_size=16).save(folder / "model")
    soundfile.write(folder / "день.wav", np.random.default_rng(0).normal(0, 0.1, 12000).clip(-1, 1), 8000)
    return ["align", str(folder / "день.wav"), "--model", str(folder / "model"), "--text", "добрый день"]


@pytest.mark.parametrize(("format", "encoding"), [("jsonl", "ascii"), ("ctm", "cp1252"), ("ctm", "utf-16")])
def test_word_times_are_utf_8(recognised: list[str], format: str, encoding: str) -> None:
    done = kilter(*recognised, "--format", format, encoding=encoding)
    assert "добрый" in done.stdout.decode()
    assert "\r" not in done.stdout.decode()
    if format == "jsonl":
        assert [word["word"] for word in json.loads(done.stdout)["words"]] == ["добрый", "день"]


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
def test_json_is_utf_8(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "−λ.jsonl"
    file.write_text(json.dumps({"prompt": "a", "texts": ["é b"], "references": ["é b"]}) + "\n")
    done = kilter("diversity", str(file), "--json", encoding=encoding)
    assert json.loads(done.stdout.decode())["files"][0]["label"] == "−λ"
    for command in ("list --claims", "show rankgen"):
        printed = kilter(*command.split(), "--json", encoding=encoding).stdout
        assert not printed.decode().isascii()
        assert json.loads(printed)


def test_half_a_surrogate_pair_is_an_escape() -> None:
    code = "from kilter.lab.output import print_json; print_json({'a': '\\udc80', 'b': float('nan')})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"a": "\udc80", "b": None}


READ_BY_NOBODY = [
    "--help",
    "list",
    "list --claims",
    "list --json",
    "show rankgen",
    "run rankgen --help",
    "align --help",
]


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error there")
@pytest.mark.parametrize("command", READ_BY_NOBODY)
@pytest.mark.parametrize("stream", ["stdout", "stderr", "both"])
def test_a_reader_that_leaves_is_no_error(command: str, stream: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    named = ["stdout", "stderr"] if stream == "both" else [stream]
    rest = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | dict.fromkeys(named, writer)
    done = kilter(*command.split(), **rest)
    os.close(writer)
    assert (done.returncode, done.stderr or b"") == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="a pipe without a reader is another error there")
def test_a_reader_of_data_may_leave(recognised: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = kilter(*recognised, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_no_standard_output_at_all() -> None:
    command = f"{shlex.quote(sys.executable)} -m kilter.cli list --json"
    done = subprocess.run(f"{command} >&-", shell=True, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
