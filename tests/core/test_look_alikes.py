"""What an encoding lacks is written with what looks like it."""

import ast
import codecs
import json
from pathlib import Path

import pytest

from kilter.core.look_alikes import LOOK_ALIKES, look_alike

SRC = Path(__file__).parents[2] / "src"


def written(text: str, encoding: str = "ascii") -> str:
    return text.encode(encoding, LOOK_ALIKES).decode(encoding)


def test_every_letter_that_kilter_prints_has_one() -> None:
    texts = [
        node.value
        for file in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    used = {letter for text in texts for letter in text if not letter.isascii()}
    assert {"−", "—", "→", "·"} <= used
    assert {letter for letter in used if "?" in look_alike(letter)} <= {"¿", "？", "\ufffd"}, "add what looks like it"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("−3.5 ± 2 – — ‑", "-3.5 +/- 2 - - -"),
        ("“a” ‘b’ … • ✓ ✕", "\"a\" 'b' ... * v x"),
        ("α λ Δ µs → ≤ ≠", "alpha lambda Delta us -> <= !="),
        ("Dušek, naïve, Łódź, straße, ﬁ, e\u0301, ½", "Dusek, naive, Lodz, strasse, fi, e, 1/2"),
        ("╭─╮│┃└╌┘█", "+-+||+-+#"),
        ("no\u00a0break\u200b", "no break"),
        ("добрый 你 한", "?????? ? ?"),
        ("\udcff", "?"),
    ],
)
def test_in_ascii(text: str, plain: str) -> None:
    assert written(text) == plain


def test_what_the_encoding_has_stays() -> None:
    assert written("– “café” − ā", "cp1252") == "– “café” - a"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "koi8-r"])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_keeps_every_letter(encoding: str, indent: int | None) -> None:
    rows = [{"text": "добрый − é λ 你 \U0001f600 \ud83d", "ключ": ["…"]}, {"x": "―"}]
    one = json.dumps(rows, ensure_ascii=False, indent=indent)
    assert json.loads(written(one + "\n", encoding)) == rows
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert [json.loads(line) for line in written(lines, encoding).splitlines()] == rows


def test_it_is_for_writing_only() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", LOOK_ALIKES)
    assert codecs.lookup_error(LOOK_ALIKES)
