"""The user's rows of texts: lines, a table, a pipe or a data set of the hub, columns under the names people give them.

One reader for sentences, scored pairs, translations and documents, so that what one of them reads all do.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from kilter.core import sources, tables
from kilter.core.names import printable
from kilter.data.hub import HUB_ID, load_hub

Columns = Mapping[str, Sequence[str]]
"""What is wanted, and other names under which it may stand."""


def read_rows(
    source: str,
    columns: Columns,
    *,
    what: str,
    plain: Literal["", "line", "block"] = "",
    streaming: bool = False,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a source, each with where it stands; a line of text stands in the first column wanted.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson`; with `plain` also a `.txt` or `.md`; one of these in a file
            without a suffix or through a pipe (`-` is standard input), where the first line tells which it is; or a
            hub id, `org/name`, `org/name:config` or `org/name:config:split` (of split train, if none is named).
        columns: What is wanted; a table without a suffix has one of these names in its first line.
        what: What the rows are, for errors.
        plain: What a row of plain text is: a line, or a block between blank lines; empty where there is none.
        streaming: Fetch rows of the hub as they are read, for what needs not all of them.

    Raises:
        ValueError: No such file or hub id, one of another suffix, not UTF-8, a broken table, a row that is none, or
            no rows; the message names the line.
    """
    found = _rows(source, columns, what, plain, streaming)
    if (first := next(found, None)) is None:
        raise ValueError(f"{printable(source)}: holds no {what}; give one a {plain or 'row'}")
    yield first
    yield from found


def cell(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any] | None:
    """The first of the columns that the row has, and what stands in it; None if it has none of them.

    Example:
        >>> cell({"text2": "rain", "score": 3}, ("sentence2", "text2"))
        ('text2', 'rain')
    """
    return next(((name, row[name]) for name in names if row.get(name) is not None), None)


def text_in(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The text of a row, without spaces around it.

    Args:
        row: One of `read_rows`.
        names: The column that is wanted, and its other names.
        where: What errors call the row.

    Raises:
        ValueError: There is no such column, or what stands in it is no text, or empty.
    """
    if (found := cell(row, names)) is None:
        others = f" (or {', '.join(names[1:])})" if len(names) > 1 else ""
        has = ", ".join(map(repr, row))
        raise ValueError(f"{where}: needs a text in column {names[0]!r}{others}, has columns {has:.200}")
    name, text = found
    if not isinstance(text, str):
        raise ValueError(f"{where}: column {name!r} must hold a text, got {tables.shown(text)}")
    if not text.strip():
        raise ValueError(f"{where}: the text is empty; write one there, or remove the line")
    return text.strip()


def pair_in(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[str, str]:
    """The two texts of a row, which are its two columns whatever their names, where it has no others.

    Args:
        row: One of `read_rows`.
        columns: The two that are wanted, and their other names.
        where: What errors call the row.

    Raises:
        ValueError: There is no such column, or what stands in it is no text, or empty.

    Example:
        >>> wanted = {"source": ("source",), "target": ("target", "english")}
        >>> pair_in({"id": 7, "source": "Regen", "english": "rain"}, wanted, "line 1")
        ('Regen', 'rain')
        >>> pair_in({"de": "Regen", "en": "rain"}, wanted, "line 1")
        ('Regen', 'rain')
    """
    known = {name for names in columns.values() for name in names}
    first, second = ((name,) for name in row) if len(row) == 2 and not known & {*row} else columns.values()
    return text_in(row, first, where), text_in(row, second, where)


def _rows(
    source: str, columns: Columns, what: str, plain: str, streaming: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    known = (*(sources.LINES if plain else ()), *tables.SUFFIXES)
    suffix, said = Path(source).suffix.lower(), printable(source)
    if sources.is_source(source):
        if suffix and suffix not in known and not sources.is_pipe(source):
            raise ValueError(f"{said}: a file of {what} ends in {', '.join(known)}; rename or convert it")
        yield from _read(sources.read_source(source), columns, known, plain)
    elif suffix not in known and not Path(source).exists() and (hub := HUB_ID.fullmatch(source)):
        split = hub["split"] or "train"
        rows = load_hub(hub["name"], hub["config"], split, **({"streaming": True} if streaming else {}))
        yield from ((f"{hub['name']} ({split}), row {number}", row) for number, row in enumerate(rows))
    else:
        raise ValueError(
            f"{said}: no such file, and no hub id like 'org/name' or 'org/name:config:split'; give a file that ends in "
            f"{', '.join(known)}, or - and the {what} through a pipe"
        )


def _read(
    read: sources.Source, columns: Columns, known: Sequence[str], plain: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    kind, first = read.suffix, next(iter(columns))
    if kind not in known:  # of a pipe or a file without a suffix the beginning tells
        guesses = (tables.guess(read.text, name) for names in columns.values() for name in names)
        kind = next(filter(None, guesses), known[0])
    if kind in sources.LINES:
        for number, text in (_blocks if plain == "block" else _lines)(read.text):
            yield f"{read.name}, line {number}", {first: text}
        return
    for where, row in tables.rows(read, kind):
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected an object with columns, not {tables.shown(row)}")
        yield where, row


def _lines(text: str) -> Iterator[tuple[int, str]]:
    yield from enumerate(sources.lines(text), start=1)


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """What stands between blank lines, each with the number of its first line."""
    for filled, lines in groupby(_lines(text), key=lambda line: bool(line[1].strip())):
        block = [*lines]
        if filled:
            yield block[0][0], "\n".join(line for _, line in block)
