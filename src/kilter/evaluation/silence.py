"""Labels that aligners give to what is not a word, and when they are words: "sil" is Turkish for "erase"."""

from kilter.core.normalise import words

SILENCE = frozenset({"", "sil", "sp", "<eps>", "<sil>"})
"""Labels that aligners give to what is not a word."""


def marks_silence(label: str, text: str = "") -> bool:
    """Whether a label of another aligner is a mark of silence; not where the recording's text has it as a word.

    Args:
        label: of an interval, or a line of a CTM.
        text: what was said, where that is known.

    Example:
        >>> marks_silence("SIL"), marks_silence("sil", "tahtayı sil"), marks_silence("silk")
        (True, False, False)
    """
    known = {word.casefold() for word in words(text)}
    return not label or (label.lower() in SILENCE and label.casefold() not in known)
