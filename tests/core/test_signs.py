"""What is said of a sign that a vocabulary lacks."""

import pytest

from kilter.core.signs import LONGEST, named, short

LATIN = "abcdefghijklmnopqrstuvwxyz'- "


@pytest.mark.parametrize(
    ("sign", "known", "said"),
    [
        ("’", LATIN, "'’' (U+2019 RIGHT SINGLE QUOTATION MARK; it looks like ', which is there)"),
        ("–", LATIN, "'–' (U+2013 EN DASH; it looks like -, which is there)"),
        ("é", LATIN, "'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE; e without its mark is there)"),
        ("\u0301", LATIN, r"'\u0301' (U+0301 COMBINING ACUTE ACCENT; an accent on its own"),
        ("\u093c", "\u0915", "U+093C DEVANAGARI SIGN NUKTA; an accent on its own"),
        ("A", LATIN, "'A' (U+0041 LATIN CAPITAL LETTER A; a is there)"),
        ("a", LATIN.upper(), "'a' (U+0061 LATIN SMALL LETTER A; A is there)"),
        ("ｂ", LATIN, "U+FF42 FULLWIDTH LATIN SMALL LETTER B; another form of b, which is there"),
        ("ﬁ", LATIN, "U+FB01 LATIN SMALL LIGATURE FI; another form of fi, which is there"),
        ("ß", LATIN, "U+00DF LATIN SMALL LETTER SHARP S; it looks like ss, which is there"),
        ("7", LATIN, "'7' (U+0037 DIGIT SEVEN; write numbers as words)"),
        ("٣", LATIN, "U+0663 ARABIC-INDIC DIGIT THREE; write numbers as words"),
        ("½", LATIN, "write numbers as words"),
        (",", LATIN, "U+002C COMMA; leave out what is not spoken"),
        ("€", LATIN, "U+20AC EURO SIGN; leave out what is not spoken"),
        ("\u00a0", LATIN, r"'\xa0' (U+00A0 NO-BREAK SPACE; another form of  , which is there)"),
        ("\u200d", LATIN, "U+200D ZERO WIDTH JOINER; it cannot be seen"),
        ("\x07", LATIN, "it cannot be seen"),
        (" ", "abc", "U+0020 SPACE; there is no sign between words"),
        ("а", LATIN, "U+0430 CYRILLIC SMALL LETTER A)"),
        ("λ", LATIN, "U+03BB GREEK SMALL LETTER LAMDA)"),
        ("elf", LATIN, "'elf'"),
    ],
)
def test_every_sign_has_its_name_and_its_cause(sign: str, known: str, said: str) -> None:
    assert said in named(sign, known)


def test_a_message_shows_the_part_where_the_sign_is() -> None:
    text = "we went " * 500 + "– home" + " again" * 500
    assert "– home" in short(text, "–")
    assert len(short(text, "–")) <= LONGEST + 2
    assert short(text).startswith("we went")
    assert short("– home", "–") == "– home"
