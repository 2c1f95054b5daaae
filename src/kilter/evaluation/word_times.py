"""Words with their times in the files other tools read: JSON lines, NIST CTM and Praat TextGrid.

Text in, words out, and back; nothing here opens a file. Times are seconds from the start of the recording.
Departure: all tiers of a TextGrid that hold words are read as one, speakers together; marks of silence are no words.
"""

import codecs
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, TypeVar

from kilter.core.names import AUDIO_SUFFIX, printable
from kilter.core.options import at_least
from kilter.evaluation.latency import Span

Format = Literal["jsonl", "ctm", "textgrid"]
T = TypeVar("T")

SILENCE = frozenset({"", "sil", "sp", "<eps>", "<sil>"})
"""Labels that aligners give to what is not a word."""


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
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: is neither UTF-8 nor UTF-16 ({error}); save it as UTF-8") from error


def read_jsonl(text: str, where: str) -> dict[str, list[Span]]:
    """Words by recording, from lines with `id` and `words`.

    Raises:
        ValueError: a line is something else; it is named.
    """
    found = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            found[str(row["id"])] = [
                Span(str(word["word"]), float(word["start"]), float(word["end"])) for word in row["words"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{where}, line {number}: expected an object with id and words, each with word, start and end in "
                f"seconds, as `kilter align` writes it ({error!r})"
            ) from error
    return found


def read_ctm(text: str, where: str) -> dict[str, list[Span]]:
    """Words by recording, in order of time; a line that starts with `;;` is a comment.

    Example:
        >>> read_ctm("a 1 0.5 0.25 yes 0.9", "x.ctm")
        {'a': [Span(token='yes', start=0.5, end=0.75)]}

    Raises:
        ValueError: a line is something else; it is named.
    """
    found = defaultdict(list)
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            name, _, start, duration, word = fields[:5]
            span = Span(word, float(start), float(start) + float(duration))
        except ValueError as error:
            raise ValueError(
                f"{where}, line {number}: expected `file channel start duration word [confidence]`, got {line!r}"
            ) from error
        if word.lower() not in SILENCE:
            found[name].append(span)
    return {name: sorted(spans, key=lambda span: span.start) for name, spans in found.items()}


def read_textgrid(text: str, where: str) -> list[Span]:
    """Words of a TextGrid, long or short: those of the tiers called "words" or "… - words", or of the only one.

    Raises:
        ValueError: it is not a TextGrid in Praat's text format, or no tier can be taken for words.

    Reference: "TextGrid file formats" in Praat's manual: only free-standing numbers, strings and flags count.
    """
    try:
        tiers = list(_tiers(text))
    except (StopIteration, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{where}: not a TextGrid in Praat's text format; save it from Praat as a text file"
        ) from error
    named = [spans for name, spans in tiers if re.fullmatch(r"(.*- ?)?words?", name.strip(), re.IGNORECASE)]
    if not named and len(tiers) != 1:
        names = ", ".join(repr(name) for name, _ in tiers) or "none"
        raise ValueError(f"{where}: no tier is called 'words'; its interval tiers: {names}")
    chosen = named or [spans for _, spans in tiers]
    return sorted((span for spans in chosen for span in spans), key=lambda span: span.start)


_PRAAT = re.compile(r'"(?:[^"]|"")*"|!.*|<\w+>|(?<!\S)[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?(?!\S)')


def _tiers(text: str) -> Iterator[tuple[str, list[Span]]]:
    tokens = (token for token in _PRAAT.findall(text) if not token.startswith("!"))

    def take(kind: Any = float) -> Any:
        token = next(tokens)
        return kind(token) if kind is float else token[1:-1].replace('""', '"')

    if take(str) != "ooTextFile" or take(str) != "TextGrid":
        raise ValueError("not a TextGrid")
    _ = take(), take(), take(str)  # its start, its end, <exists>
    for _ in range(int(take())):
        kind, name, _, _, size = take(str), take(str), take(), take(), int(take())
        if kind == "TextTier":  # points in time
            _ = [(take(), take(str)) for _ in range(size)]
            continue
        spans = [Span(start=take(), end=take(), token=take(str).strip()) for _ in range(size)]
        yield name, [span for span in spans if span.token.lower() not in SILENCE]
