"""Streams that cannot write every letter: words become plainer, data stay what they are."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kilter.commands.align import _print
from kilter.core.look_alikes import LOOK_ALIKES


def said(*arguments: str, encoding: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kilter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
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
    out, _ = said("diversity", str(file), "--json", encoding=encoding)
    assert json.loads(out)["files"][0]["label"] == "−texts"


@pytest.mark.parametrize(
    ("format", "text", "printed"),
    [
        ("jsonl", '{"id": "é", "text": "день"}\n', b'{"id": "\\u00e9", "text": "\\u0434\\u0435\\u043d\\u044c"}\n'),
        ("ctm", "a 1 0 1 день 0.5\n", "a 1 0 1 день 0.5\n".encode()),
        ("ctm", "a 1 0 1 day 0.5\n", b"a 1 0 1 day 0.5\n"),
    ],
)
def test_word_times_keep_their_words(
    format: str, text: str, printed: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", errors=LOOK_ALIKES, newline="\n"))
    _print(text, format)  # type: ignore[arg-type]
    sys.stdout.flush()
    assert raw.getvalue() == printed
    assert ("printed in UTF-8" in capsys.readouterr().err) == (printed == text.encode() and not text.isascii())
