"""Where prompts come from, and answers to hold against: requests of people, short tasks with one answer, or the user's.

A request has the answer that people preferred, a short task its only right one; prompts of the user's may have none.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from kilter.core import tables
from kilter.data.text_rows import cell, read_rows
from kilter.lab.recipe import Provenance

_HELD_OUT = 10
"""Of the user's rows each tenth is judged on, where there are no others for that."""
_COLUMNS = {
    "prompt": ("prompt", "question", "instruction", "input"),
    "chosen": ("chosen", "reference", "answer", "completion", "response", "output"),
}
"""Names that the columns may have."""

Prompt = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Item:
    """A prompt, a text or messages, and the reference answer of the same kind, if there is one."""

    prompt: Prompt
    chosen: Prompt | None = None

    @property
    def asked(self) -> str:
        """The prompt as a figure shows it."""
        return said(self.prompt)


@dataclass(frozen=True)
class Material:
    """What is learnt from, what is judged on, and where it is from."""

    train: Sequence[Item]
    test: Sequence[Item]
    provenance: Provenance

    @property
    def referenced(self) -> bool:
        """Whether every prompt has a reference answer."""
        return all(item.chosen is not None for item in (*self.train, *self.test))


def said(text: Prompt) -> str:
    """A text, or the last of messages.

    Example:
        >>> said([{"role": "user", "content": "Rain?"}])
        'Rain?'
    """
    return text if isinstance(text, str) else str(text[-1]["content"])


def own(train: str, judged_on: str | None, *, needs_answers: bool, chat: bool) -> Material:
    """The user's prompts, or pairs of prompt and answer.

    Raises:
        ValueError: no such source, a broken one, a row without a prompt or, where it is needed, an answer; too few.
    """
    learnt = _unique(_rows(train, needs_answers, chat))
    if judged_on is not None:
        judged = _unique(_rows(judged_on, needs_answers, chat))
    else:
        judged = learnt[_HELD_OUT - 1 :: _HELD_OUT]
        learnt = [item for place, item in enumerate(learnt) if place % _HELD_OUT != _HELD_OUT - 1]
        if not judged:
            raise ValueError(f"{train}: {len(learnt)} prompts are too few to hold some out; give more, or --eval")
    digest = sha256(repr([(item.prompt, item.chosen) for item in (*learnt, *judged)]).encode()).hexdigest()[:16]
    known = {str(item.prompt) for item in learnt}
    met = sum(str(item.prompt) in known for item in judged)
    provenance = Provenance(
        f"your prompts: {len(learnt):,} to learn from, {len(judged):,} to judge on",
        source=train if judged_on is None else f"{train}, {judged_on}",
        digest=digest,
        note=f"{met} of the prompts that are judged are among those learnt from." if met else "",
    )
    return Material(learnt, judged, provenance)


def spread(items: Sequence[Item], count: int, seed: int = 0) -> list[Item]:
    """At most `count` of the items, drawn without replacement; the same whoever asks."""
    return random.Random(seed).sample([*items], min(count, len(items)))


def in_chat(item: Item) -> Item:
    """The same as messages of a user and an assistant."""
    chosen = None if item.chosen is None else [{"role": "assistant", "content": said(item.chosen).strip()}]
    return Item([{"role": "user", "content": said(item.prompt).strip()}], chosen)


def _rows(source: str, needs_answers: bool, chat: bool) -> Iterator[Item]:
    plain = "" if needs_answers else "line"
    for where, row in read_rows(source, _COLUMNS, what="prompts", plain=plain):
        prompt = _told(row, "prompt", where)
        chosen = _told(row, "chosen", where) if needs_answers or cell(row, _COLUMNS["chosen"]) else None
        if chosen is not None and isinstance(prompt, str) != isinstance(chosen, str):
            raise ValueError(f"{where}: 'prompt' and 'chosen' must both be texts, or both lists of messages")
        item = Item(prompt, chosen)
        yield in_chat(item) if chat and isinstance(prompt, str) else item


def _told(row: Any, column: str, where: str) -> Prompt:
    """A text as it stands, with the spaces around it, which join it to its neighbour; or messages."""
    names = _COLUMNS[column]
    if (found := cell(row, names)) is None:
        has = ", ".join(map(repr, row))
        raise ValueError(f"{where}: needs column {column!r} (or {', '.join(names[1:])}), has columns {has:.200}")
    name, value = found
    if isinstance(value, str) and value.strip():
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and {"role", "content"} <= {*one} for one in value)
    ):
        return value
    raise ValueError(
        f"{where}: column {name!r} must hold a text that is not empty, or a list of messages with role and content, "
        f"got {tables.shown(value)}"
    )


def _unique(items: Iterable[Item]) -> list[Item]:
    """Of equal prompts the first."""
    return [*{str(item.prompt): item for item in reversed([*items])}.values()][::-1]
