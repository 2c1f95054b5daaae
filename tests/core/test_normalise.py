"""Texts as a vocabulary spells them: languages whose letters have several forms, or whose case is not English."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.core.normalise import Normaliser, tidy, words

LATIN = "abcdefghijklmnopqrstuvwxyz"
TURKISH = "abcçdefgğhıijklmnoöprsştuüvyz"
JAMO = [*map(chr, range(0x1100, 0x1200))]


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("vocabulary", "text", "spelt"),
    [
        # Unicode form: that of the vocabulary
        ([*LATIN, "é", "è"], nfd("café crème"), "café crème"),
        (["été", "où"], nfd("été où"), "été où"),
        ([nfd("été"), "où"], "été où", f"{nfd('été')} où"),
        ([*nfd("tiếng việt")], "tiếng việt", nfd("tiếng việt")),
        ([*"tiếng việt"], nfd("tiếng việt"), "tiếng việt"),
        ([*"tieêngv", "\u0301", "\u0323"], "tiếng việt", "tiê\u0301ng viê\u0323t"),  # the tone apart, ê whole
        ([*"tieẹngv", "\u0302"], "việt", "viẹ\u0302t"),  # marks may change places
        (JAMO, "한글 각", nfd("한글 각")),
        ([*"한글각"], nfd("한글 각"), "한글 각"),
        ([*"\u0915\u0930", "\u093c"], "\u0958\u0930", "\u0915\u093c\u0930"),  # Hindi qa, which NFC takes apart
        ([*"\u0915\u0930\u0958", "\u093c"], "\u0915\u093c\u0930", "\u0958\u0930"),
        ([*"\u0995\u09c7\u09be"], "\u0995\u09cb", "\u0995\u09c7\u09be"),  # Bengali o, of two vowel signs
        ([*"\u0627\u0628", "\u0653", "\u064e", "\u0651"], "\u0622\u0628\u0651\u064e", "\u0627\u0653\u0628\u064e\u0651"),
        ([*"\u0622\u0628"], "\u0627\u0653\u0628", "\u0622\u0628"),  # Arabic alif with madda
        ([*"ΩÅ"], "\u2126\u212b", "ΩÅ"),  # the signs of ohm and ångström are these letters
        # where it does not tell
        ([*LATIN], nfd("é"), "é"),
        ([*LATIN, "\u0301"], "ệ", nfd("ệ")),  # it writes marks apart, so the missing one can be named
        ([*LATIN], "ﬁ Ａ ½", "ﬁ ａ ½"),  # compatibility forms are other signs
        # case: that of the vocabulary, where it has one
        ([*LATIN], "Hello", "hello"),
        ([*LATIN.upper(), "'"], "don't", "DON'T"),
        ([*LATIN, *LATIN.upper()], "Hello", "Hello"),
        (["yes", "No"], "YES no", "YES no"),
        ([*TURKISH], "ISPARTA İstanbul", "ısparta istanbul"),
        ([*TURKISH], nfd("İSTANBUL"), "istanbul"),
        ([*"ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ"], "ısparta istanbul", "ISPARTA İSTANBUL"),
        ([*LATIN, *"ıé"], "I AM", "I am"),  # of no language: which i it is, nobody can tell
        ([*LATIN.upper()], "istanbul", "ISTANBUL"),
        ([*LATIN.upper()], "straße", "STRASSE"),
        ([*LATIN.upper(), "ß"], "straße", "STRAßE"),
        ([*LATIN.upper(), "ẞ"], "straße", "STRAẞE"),
        ([*LATIN, "ß"], "STRAẞE Maße", "straße maße"),
        ([*"αδεορςσ"], "ΟΔΟΣ ΣΟΣ", "οδος σος"),
        ([*"αδεορσ"], "ΟΔΟΣ οδος", "οδοσ οδοσ"),
        ([*"ΑΔΕΟΡΣΌ"], "οδός", "ΟΔΌΣ"),
        ([*"абвг"], "АБВГ", "абвг"),
        ([*"abc", "<0x0A>", "[UNK]"], "ABC", "ABC"),  # what these are, tokens of machines, is for the tokenizer to say
        # white space
        ([*"abc"], "a\u00a0b\u3000c\u2009a\tb\r\nc\u2028a\x85b", "a b c a b c a b"),
        ([*"abc"], "\ufeffa\u200bb\u00adc \u2060a\u200e b\u200c c\u200da", "a bc a b ca"),
        ([*"abc\u200c"], "a\u200cb\u200dc", "a\u200cbc"),  # Persian has the joiner among its letters
        ([*"abc"], "  ", ""),
    ],
)
def test_as_the_vocabulary_spells(vocabulary: list[str], text: str, spelt: str) -> None:
    normalise = Normaliser(vocabulary)
    assert ascii(normalise(text)) == ascii(spelt)
    assert normalise(spelt) == spelt, "what is spelt so already stays"
    assert bool(normalise.changes([text])) == (text != spelt)


@given(st.lists(st.text(max_size=3), max_size=8), st.text(max_size=12))
def test_any_text_twice_is_as_once_and_stays_the_same_letters(vocabulary: list[str], text: str) -> None:
    normalise = Normaliser(vocabulary, keep=["whitespace", "case"])
    once = normalise(text)
    assert normalise(once) == once
    assert nfd(once) == nfd(text)
    spaced = Normaliser(vocabulary)(text)
    assert spaced.split(" ") == (spaced.split() or [""])


@given(st.text(max_size=20))
def test_tidy_has_single_spaces_and_composed_letters(text: str) -> None:
    assert tidy(text) == " ".join(words(text)) == tidy(tidy(text))
    assert unicodedata.is_normalized("NFC", tidy(text))
    assert tidy(text, keep=("whitespace", "unicode")) == text


@pytest.mark.parametrize(
    ("keep", "spelt"),
    [
        ((), "café au lait"),
        (("case",), "CAFÉ au lait"),
        (("unicode",), f"{nfd('café')} au lait"),
        (("whitespace",), "café\u00a0au  lait"),
        (("whitespace", "unicode", "case"), f"{nfd('CAFÉ')}\u00a0au  lait"),
    ],
)
def test_each_part_can_be_left_out(keep: tuple, spelt: str) -> None:
    assert Normaliser([*LATIN, "é"], keep=keep)(f"{nfd('CAFÉ')}\u00a0au  lait") == spelt


def test_what_was_changed_is_told_once() -> None:
    normalise = Normaliser([*LATIN, "é"])
    assert normalise.told(["plain", "text"]) == ""
    assert normalise.told([nfd("é"), "A", "a\u00a0b", "é"]) == (
        "normalised: white space in 1, Unicode form in 1, case in 1 of 4 texts (--keep whitespace unicode case leaves "
        "them as they are)"
    )


def test_a_part_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="keep must be one of whitespace, unicode, case, got 'cases'; did you mean"):
        Normaliser("abc", keep=["cases"])  # type: ignore[list-item]
