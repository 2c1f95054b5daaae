"""Prompts for a model of text: a prompt a line, or a table with a column `prompt`, from a file or through a pipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kilter.core import sources, tables

KEPT = ("id", "references")
"""Columns that go with a prompt into what is written."""


@dataclass(frozen=True)
class TextPrompt:
    """One prompt; `where` is what errors call it, `kept` what its row says besides: an id, references."""

    where: str
    text: str
    kept: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(source: str) -> list[TextPrompt]:
    """Read prompts.

    Args:
        source: A `.txt` or `.md` with a prompt a line, whatever the lines look like; a `.csv`, `.json`, `.jsonl` or
            `.ndjson` with a column `prompt`, and `id` and `references` if there are any; or one of these in a file
            without a suffix or through a pipe (`-` is standard input), where the first line tells which it is.
            References are a list of texts or one text; a csv has a list as JSON.

    Raises:
        ValueError: No such file, one of another suffix, not UTF-8, a broken table, no prompts; a prompt that is empty
            or no text, an id or references that cannot be one. The message names the line.
    """
    if not sources.is_source(source):
        raise ValueError(f"{source}: no such file; give a .txt, .csv or .jsonl, or - and the prompts through a pipe")
    suffix, known = Path(source).suffix.lower(), (*sources.LINES, *tables.SUFFIXES)
    if suffix and suffix not in known and not sources.is_pipe(source):
        raise ValueError(f"{source}: a file of prompts ends in {', '.join(known)}; rename or convert it")
    read = sources.read_source(source)
    kind = read.suffix if read.suffix in known else tables.guess(read.text, "prompt")
    found = [*(_from_rows(read, kind) if kind in tables.SUFFIXES else _from_lines(read))]
    if not found:
        raise ValueError(f"{read.name}: holds no prompts; give one a line")
    return found


def _from_lines(read: sources.Source) -> Iterator[TextPrompt]:
    for number, line in enumerate(sources.lines(read.text), start=1):
        yield TextPrompt(where := f"{read.name}, line {number}", _spoken(line, where))


def _from_rows(read: sources.Source, kind: str) -> Iterator[TextPrompt]:
    for where, row in tables.rows(read, kind):
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            has = f"columns {', '.join(map(repr, row))}" if isinstance(row, dict) else tables.shown(row)
            there = f" ({tables.shown(row['prompt'])})" if isinstance(row, dict) and "prompt" in row else ""
            raise ValueError(f"{where}: needs the prompt as a text in column 'prompt', has {has:.200}{there}")
        yield TextPrompt(where, _spoken(row["prompt"], where), _kept(row, where))


def _kept(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    kept = {column: value for column in KEPT if (value := row.get(column)) is not None and value != ""}
    if "id" in kept:
        tables.check_id(kept["id"], where)
    if "references" in kept:
        kept["references"] = _references(kept["references"], where)
    return kept


def _references(given: Any, where: str) -> list[str]:
    """A list of texts; one text is a list of one, unless it is a list written as JSON, as a csv must have it."""
    given = tables.listed(given, f"{where}, column 'references'", "\"']")
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
        raise ValueError(
            f"{where}: column 'references' must be a list of texts, none of them empty, got {tables.shown(given)}"
        )
    return given


def _spoken(text: str, where: str) -> str:
    if not text.strip():
        raise ValueError(f"{where}: the prompt is empty; write one there, or remove the line")
    return text
