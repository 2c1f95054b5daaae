"""Inputs with what people wrote for them: the shape of every text generation task here, and of one's own file.

The departure from a plain pair of columns: an input keeps all its references, because an oracle over many outputs
needs them, and may hold names that stand for values while the model works (delexicalisation).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Referenced:
    """One input of a generation task.

    Attributes:
        source: What the model reads.
        references: What people wrote for it; empty where nobody did.
        values: What stands for what in `source` and in what the model says, e.g. `{"NAME": "The Mill"}`.
    """

    source: str
    references: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """A text of the model's with the values in their places.

        Example:
            >>> Referenced("name[NAME]", values={"NAME": "The Mill"}).filled("NAME is a pub.")
            'The Mill is a pub.'
        """
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text


@dataclass(frozen=True)
class Splits:
    """A task: pairs to train on, inputs to choose settings on, inputs to judge on."""

    train: Sequence[tuple[str, str]]
    dev: Sequence[Referenced]
    test: Sequence[Referenced]


def spread(items: Sequence[Referenced], count: int) -> list[Referenced]:
    """At most `count` of the items, evenly spaced, so that a part speaks for the whole of a sorted set.

    Example:
        >>> [item.source for item in spread([Referenced(letter) for letter in "abcdef"], 3)]
        ['a', 'c', 'e']
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def read_referenced(path: str | Path) -> list[Referenced]:
    """Read one's own inputs: a `.jsonl` with `prompt` and perhaps `references`, or a text file of one prompt a line.

    Raises:
        ValueError: There is no such file, it holds no prompt, or a line is not as it must be (it is named).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give a .jsonl with prompt and references, or lines of text")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    read = _json_line if path.suffix in (".jsonl", ".ndjson") else _text_line
    items = [read(line, f"{path}, line {place}") for place, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise ValueError(f"{path}: holds no prompt; write one a line")
    return items


def _text_line(line: str, place: str) -> Referenced:
    return Referenced(line.rstrip())


def _json_line(line: str, place: str) -> Referenced:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: is not JSON ({error.msg}); each line is an object with the key prompt") from None
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f'{place}: has no text under prompt; write {{"prompt": "…", "references": ["…"]}}')
    references = row.get("references") or []
    if isinstance(references, str) or not all(isinstance(one, str) and one.strip() for one in references):
        raise ValueError(f"{place}: references must be a list of texts that are not empty")
    return Referenced(prompt, tuple(references))
