"""Tables as people have them: csv, a JSON list and JSON lines.

One reader for every command, so that a format is read everywhere or nowhere, and whatever is wrong is named with its
line. Nothing is lost in silence: a row that does not fit its header, a key that stands twice or half a letter is an
error. Standard library only.
"""

import csv
import io
import json
import math
import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

from kilter.core.sources import Source, lines

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")
_OBJECT = re.compile(r'\s*\{\s*["}]')
_OBJECTS = re.compile(r"\s*\[\s*\{")
_LIST = re.compile(r"\s*\[\s*(\S)")
_FIRST = re.compile(r"\s*([^\r\n]*)")


class BadJSON(ValueError):
    """A row that is not JSON, or none that can be read: where it stands, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where, self.why = where, why


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
    before = csv.field_size_limit()
    csv.field_size_limit(max(len(text), before))
    try:
        line, header = next((line, cells) for line, cells in _cells(text, name) if cells)
        spaced = any(cell.startswith(" ") for cell in header[1:])  # then `, "a text"` has its quotes after the space
        padded = spaced or any(cell != cell.strip() for cell in header)
        if spaced:
            header = next(cells for at, cells in _cells(text, name, spaced) if at == line)
        names = [cell.strip() for cell in header]
        _check_header(names, f"{name}, line {line}")
        while names and not names[-1]:
            names.pop()
        width = len(names)
        for at, cells in _cells(text, name, spaced):
            if at <= line or (len(cells) != 1 and not any(cells)):  # blank, or the commas of an empty row
                continue
            where = f"{name}, line {at}"
            if len(cells) > width and (len(cells) > len(header) or any(cells[width:])):
                raise ValueError(_too_many(cells, width, where))
            yield where, dict(zip(names, map(str.strip, cells) if padded else cells, strict=False))
    finally:
        csv.field_size_limit(before)


def _cells(text: str, name: str, spaced: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=spaced)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        if line == 1 and (sign := re.match(r'\s*"[^"\n]*"([;\t|])', text)):
            raise ValueError(_other_separator(sign[1], f"{name}, line 1")) from error
        raise ValueError(
            f"{name}, line {line}: not CSV ({error}); close each quote, and double those inside a text"
        ) from error


def _check_header(names: list[str], where: str) -> None:
    if len(names) == 1 and (found := next((sign for sign in _SEPARATORS if sign in names[0]), None)):
        raise ValueError(_other_separator(found, where))
    if twice := next((one for place, one in enumerate(names) if one and one in names[:place]), None):
        raise ValueError(f"{where}: column {twice!r} stands twice; rename or remove one")


def _other_separator(sign: str, where: str) -> str:
    return f"{where}: the columns stand between {_SEPARATORS[sign]}; save the table with commas"


def _too_many(cells: list[str], width: int, where: str) -> str:
    text = ",".join(cells[max(width - 1, 0) :])
    if any(cell.startswith(' "') for cell in cells):
        return f"{where}: has a space between comma and quote, which then does not quote; take it out: {text[:60]}"
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
    colon = ":" if " :" in text or "\t:" in text else '":'
    plain = "\\u" not in text or not _ESCAPED.search(text)
    for number, line in enumerate(lines(text), start=1):
        where = f"{name}, line {number}"
        if plain and (row := _simple(line, colon)) is not None:
            yield where, row
        elif line and not line.isspace():
            yield where, parse(line, where)


def _simple(line: str, colon: str) -> dict[str, Any] | None:
    """A row in which nothing stands twice, for it has as many keys as colons; None if it takes a closer look.

    The closer look takes twice as long, and few rows need it.
    """
    try:
        row, end = _PLAIN(line)
    except (ValueError, RecursionError):
        return None
    if type(row) is not dict or end != len(line):
        return None
    if (pairs := line.count(colon)) != len(row):  # words, outputs: lists of rows
        lists = [value for value in row.values() if type(value) is list and {*map(type, value)} == {dict}]
        pairs -= sum(sum(map(len, value)) for value in lists)
    return row if pairs == len(row) else None


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
        found = _ONCE.decode(text)
        if "\\u" in text and _ESCAPED.search(text):
            _check_letters(found)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        raise BadJSON(where, f"not JSON ({error.msg}: {place}), perhaps cut short") from error
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
_PLAIN = json.JSONDecoder().raw_decode


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


def listed(value: Any, where: str, first: str) -> Any:
    r"""A list that stands in a cell of a csv, where it can only be JSON; any other value as it is.

    Args:
        value: of a row.
        where: what errors call it.
        first: signs that may follow the bracket; any other is a text that happens to begin with one.

    Example:
        >>> listed('["rain", "day"]', "t.csv, line 2", "\"'"), listed("[laughs] rain", "t.csv, line 2", "\"'")
        (['rain', 'day'], '[laughs] rain')

    Raises:
        BadJSON: it begins as a list and is not JSON.
    """
    begun = _LIST.match(value) if isinstance(value, str) else None
    return parse(value, where) if begun and begun[1] in first else value


def check_id(value: Any, where: str) -> None:
    """Check that an id is a text or a number; NaN is none, for it would be the name of several.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < float("inf"):
        raise ValueError(f"{where}: column 'id' must be a text or a number, got {shown(value)}; or leave it out")


def number(value: Any) -> float | None:
    """A finite number, also where a text says it, as all do in a csv; None for anything else.

    Example:
        >>> number("3.5"), number(2), number("nan"), number(True)
        (3.5, 2.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown(value: Any) -> str:
    """A value as errors show it, cut short.

    Example:
        >>> shown(["a"] * 100)
        "['a', 'a', 'a', 'a', 'a', 'a', ...]"
    """
    return _REPR.repr(value)
