"""What scoring costs: a query against a hundred thousand stored sentences, by the teacher and by the student.

Both in one process, in turns, medians of the rounds, so that what else the machine does meets them alike. The teacher
reads fewer pairs, and its time is extrapolated: each pair costs it the same.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from kilter.models.devices import clock

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from kilter.embeddings import PairHead

STORED = 100_000
"""Sentences that figures are of."""
_K = 10


class Sizes(NamedTuple):
    """How much is timed.

    Attributes:
        read: pairs that the teacher reads in a round.
        stored: vectors that a query of the student is scored against.
        rounds: in turns.
    """

    read: int
    stored: int
    rounds: int = 3


def prices(
    teacher: "CrossEncoder",
    pairs: Sequence[tuple[str, str]],
    sizes: Sizes,
    student: "tuple[SentenceTransformer, PairHead | None] | None" = None,
) -> dict[str, float]:
    """Milliseconds of a query against `STORED` sentences, and how many times faster than the teacher that is.

    Args:
        teacher: reads every pair anew.
        pairs: sentences of the data.
        sizes: how much is timed.
        student: encoder and head, or None for the head where cosines are the scores; without one the teacher alone.

    Returns:
        `query_ms`, `times_faster`; of a student `store_s` too, seconds to encode `STORED` sentences once.
    """
    device = str(teacher.device)
    some = [pairs[row % len(pairs)] for row in range(sizes.read)]
    texts = [text for pair in some for text in pair]
    work: dict[str, Callable[[], Any]] = {"teacher": lambda: _read(teacher, some)}
    if student is not None:
        encoder, head = student
        search = _search(encoder, head, texts, sizes.stored)
        query = _vectors(encoder, texts[:1])
        work["encode"] = lambda: _vectors(encoder, texts[:1])
        work["search"] = lambda: search(query)
        work["store"] = lambda: _vectors(encoder, texts)
    spent = _in_turns(work, sizes.rounds, device)
    read = 1e3 * spent["teacher"] * STORED / len(some)
    if student is None:
        return {"query_ms": read, "times_faster": 1.0}
    query_ms = 1e3 * (spent["encode"] + spent["search"] * STORED / sizes.stored)
    store = spent["store"] * STORED / len(texts)
    return {"query_ms": query_ms, "times_faster": read / query_ms, "store_s": store}


def _read(teacher: "CrossEncoder", pairs: Sequence[tuple[str, str]]) -> Tensor:
    how: Any = {"convert_to_tensor": True, "show_progress_bar": False, "batch_size": 64}
    return teacher.predict([*pairs], activation_fn=nn.Identity(), **how)


def _vectors(encoder: "SentenceTransformer", texts: Sequence[str]) -> Tensor:
    from kilter.hosts.sentences import encode

    return encode(encoder, [*texts], batch_size=64)


def _search(
    encoder: "SentenceTransformer", head: "PairHead | None", texts: Sequence[str], stored: int
) -> Callable[[Tensor], Any]:
    """A search of so many stored vectors, made once; those of the texts over and over."""
    from kilter.embeddings import PairSearch

    vectors = _vectors(encoder, texts)
    stored_vectors = vectors.repeat(-(-stored // len(vectors)), 1)[:stored]
    output = None if head is None or head.outputs == 1 else 0  # whichever class, it costs the same
    index = PairSearch.build(stored_vectors, head=head, output=output)
    return lambda query: index.search(query, k=min(_K, stored))


def _in_turns(work: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each, one after the other in every round, after one that does not count."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, do in work.items():
            before = clock(device)
            do()
            if turn:
                spent[name].append(clock(device) - before)
    return {name: statistics.median(times) for name, times in spent.items()}
