"""What a sign of a text is, and why a vocabulary that looks as if it had it may lack it. Standard library only."""

import unicodedata
from collections.abc import Collection

from kilter.core.look_alikes import look_alike

LONGEST = 60
"""Letters of a text that a message shows."""


def short(text: str, around: str = "") -> str:
    """A text as a message shows it: whole if it is short, else the part around a sign.

    Example:
        >>> short("a" * 100 + "!", "!")
        '…aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!'
    """
    if len(text) <= LONGEST:
        return text
    start = max(0, text.find(around) - LONGEST // 2) if around else 0
    return "…" * (start > 0) + text[start : start + LONGEST] + "…" * (start + LONGEST < len(text))


def named(sign: str, known: Collection[str]) -> str:
    """A sign with its code point and name, and what is there in its place; a longer piece is only quoted.

    Args:
        sign: what is missing.
        known: the signs that there are.

    Example:
        >>> named("’", "abc'"), named("cow", "abc")
        ("'’' (U+2019 RIGHT SINGLE QUOTATION MARK; it looks like ', which is there)", "'cow'")
    """
    if len(sign) != 1:
        return repr(sign)
    found = f"U+{ord(sign):04X} {unicodedata.name(sign, 'without a name')}"
    cause = _cause(sign, known)
    quoted = f"'{sign}'" if sign.isprintable() and not unicodedata.combining(sign) else ascii(sign)
    return f"{quoted} ({found}; {cause})" if cause else f"{quoted} ({found})"


def _cause(sign: str, known: Collection[str]) -> str:
    other = next((one for one in (sign.lower(), sign.upper()) if one != sign and one in known), "")
    usual = unicodedata.normalize("NFKC", sign)
    kind = unicodedata.category(sign)
    if sign == " ":
        return "there is no sign between words"
    if other:
        return f"{other} is there"
    if unicodedata.combining(sign):
        return "an accent on its own; the letter with it is no sign of the vocabulary either"
    if usual != sign and all(one in known for one in usual):
        return f"another form of {usual}, which is there"
    base = unicodedata.normalize("NFD", sign)[0]
    if base != sign:
        return f"{base} without its mark is there" if base in known else ""
    plain = look_alike(sign) if kind[0] != "L" or "LATIN" in unicodedata.name(sign, "") else ""  # λ only sounds it
    if plain not in ("", "?", sign) and all(one in known for one in plain):
        return f"it looks like {plain}, which is there"
    if sign.isnumeric():
        return "write numbers as words"
    if kind[0] in "PS":
        return "leave out what is not spoken"
    return "it cannot be seen; leave it out" if kind[0] in "CZ" else ""
