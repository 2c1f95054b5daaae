"""Batches that fit into memory: of like length, and halved where the guess was wrong."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from kilter.models.devices import out_of_memory

WINDOW = 32
"""Batches whose texts are sorted by length together; what is printed comes in such pieces."""

Batch = list[int]
Made = TypeVar("Made")


def batches(lengths: Sequence[int], size: int, fits: Callable[[int, int], bool]) -> list[Batch]:
    """Prompts in batches of like length, within windows: the longest first, so that what is too much shows at once.

    Args:
        lengths: of the prompts, in tokens.
        size: prompts in a batch, at most.
        fits: whether so many prompts of such a length fit into memory; one is tried in any case.

    Example:
        >>> batches([3, 9, 4, 8], 2, lambda count, length: True)
        [[1, 3], [2, 0]]
    """
    found: list[Batch] = []
    for start in range(0, len(lengths), WINDOW * size):
        window = sorted(range(start, min(start + WINDOW * size, len(lengths))), key=lambda i: -lengths[i])
        fresh = True
        for i in window:
            if fresh or len(found[-1]) == size or not fits(len(found[-1]) + 1, lengths[found[-1][0]]):
                found.append([])
            found[-1].append(i)
            fresh = False
    return found


def within_memory(
    todo: Sequence[Batch], write: Callable[[Batch], Made], alone: Callable[[int], Made]
) -> Iterator[Made]:
    """What `write` makes of each batch; one that does not fit into memory is halved, and so are all that follow.

    Args:
        todo: places in batches.
        write: makes something of a batch, or runs out of memory.
        alone: what is made, or raised, where the one at this place does not fit even alone.
    """
    queue = deque(todo)
    most = max(map(len, todo), default=1)
    while queue:
        batch = queue.popleft()
        if len(batch) > most:
            queue.extendleft([batch[most:], batch[:most]])
            continue
        try:
            found = write(batch)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                found = alone(batch[0])
            else:
                most = len(batch) // 2
                queue.appendleft(batch)
                continue
        yield found
