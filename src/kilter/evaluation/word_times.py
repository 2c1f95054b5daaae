"""Words with their times in the files other tools read: JSON lines, NIST CTM and Praat TextGrid.

Text in, words out, and back; nothing here opens a file. Times are seconds from the start of the recording.
Departure: all tiers of a TextGrid that hold words are read as one, speakers together; marks of silence are no words,
unless kilter wrote the file or the recording's text has them.
"""

import json
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeVar

from kilter.core import sources, tables
from kilter.core.names import AUDIO_SUFFIX, printable
from kilter.core.options import at_least
from kilter.evaluation.latency import Span
from kilter.evaluation.praat import Interval, tiers
from kilter.evaluation.silence import marks_silence

Format = Literal["jsonl", "ctm", "textgrid"]
T = TypeVar("T")


class WordTime(NamedTuple):
    """A word, where its tokens lie in the audio, and how sure the model is of them.

    Attributes:
        word: as it was written, or heard.
        start, end: seconds.
        score: geometric mean of the probabilities of the word's tokens over the frames they hold, in [0, 1].
    """

    word: str
    start: float
    end: float
    score: float


def utterance_key(name: str) -> str:
    """The name of a recording as CTM and file names can hold it: no suffix of audio, no spaces, no way upwards.

    Example:
        >>> utterance_key("day 1/a.wav")
        'day_1/a'
    """
    name = unicodedata.normalize("NFC", printable(name).strip())  # file systems differ in the form they keep
    path = PurePath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return re.sub(r"^;;|\s+", "_", AUDIO_SUFFIX.sub("", "/".join(parts)))  # ;; begins a comment of a CTM


def by_key(found: Iterable[tuple[str, T]], where: str) -> dict[str, T]:
    """What belongs to each recording, by `utterance_key`.

    Raises:
        ValueError: two names are one once they are cleaned.

    Example:
        >>> by_key([("a.wav", 1), ("b c", 2)], "x.ctm")
        {'a': 1, 'b_c': 2}
    """
    names: dict[str, str] = {}
    kept = {}
    for name, value in found:
        if (other := names.setdefault(key := utterance_key(name), name)) != name:
            raise ValueError(f"{where}: {other!r} and {name!r} are one name without suffix and spaces; rename one")
        kept[key] = value
    return kept


# Writing ----------------------------------------------------------------------------------------------------------


def jsonl(name: str, text: str, words: Sequence[WordTime], *, heard: bool = False) -> str:
    """One line of JSON; `heard` says that the text is what the model heard, not a transcript.

    Example:
        >>> print(jsonl("a", "yes", [WordTime("yes", 0.12, 0.3, 0.97)]), end="")
        {"id": "a", "text": "yes", "heard": false, "words": [{"word": "yes", "start": 0.12, "end": 0.3, "score": 0.97}]}
    """
    rows = [
        {"word": word.word, "start": round(word.start, 3), "end": round(word.end, 3), "score": round(word.score, 4)}
        for word in words
    ]
    return json.dumps({"id": name, "text": text, "heard": heard, "words": rows}, ensure_ascii=False) + "\n"


def ctm(name: str, words: Sequence[WordTime], channel: str = "1") -> str:
    """A line for each word: file, channel, start, duration, word, confidence.

    Example:
        >>> print(ctm("a.wav", [WordTime("yes", 0.12, 0.3, 0.97)]), end="")
        a 1 0.120 0.180 yes 0.9700

    Reference: the time-marked conversation format of NIST's SCTK.
    """
    key = utterance_key(name)
    return "".join(
        f"{key} {channel} {word.start:.3f} {word.end - word.start:.3f} {word.word} {word.score:.4f}\n" for word in words
    )


def textgrid(words: Sequence[WordTime], seconds: float) -> str:
    """A long-format TextGrid with one tier, `words`; an interval without a label is a pause.

    Args:
        words: in order, none overlapping the next.
        seconds: duration of the recording.

    Raises:
        ValueError: a duration that is negative or no number.

    Example:
        >>> print(textgrid([WordTime("yes", 0.0, 0.5, 1.0)], 0.5).splitlines()[-1].strip())
        text = "yes"

    Reference: "TextGrid file formats" in Praat's manual.
    """
    at_least("seconds", seconds, 0)
    length = max([seconds, *(word.end for word in words)])
    intervals, now = [], 0.0
    for word in words:
        if round(word.start - now, 4) > 0:
            intervals.append((now, word.start, ""))
        intervals.append((word.start, word.end, word.word))
        now = word.end
    if round(length - now, 4) > 0 or not intervals:  # Praat has no tier without an interval
        intervals.append((now, length, ""))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {length:.4f}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "words"',
        "        xmin = 0",
        f"        xmax = {length:.4f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start, end, label) in enumerate(intervals, start=1):
        quoted = label.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start:.4f}",
            f"            xmax = {end:.4f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


# Reading ----------------------------------------------------------------------------------------------------------


def decode_text(data: bytes, where: str) -> str:
    """What a file says: Praat writes UTF-16 with a mark where a letter needs it, everyone else UTF-8.

    Example:
        >>> decode_text("ā".encode("utf-16"), "x.TextGrid")
        'ā'

    Raises:
        ValueError: it is neither.
    """
    try:
        return sources.decode(data)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: is neither UTF-8 nor UTF-16 ({error}); save it as UTF-8") from error


def span_of(word: Any) -> Span:
    """A word of a column `words`, once it is sure that it is one.

    Example:
        >>> span_of({"word": "yes", "start": 0.5, "end": 0.25})
        Traceback (most recent call last):
        ValueError: {'end': 0.25, 'start': 0.5, 'word': 'yes'} in 'words' ends before it starts

    Raises:
        ValueError: it lacks its text or a time, or one of them is of another kind.
    """
    if type(word) is dict and word.keys() >= _WORD:  # the short way, for most are as they should be
        said, start, end = word["word"], word["start"], word["end"]
        if type(start) is type(end) is float and 0 <= start <= end <= _MOST and type(said) is str and said.strip():
            return Span(said, start, end)
    if why := _fault(word):
        raise ValueError(f"{tables.shown(word)} in 'words' {why}")
    return Span(word["word"], float(word["start"]), float(word["end"]))


def _fault(word: Any) -> str:
    """What is wrong with a word; empty if nothing is."""
    if not isinstance(word, Mapping):
        return "is no object with word, start and end"
    if lacking := _WORD - word.keys():
        return f"lacks {', '.join(sorted(lacking))} (times in seconds)"
    if not isinstance(word["word"], str) or not word["word"].strip():
        return f"has {tables.shown(word['word'])} for its word, which must be a text"
    for name in ("start", "end"):
        if not isinstance(word[name], int | float) or isinstance(word[name], bool):
            return f"has {tables.shown(word[name])} for its {name}, which must be a number of seconds"
    return _impossible(word["start"], word["end"])


def _impossible(start: int | float, end: int | float) -> str:
    """Why no word can have these times; empty if one can."""
    if not (0 <= start <= _MOST and -_MOST <= end <= _MOST):
        return "has a time that is not in seconds from the start of the recording, 0 or more"
    return "ends before it starts" if end < start else ""


_WORD = frozenset({"word", "start", "end"})
_MOST = sys.float_info.max


def read_jsonl(text: str, where: str, kind: str = ".jsonl") -> dict[str, list[Span]]:
    """Words by recording, from rows with `id` and `words`.

    Args:
        text: of the file.
        where: what errors call it.
        kind: `.jsonl` for an object a line; or another kind of table, a csv with the words as JSON.

    Raises:
        ValueError: a row is something else; it is named.
    """
    found: dict[str, list[Span]] = {}
    try:
        for place, row in tables.rows(sources.Source(where, kind, text), kind):
            name, spans = _recording(row, place)
            if name in found:
                raise ValueError(f"{place}: recording {name!r} stands twice; keep one, or give each its own id")
            found[name] = spans
    except tables.BadJSON as error:
        raise ValueError(_no_recording(error.where, error.why)) from error
    return found


def _recording(row: Any, where: str) -> tuple[str, list[Span]]:
    words = tables.listed(row.get("words"), f"{where}, column 'words'", "{]") if isinstance(row, dict) else None
    if not isinstance(words, list) or row.get("id") in (None, ""):
        raise ValueError(_no_recording(where, f"got {tables.shown(row)}"))
    tables.check_id(row["id"], where)
    try:
        return str(row["id"]), [span_of(word) for word in words]
    except ValueError as error:
        raise ValueError(_no_recording(where, str(error))) from error


def _no_recording(where: str, why: str) -> str:
    return (
        f"{where}: expected an object with id and words, each with word, start and end in seconds, as `kilter align` "
        f"writes it ({why})"
    )


def read_ctm(text: str, where: str, said: Mapping[str, str] = MappingProxyType({})) -> dict[str, list[Span]]:
    """Words by recording, in order of time; a line that starts with `;;` is a comment.

    Args:
        text: of the file.
        where: what errors call it.
        said: the texts of recordings by `utterance_key`, where they are known: what they have is no mark of silence.

    Example:
        >>> read_ctm("a 1 0.5 0.25 yes 0.9", "x.ctm")
        {'a': [Span(token='yes', start=0.5, end=0.75)]}

    Raises:
        ValueError: a line is something else; it is named.
    """
    found = defaultdict(list)
    lines = sources.lines(text)
    ours = all(_OURS.fullmatch(line) for line in lines if line.strip())
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            name, _, start, duration, word = fields[:5]
            if "_" in start or "_" in duration:
                raise ValueError("a number has no _")
            begin = float(start)
            span = Span(word, begin, begin + float(duration))
            if not 0 <= begin <= span.end <= _MOST:
                raise ValueError(f"{tables.shown(word)} {_impossible(begin, span.end)}")
            if len(fields) > 5 and not _CONFIDENCE.match(fields[5]):
                raise ValueError(f"{tables.shown(fields[5])} is no confidence; a word has no space in it")
        except ValueError as error:
            why = f" ({error!s:.100})" if len(fields) > 4 else ""
            raise ValueError(
                f"{where}, line {number}: expected `file channel start duration word [confidence]`, "
                f"got {tables.shown(line)}{why}"
            ) from error
        if ours or not marks_silence(word, said.get(utterance_key(name), "")):
            found[name].append(span)
    return {name: sorted(spans, key=lambda span: span.start) for name, spans in found.items()}


_OURS = re.compile(r"\S+ \S+ \d+\.\d{3} \d+\.\d{3} \S+ [01]\.\d{4}")
"""A line of a CTM as `ctm` writes it."""
_CONFIDENCE = re.compile(r"(?:[-+]?[\d.]+(?:[eE][-+]?\d+)?|NA|<NA>|-)\Z", re.ASCII)
"""A number, or what others write where they have none."""


def read_textgrid(text: str, where: str, said: str = "") -> list[Span]:
    """Words of a TextGrid, long or short: those of the tiers called "words" or "… - words", or of the only one.

    Args:
        text: of the file.
        where: what errors call it.
        said: the recording's text, where it is known: what it has is no mark of silence.

    Raises:
        ValueError: it is not a TextGrid in Praat's text format, or no tier can be taken for words, or a word has times
            that cannot be; the line is named.

    Reference: "TextGrid file formats" in Praat's manual: only free-standing numbers, strings and flags count.
    """
    found = list(tiers(text, where))
    named = [tier for tier in found if re.fullmatch(r"(.*- ?)?words?", tier.name.strip(), re.IGNORECASE)]
    if not named and len(found) != 1:
        names = ", ".join(repr(tier.name) for tier in found) or "none"
        raise ValueError(f"{where}: no tier is called 'words'; its interval tiers: {names}")
    intervals = [interval for tier in named or found for interval in tier.intervals]
    spans = []
    ours = _is_ours(text, intervals)
    for line, label, start, end in intervals:
        if (word := label.strip()) and (ours or not marks_silence(word, said)):
            if why := _impossible(start, end):
                raise ValueError(f"{where}, line {line}: the word {tables.shown(word)} {why}")
            spans.append(Span(word, start, end))
    return sorted(spans, key=lambda span: span.start)


def _is_ours(text: str, intervals: Sequence[Interval]) -> bool:
    """Whether a TextGrid is, line by line, what `textgrid` writes of its words."""
    if any(_impossible(one.start, one.end) for one in intervals):
        return False
    words = [WordTime(one.label, one.start, one.end, 1.0) for one in intervals if one.label]
    return sources.lines(textgrid(words, max((one.end for one in intervals), default=0.0))) == sources.lines(text)
