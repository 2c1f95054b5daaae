"""What an encoding lacks is written with what looks like it."""

import ast
import codecs
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


def test_it_is_for_writing_only() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", LOOK_ALIKES)
    assert codecs.lookup_error(LOOK_ALIKES)
