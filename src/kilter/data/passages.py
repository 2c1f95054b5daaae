"""Cut running text into whole sentences, so that what a ranker reads begins and ends where people would.

Source: RankGen, §2.2 (prefixes and continuations are bounded by sentences). The departure: a sentence ends at a
full stop, question or exclamation mark before white space and a capital, not at a model's guess; no model is needed.
"""

import re
from collections.abc import Sequence

_ABBREVIATIONS = "Mr Mrs Ms Dr St Prof Rev Capt Col Gen Lt Sgt Hon Esq Messrs Mme Mlle Jr Sr vs viz No Vol Fig cf etc"
_CLOSING = "\"'”’»)\\]"
_SHORT = re.compile(rf"(?:^|[\s\"'“‘(\[—-])(?:{'|'.join(_ABBREVIATIONS.split())}|[^\W\d_])\.$")
_END = re.compile(rf"(?:[.!?…]+[{_CLOSING}]*(?=\s+[\"'“‘«(\[—-]*[^\W\d_a-z])|[。！？][{_CLOSING}」』]*(?=\S))")
_FINISHED = re.compile(rf"[.!?…。！？;][{_CLOSING}」』]*$")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order; white space is single spaces.

    Example:
        >>> sentences("“Is it Mr. Bingley?” asked   she.  “He is,” I said.")
        ['“Is it Mr. Bingley?” asked she.', '“He is,” I said.']
    """
    text = " ".join(text.split())
    found, start = [], 0
    for end in _END.finditer(text):
        if not _SHORT.search(text, start, end.end()):
            found.append(text[start : end.end()].strip())
            start = end.end()
    return [*found, rest] if (rest := text[start:].strip()) else found


def whole(sentence: str) -> bool:
    """Whether a sentence ends as one.

    Example:
        >>> whole("He left."), whole("He left, and")
        (True, False)
    """
    return _FINISHED.search(sentence) is not None


def first_words(parts: Sequence[str], words: int, most: int) -> str | None:
    """The first sentences, as many as fit in `words`; at least one, if it has at most `most` words.

    Example:
        >>> first_words(["It is so.", "We go.", "He said it again."], 5, 10)
        'It is so. We go.'
        >>> first_words(["It is so."], 1, 2)
    """
    taken, count = [], 0
    for part in parts:
        length = len(part.split())
        if count + length > (words if taken else most):
            break
        taken.append(part)
        count += length
    return " ".join(taken) or None


def last_words(parts: Sequence[str], words: int) -> str | None:
    """The last sentences, as many as fit in `words`; None if that is less than half as many.

    Example:
        >>> last_words(["He said it.", "It is so.", "We go."], 5)
        'It is so. We go.'
    """
    taken, count = [], 0
    for part in reversed(parts):
        if (count := count + len(part.split())) > words:
            break
        taken.append(part)
    text = " ".join(reversed(taken))
    return text if 2 * len(text.split()) >= words else None


def cut(text: str, least: int, words: int, most: int) -> str:
    """A machine's continuation, cut as a person's is: whole sentences that fit in `words`; nothing if too short.

    Example:
        >>> cut("It is so. And then they", 3, 4, 8), cut("and then they went", 3, 4, 8)
        ('It is so.', '')
    """
    parts = [part for part in sentences(text) if whole(part)]
    found = first_words(parts, words, most) or ""
    return found if len(found.split()) >= least else ""
