"""One way to read a text: white space, the Unicode form that a vocabulary spells in, and case where it has only one.

Every command, metric and recogniser reads texts by this, so that equal words are equal. Standard library only.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from kilter.core.options import one_of

TextPart = Literal["whitespace", "unicode", "case"]
"""What is normalised; each can be left as it is by its name (`keep`)."""

SAID: dict[TextPart, str] = {"whitespace": "white space", "unicode": "Unicode form", "case": "case"}
"""The parts as people are told of them."""

_BREAK = "\u200b"
"""Zero-width space: to Unicode a boundary of words, and so a space here."""
_UNSEEN = frozenset(map(chr, (0xAD, 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)))
"""Soft hyphen, byte-order mark, word joiner and marks of direction: no space, no letter."""
_JOINERS = frozenset("\u200c\u200d")
"""They shape letters (Persian, Hindi) and have no sound: kept where the vocabulary has them."""
_MOST_WORDS = 100_000
"""Words that a normaliser keeps as it spelt them."""
_TURKIC = frozenset("abcdefghijklmnopqrstuvwxyzçğıöşüâêîôûəñäýūŋ")
"""Lower case of the languages in which dotted and dotless i are two letters."""


def tidy(text: str, keep: Sequence[str] = ()) -> str:
    r"""A text without a vocabulary to go by: words with one space between them, composed letters (NFC).

    Any white space of Unicode parts words, so do hard (U+00A0), ideographic (U+3000) and zero-width spaces (U+200B).
    Soft hyphens, byte-order marks and marks of direction go. Compatibility forms (full width, ligatures) stay.

    Args:
        text: any text.
        keep: parts to leave as they are: `whitespace`, `unicode`.

    Example:
        >>> tidy("one\u00a0 two\n"), tidy("cafe\u0301") == "caf\u00e9"
        ('one two', True)

    Reference: Unicode Standard Annex #15 for the forms.
    """
    if "whitespace" not in keep:
        text = _spaced(text, _UNSEEN)
    return text if "unicode" in keep or text.isascii() else unicodedata.normalize("NFC", text)


def words(text: str) -> list[str]:
    r"""The words of a text as `tidy` reads it: what n-grams, word errors and BLEU are counted in.

    Example:
        >>> words("one\u3000two\nthree")
        ['one', 'two', 'three']
    """
    return tidy(text).split()


class Normaliser:
    r"""Texts as a vocabulary spells them.

    White space as `tidy`; joiners of no width go where the vocabulary has none. Letters get the form in which the
    vocabulary has them: é as one sign or as two, Hangul in syllables or in Jamo, ế as ê and an accent; NFC where it
    does not tell. Where all its letters are of one case, texts get that case. Then ß stays if the vocabulary has it,
    and else becomes ẞ if it has that, or SS; a final sigma is σ if it has no ς; in a vocabulary that has both letters i
    and is of a Turkic language I is ı and i is İ, in any other that has both they are left alone.

    Args:
        tokens: the vocabulary's strings, without special tokens.
        keep: parts to leave as they are.

    Raises:
        ValueError: a part that there is not.

    Example:
        >>> Normaliser("abcé")("Cafe\u0301  B"), Normaliser("ABC", keep=["case"])("abc")
        ('café b', 'abc')
    """

    def __init__(self, tokens: Iterable[str], keep: Sequence[str] = ()) -> None:
        for part in keep:
            one_of("keep", part, TextPart)
        tokens = [token.strip() for token in tokens]
        self.keep = tuple(keep)
        self.signs = frozenset(sign for token in tokens for sign in token)
        self.case = _only_case(self.signs)
        self._forms: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._by_first: dict[str, set[str]] = defaultdict(set)
        for token in tokens:
            self._learn(token, *_clusters(token))
        self._apart = any(unicodedata.combining(sign) or 0x1100 <= ord(sign) <= 0x11FF for sign in self.signs)
        self._unseen, self._breaks = (_UNSEEN | _JOINERS) - self.signs, {_BREAK} - self.signs

    def __call__(self, text: str) -> str:
        """The text as the vocabulary spells it."""
        return self._formed(self._cased(self._composed(self._spaced(text))))

    def changes(self, texts: Iterable[str]) -> dict[TextPart, int]:
        """In how many texts each part changes something; parts that change nothing are left out."""
        found: Counter[TextPart] = Counter()
        for text in texts:
            spaced = self._spaced(text)
            composed = self._composed(spaced)
            found["whitespace"] += spaced != text
            found["unicode"] += self._formed(composed) != spaced
            found["case"] += self._cased(composed) != composed
        return {part: count for part, count in found.items() if count}

    def told(self, texts: Sequence[str]) -> str:
        """What is changed in texts, to be said once; empty where nothing is.

        Example:
            >>> print(Normaliser("ABC").told(["A  B", "ab", "a"]))
            normalised: white space in 1, case in 2 of 3 texts (--keep whitespace case leaves them as they are)
        """
        if not (found := self.changes(texts)):
            return ""
        counts = ", ".join(f"{SAID[part]} in {count}" for part, count in found.items())
        return f"normalised: {counts} of {len(texts)} texts (--keep {' '.join(found)} leaves them as they are)"

    # White space ----------------------------------------------------------------------------------------------------

    def _spaced(self, text: str) -> str:
        return text if "whitespace" in self.keep else _spaced(text, self._unseen, self._breaks)

    # Unicode form ---------------------------------------------------------------------------------------------------

    def _learn(self, token: str, *letters: str) -> None:
        for piece in (token, *letters):
            key = unicodedata.normalize("NFD", piece)
            if piece and len(piece) <= len(self._forms.get(key, piece)):
                self._forms[key] = piece
        for letter in letters:
            self._by_first[unicodedata.normalize("NFD", letter)[0]].add(unicodedata.normalize("NFD", letter))

    def _composed(self, text: str) -> str:
        return text if "unicode" in self.keep or text.isascii() else unicodedata.normalize("NFC", text)

    def _formed(self, text: str) -> str:
        if "unicode" in self.keep or text.isascii():
            return text
        words = re.split(r"(\s+)", text)
        if len(self._words) > _MOST_WORDS:
            self._words.clear()
        self._words.update({word: self._word(word) for word in words if word not in self._words})
        return "".join(map(self._words.__getitem__, words))

    def _word(self, word: str) -> str:
        whole = self._forms.get(unicodedata.normalize("NFD", word))
        return "".join(map(self._cluster, _clusters(word))) if whole is None else whole

    def _cluster(self, cluster: str) -> str:
        """A letter with its marks, in the vocabulary's signs, as few as can be; else composed, or apart as it does."""
        apart = unicodedata.normalize("NFD", cluster)
        found = self._cover(apart)
        return found if found is not None else apart if self._apart else cluster

    def _cover(self, apart: str) -> str | None:
        if not apart or apart in self._forms:
            return self._forms.get(apart, "")
        for key in sorted(self._by_first.get(apart[0], ()), key=lambda key: (-len(key), key)):
            if len(key) >= len(apart) or (left := _without(apart, key)) is None:
                continue
            # marks may change places only where Unicode says that the letter stays the same
            same = unicodedata.normalize("NFD", key + left) == apart
            if same and (rest := self._cover(left)) is not None:
                return self._forms[key] + rest
        return None

    # Case -----------------------------------------------------------------------------------------------------------

    def _cased(self, text: str) -> str:
        if not self.case or "case" in self.keep:
            return text
        both = {"i", "ı"} if self.case == "lower" else {"I", "İ"}
        two = both <= self.signs
        turkic = two and {sign.lower() for sign in self.signs - {"I", "İ"} if sign.isalpha()} <= _TURKIC
        if self.case == "upper":
            return "".join(self._upper(sign, two, turkic) for sign in text)
        if turkic:
            text = text.replace("I\u0307", "i").replace("İ", "i").replace("I", "ı")
        lower = "I".join(map(str.lower, text.split("I"))) if two else text.lower()
        return lower if "ς" in self.signs or "σ" not in self.signs else lower.replace("ς", "σ")

    def _upper(self, sign: str, two: bool, turkic: bool) -> str:
        if sign in self.signs:
            return sign
        if sign == "i" and two:
            return "İ" if turkic else sign
        return "ẞ" if sign == "ß" and "ẞ" in self.signs else sign.upper()


def _spaced(text: str, unseen: Iterable[str], breaks: Iterable[str] = _BREAK) -> str:
    if not text.isascii():
        text = text.translate({**dict.fromkeys(map(ord, unseen)), **dict.fromkeys(map(ord, breaks), " ")})
    return " ".join(text.split())


def _clusters(text: str) -> list[str]:
    """Letters with the marks that go with them, and what would become one letter."""
    found: list[str] = []
    for sign in text:
        if found and (unicodedata.combining(sign) or _joins(found[-1], sign)):
            found[-1] += sign
        else:
            found.append(sign)
    return found


def _joins(cluster: str, sign: str) -> bool:
    if cluster.isascii() or sign.isascii():
        return False
    return len(unicodedata.normalize("NFC", cluster + sign)) <= len(unicodedata.normalize("NFC", cluster))


def _without(whole: str, part: str) -> str | None:
    """What is left of a text once the signs of another are taken out, in their order; None where one is not there."""
    left, wanted = [], iter(part)
    next_one = next(wanted, None)
    for sign in whole:
        if sign == next_one:
            next_one = next(wanted, None)
        else:
            left.append(sign)
    return "".join(left) if next_one is None else None


def _only_case(signs: Iterable[str]) -> Literal["upper", "lower", ""]:
    """The case that all letters have; letters such as ß, which have no other case of one letter, do not tell."""
    upper = any(unicodedata.category(sign) == "Lu" and sign.lower() != sign for sign in signs)
    lower = any(
        unicodedata.category(sign) == "Ll" and sign.upper() != sign and len(sign.upper()) == 1 for sign in signs
    )
    return "" if upper == lower else "upper" if upper else "lower"
