"""Prompts for a model of text: a prompt a line, JSON lines with a column `prompt`, or either of them from a pipe."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT = ("id", "references")
"""Columns that go with a prompt into what is written."""


@dataclass(frozen=True)
class TextPrompt:
    """One prompt; `where` is what errors call it, `kept` what its row says besides: an id, references."""

    where: str
    text: str
    kept: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(source: str) -> list[TextPrompt]:
    """Read a `.jsonl`, a file of lines, or standard input (`-`), which may be either.

    Raises:
        ValueError: no such file, not UTF-8, not JSON, no prompts; a prompt that is empty or no text, with its line.
    """
    if source == "-":
        name, data = "standard input", sys.stdin.buffer.read()
    elif Path(source).is_file():
        name, data = source, Path(source).read_bytes()
    else:
        raise ValueError(f"{source}: no such file; give a .txt or .jsonl, or - and the prompts through a pipe")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: is not UTF-8 ({error}); save it as UTF-8") from error
    rows = source.endswith(".jsonl") or (source == "-" and _is_row(text.partition("\n")[0]))
    found = [*(_from_rows(text, name) if rows else _from_lines(text, name))]
    if not found:
        raise ValueError(f"{name}: holds no prompts; give one a line")
    return found


def _from_lines(text: str, name: str) -> Iterator[TextPrompt]:
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        yield TextPrompt(where := f"{name}, line {number}", _spoken(line.removesuffix("\r"), where))


def _from_rows(text: str, name: str) -> Iterator[TextPrompt]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error}); write an object a line") from error
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            has = f"columns {', '.join(map(repr, row))}" if isinstance(row, dict) else repr(row)[:40]
            raise ValueError(f"{where}: needs the prompt as a text in column 'prompt', has {has}")
        kept = {column: row[column] for column in KEPT if row.get(column) is not None}
        if isinstance(kept.get("references"), str):
            kept["references"] = [kept["references"]]
        if not all(isinstance(one, str) for one in kept.get("references", [])):
            raise ValueError(f"{where}: column 'references' must be a list of texts, got {kept['references']!r:.60}")
        yield TextPrompt(where, _spoken(row["prompt"], where), kept)


def _spoken(text: str, where: str) -> str:
    if not text.strip():
        raise ValueError(f"{where}: the prompt is empty; write one there, or remove the line")
    return text


def _is_row(line: str) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and "prompt" in row
