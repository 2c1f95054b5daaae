"""What a decoder wrote, for a person at a terminal: the groups of a prompt side by side, best first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from kilter.lab.numbers import fixed

_COLUMN = 26
"""Least width of a group's column; groups that do not fit go below."""
_PROMPT = 200


def show_texts(rows: Iterable[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the rows of `kilter generate`, a table for each prompt."""
    console = console or Console()
    for row in rows:
        prompt = " ".join(row["prompt"].split())
        shown = prompt if len(prompt) <= _PROMPT else f"… {prompt[-_PROMPT:]}"
        console.print(Text(f"\n{row['index'] + 1}. {shown}", style="bold"))
        for table in _tables(row["outputs"], max(1, console.width // _COLUMN)):
            console.print(table)


def _tables(outputs: Sequence[Mapping[str, Any]], most: int) -> Iterator[Table]:
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for output in outputs:
        groups.setdefault(output["group"], []).append(output)
    if len(groups) < 2:
        table = Table(
            Column("score", justify="right"), Column("text", ratio=1), box=None, header_style="dim", pad_edge=False
        )
        for output in outputs:
            table.add_row(_score(output), _words(output))
        yield table
        return
    names = sorted(groups)
    for start in range(0, len(names), most):
        few = names[start : start + most]
        columns = (Column(f"group {name + 1}", ratio=1) for name in few)
        table = Table(*columns, box=None, header_style="dim", pad_edge=False, expand=True)
        for place in range(max(len(groups[name]) for name in few)):
            table.add_row(*(_cell(groups[name], place) for name in few))
        yield table


def _cell(outputs: Sequence[Mapping[str, Any]], place: int) -> Text:
    if place >= len(outputs):
        return Text()
    return Text.assemble((_score(outputs[place]), "dim"), " ", _words(outputs[place]))


def _words(output: Mapping[str, Any]) -> Text:
    return Text(" ".join(output["text"].split()))


def _score(output: Mapping[str, Any]) -> str:
    return "–" if output["score"] is None else fixed(output["score"], 2)
