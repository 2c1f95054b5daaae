"""Letters that a terminal or a pipe cannot write, by others that it can: `-` for `−`, `e` for `é`, `lambda` for `λ`.

Streams take it as an error handler: `stream.reconfigure(errors=LOOK_ALIKES)`. Standard library only.
"""

import codecs
import unicodedata
from functools import cache

LOOK_ALIKES = "kilter.look_alikes"
"""Name of the error handler."""

_ALIKE = {
    letter: plain
    for letters, plain in (
        ("−‐‑‒–—―⁃─━═┄┅┈┉╌╍╴╶╸╺╼╾", "-"),
        ("│┃║┆┇┊┋╎╏╵╷╹╻╽╿", "|"),
        ("‘’‚‛′´ʼ‹›", "'"),
        ("“”„‟″«»「」『』", '"'),
        ("…⋯", "..."),
        ("•‣●★☆⋆", "*"),
        ("·∙⋅。", "."),
        ("、", ","),
        ("→⇒↦⟶➜", "->"),
        ("←⇐⟵", "<-"),
        ("↔⇔", "<->"),
        ("↑↗↖⇑", "^"),
        ("↓↘↙⇓✓✔", "v"),
        ("×✕✖✗✘", "x"),
        ("○◯◦", "o"),
        ("≤⩽", "<="),
        ("≥⩾", ">="),
        ("≠", "!="),
        ("≈∼≃", "~"),
        ("±", "+/-"),
        ("÷⁄∕╱", "/"),
        ("∖╲", "\\"),
        ("∗", "*"),
        ("∅ø", "o"),
        ("Ø", "O"),
        ("∞", "inf"),
        ("√", "sqrt"),
        ("∑", "sum"),
        ("∈", "in"),
        ("µμ", "u"),
        ("°", "deg"),
        ("§", "S"),
        ("£", "GBP"),
        ("€", "EUR"),
        ("¡", "!"),
        ("ß", "ss"),
        ("ẞ", "SS"),
        ("ŋ", "ng"),
        ("ə", "e"),
        ("ς", "sigma"),
        ("æ", "ae"),
        ("Æ", "AE"),
        ("œ", "oe"),
        ("Œ", "OE"),
        ("ł", "l"),
        ("Ł", "L"),
        ("đð", "d"),
        ("ÐĐ", "D"),
        ("þ", "th"),
        ("Þ", "Th"),
        ("ı", "i"),
    )
    for letter in letters
}


@cache
def look_alike(letter: str) -> str:
    """What looks like a letter, in ASCII; a question mark where nothing does.

    Example:
        >>> "".join(map(look_alike, "−3 → “café” ╭─╮ λ"))
        '-3 -> "cafe" +-+ lambda'
    """
    if letter.isascii():
        return letter
    if (plain := _ALIKE.get(letter)) is not None:
        return plain
    if "\u2500" <= letter <= "\u259f":
        return "+" if letter <= "\u257f" else "#"
    if unicodedata.combining(letter) or unicodedata.category(letter) == "Cf":  # accents on their own, no width
        return ""
    if unicodedata.category(letter) == "Zs":
        return " "
    parts = unicodedata.normalize("NFKD", letter)
    if parts != letter:
        plain = "".join(map(look_alike, parts))
        return "?" if "?" in plain else plain
    script, _, rest = unicodedata.name(letter, "").partition(" ")
    if script == "GREEK" and (name := rest.rpartition("LETTER ")[2].replace("LAMDA", "LAMBDA")).isalpha():
        return name.capitalize() if rest.startswith("CAPITAL") else name.lower()
    return "?"


def _encode(error: UnicodeError) -> tuple[str, int]:
    """The error handler."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(look_alike, error.object[error.start : error.end])), error.end


codecs.register_error(LOOK_ALIKES, _encode)
