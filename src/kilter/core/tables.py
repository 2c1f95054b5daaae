"""Tables as people have them: csv, a JSON list, JSON lines and lines of text, from a file or through a pipe.

One reader for every command, so that a format is read everywhere or nowhere, and whatever is wrong is named with its
line. Nothing is guessed in silence: a row that does not fit its header, a key that stands twice or half a letter is an
error. Standard library only.
"""

import codecs
import csv
import io
import json
import re
import reprlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PIPE = "-"
LINES = (".txt", ".md")
"""Suffixes of files that hold a text a line, where a command takes such."""

_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_OBJECT = re.compile(r'\s*\{\s*["}]')
_OBJECTS = re.compile(r"\s*\[\s*\{")
_FIRST = re.compile(r"\s*([^\r\n]*)")


class BadJSON(ValueError):
    """A row that is not JSON, or none that can be read: where it stands, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


class Source(NamedTuple):
    """What was read.

    Attributes:
        name: what errors call it.
        suffix: of its name, in lower case; empty for a pipe without one.
        text: all of it.
    """

    name: str
    suffix: str
    text: str


# Files and pipes ------------------------------------------------------------------------------------------------------


def is_source(source: str | Path) -> bool:
    """Whether there is something to read: `-` for standard input, a file, or a pipe that has a name."""
    return is_pipe(source) or Path(source).is_file()


def is_pipe(source: str | Path) -> bool:
    """Whether it can be read only once: `-`, `/dev/stdin`, a named pipe, `<(…)` of a shell.

    Example:
        >>> is_pipe("-"), is_pipe("table.csv")
        (True, False)
    """
    path = Path(source)
    opened = str(source).startswith(_OPENED)  # may be a file that the shell has opened: `< table.csv`
    return str(source) == PIPE or (path.exists() and not path.is_dir() and (opened or not path.is_file()))


def read_source(source: str | Path) -> Source:
    """Read a file, or a pipe to its end.

    Raises:
        ValueError: it is no text in UTF-8 or UTF-16; the line is named.
    """
    if str(source) == PIPE:
        return Source(name := "standard input", "", _decoded(sys.stdin.buffer.read(), name))
    return Source(str(source), Path(source).suffix.lower(), _decoded(Path(source).read_bytes(), str(source)))


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, with a mark or without, or UTF-16 with one, as Excel and Praat write it.

    Example:
        >>> decode("ā".encode("utf-16"))
        'ā'

    Raises:
        UnicodeDecodeError: it is neither, or holds NUL bytes, which no text does.
    """
    marked = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = data.decode("utf-16" if marked else "utf-8-sig")
    if "\0" in text:
        at = data.find(b"\0\0" if marked else b"\0")
        raise UnicodeDecodeError("utf-16" if marked else "utf-8", data, at, at + 1, "a NUL, which no text holds")
    return text


def _decoded(data: bytes, name: str) -> str:
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", data[: error.start])) + 1
        raise ValueError(
            f"{name}: is not UTF-8: line {line} is neither UTF-8 nor UTF-16 ({error}); save it as UTF-8"
        ) from error


def lines(text: str) -> list[str]:
    r"""The lines of a text, which end as on Unix, Windows or old Macs, and nowhere else: not at U+2028.

    Example:
        >>> lines("one\r\ntwo\u2028three\n")
        ['one', 'two\u2028three']
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n") if text else []


# Rows -----------------------------------------------------------------------------------------------------------------


def rows(source: Source, kind: str) -> Iterator[tuple[str, Any]]:
    r"""The rows of a table, each with where it stands; values of a csv are texts, and what a row lacks is not there.

    Args:
        source: what was read.
        kind: one of `SUFFIXES`.

    Example:
        >>> [*rows(Source("t.csv", ".csv", 'id,text\n1,"YES, I WENT"\n'), ".csv")]
        [('t.csv, line 2', {'id': '1', 'text': 'YES, I WENT'})]

    Raises:
        ValueError: the table is not what its kind says, or a row is broken; the line is named.
    """
    return _READERS[kind](source.text, source.name) if source.text.strip() else iter(())


def guess(text: str, column: str) -> str | None:
    r"""The kind of a table whose name does not tell, by its beginning; None where it looks like lines of text.

    Args:
        text: all of it.
        column: the one without which the table would be of no use; a csv has it in its first line.

    Example:
        >>> guess('{"prompt": "rain"}\n', "prompt"), guess("id,prompt\n1,rain\n", "prompt"), guess("rain\n", "prompt")
        ('.jsonl', '.csv', None)
    """
    if _OBJECT.match(text):
        return ".jsonl"
    if _OBJECTS.match(text):
        return ".json"
    first = _FIRST.match(text)
    return ".csv" if first and column in [cell.strip(' "') for cell in first[1].split(",")] else None


def _csv(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        line, header = next((line, cells) for line, cells in _cells(text, name) if cells)
        spaced = any(cell.startswith(" ") for cell in header[1:])  # then `, "a text"` has its quotes after the space
        table = [*_cells(text, name, spaced)]
    finally:
        csv.field_size_limit(before)

    names = [cell.strip() for cell in header]
    _check_header(names, f"{name}, line {line}")
    padded = names != header
    while names and not names[-1]:
        names.pop()
    for at, cells in table:
        if at <= line or (len(cells) != 1 and not any(cells)):  # blank, or the commas of an empty row
            continue
        where = f"{name}, line {at}"
        if len(cells) > len(names) and (len(cells) > len(header) or any(cells[len(names) :])):
            raise ValueError(_too_many(cells, len(names), where))
        if padded:
            cells = [cell.strip() for cell in cells]
        yield where, dict(zip(names, cells, strict=False))


def _cells(text: str, name: str, spaced: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=spaced)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{name}, line {line}: not CSV ({error}); close each quote, and double those inside a text"
        ) from error


def _check_header(names: list[str], where: str) -> None:
    if len(names) == 1 and (found := next((sign for sign in _SEPARATORS if sign in names[0]), None)):
        raise ValueError(f"{where}: the columns stand between {_SEPARATORS[found]}; save the table with commas")
    if twice := next((one for place, one in enumerate(names) if one and one in names[:place]), None):
        raise ValueError(f"{where}: column {twice!r} stands twice; rename or remove one")


def _too_many(cells: list[str], width: int, where: str) -> str:
    text = ",".join(cells[max(width - 1, 0) :])
    return (
        f"{where}: has more fields ({len(cells)}) than the header has columns ({width}); "
        f'put a text with commas into double quotes: "{text[:60]}"'
    )


def _json(text: str, name: str) -> Iterator[tuple[str, Any]]:
    found = None if _OBJECT.match(text) else parse(text, name)
    if not isinstance(found, list):
        raise ValueError(f"{name}: expected a list of rows, [{{…}}, {{…}}]; for one object a line call it .jsonl")
    yield from ((f"{name}, row {number}", values) for number, values in enumerate(found, start=1))


def _jsonl(text: str, name: str) -> Iterator[tuple[str, Any]]:
    if _OBJECTS.match(text):
        raise ValueError(f"{name}, line 1: is a list of rows; write one object a line, or call it .json")
    for number, line in enumerate(lines(text), start=1):
        if line and not line.isspace():
            yield (where := f"{name}, line {number}"), parse(line, where)


_READERS = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl}
SUFFIXES = tuple(_READERS)


# Values ---------------------------------------------------------------------------------------------------------------


def parse(text: str, where: str) -> Any:
    """A value written as JSON.

    Example:
        >>> parse('{"text": "YES", "text": "NO"}', "t.jsonl, line 1")
        Traceback (most recent call last):
        kilter.core.tables.BadJSON: t.jsonl, line 1: 'text' stands twice in one object; keep one

    Raises:
        BadJSON: it is not JSON, or too deep; a key stands twice, or a text holds what is no letter.
    """
    try:
        flat = text.count("{") < 2
        found = json.loads(text) if flat else _ONCE.decode(text)
        if flat and text.count(":") != (len(found) if isinstance(found, dict) else 0):  # else nothing can stand twice
            _ONCE.decode(text)
        if "\\u" in text and _ESCAPED.search(text):
            _check_letters(found)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        raise BadJSON(where, f"not JSON ({error.msg}: {place}); is it cut short?") from error
    except RecursionError as error:
        raise BadJSON(where, "nested too deep; write plain rows") from error
    except ValueError as error:
        raise BadJSON(where, str(error)) from error
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object; keep one")
    return found


_ONCE = json.JSONDecoder(object_pairs_hook=_once)


def _check_letters(value: Any) -> None:
    bad = next((text for text in _texts_of(value) if _NO_TEXT.search(text)), None)
    if bad is not None:
        raise ValueError(f"{shown(bad)} holds a NUL or half of a letter, as an escape; write it as UTF-8")


def _texts_of(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value if isinstance(value, list) else [*value, *value.values()]:
            yield from _texts_of(one)


def check_id(value: Any, where: str) -> None:
    """Check that an id is a text or a number; NaN is none, for it would be the name of several.

    Raises:
        ValueError: it is something else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    if not number and not isinstance(value, str):
        raise ValueError(f"{where}: column 'id' must be a text or a number, got {shown(value)}; or leave it out")


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown(value: Any) -> str:
    """A value as errors show it, cut short.

    Example:
        >>> shown(["a"] * 100)
        "['a', 'a', 'a', 'a', 'a', 'a', ...]"
    """
    return _REPR.repr(value)
