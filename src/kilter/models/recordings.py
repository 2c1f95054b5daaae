"""Recordings one after the other through a speech model, in batches that fit into memory; what cannot be read is told.

A recording that goes through in windows goes alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from kilter.models.batches import within_memory

Found = TypeVar("Found")
Row = Mapping[str, Any]


@runtime_checkable
class Rows(Protocol):
    """Utterances by index, decoded when asked for: mappings with at least `audio` and `text`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def in_batches(
    rows: Rows,
    size: int,
    work: Callable[[Sequence[Row]], Sequence[Found]],
    *,
    check: Callable[[Row], Row],
    long: Callable[[Row], bool],
    failed: Callable[[str], Found],
) -> Iterator[Found]:
    """What `work` finds in each recording, in order; a batch that does not fit into memory is halved.

    Args:
        rows: the recordings.
        size: recordings at once, at most.
        work: finds it for a batch.
        check: the row as it goes to work, or a ValueError.
        long: whether a row goes alone.
        failed: what is given, or raised, instead for a recording that cannot be read or does not fit, and why.
    """

    def find(batch: Sequence[int]) -> list[Found]:
        good: dict[int, Row] = {}
        found: dict[int, Found] = {}
        for place in batch:
            try:
                good[place] = check(rows[place])
            except ValueError as error:
                found[place] = failed(str(error))
        alone = [[place] for place, row in good.items() if long(row)]
        for part in ([place for place, row in good.items() if not long(row)], *alone):
            if part:
                found |= zip(part, work([good[place] for place in part]), strict=True)
        return [found[place] for place in batch]

    def too_much(place: int) -> list[Found]:
        return [
            failed(
                f"{_where(rows, place)}: does not fit into memory even alone; lower --window-seconds, cut it into "
                "shorter recordings, or choose another --device"
            )
        ]

    todo = [[*range(first, min(first + size, len(rows)))] for first in range(0, len(rows), size)]
    for found in within_memory(todo, find, too_much):
        yield from found


def _where(rows: Rows, place: int) -> str:
    """What a recording is called, without decoding it where that can be had."""
    headers = getattr(rows, "headers", None)
    return headers()[place].where if headers else str(rows[place].get("id", f"recording {place}"))
