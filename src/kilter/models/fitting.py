"""Do recordings and texts fit a recogniser? What would stop training or alignment in the middle, told beforehand."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from kilter.models.recogniser import Recogniser


class Given(NamedTuple):
    """A recording before it is decoded: where it stands, its text and how many samples it has at the model's rate."""

    where: str
    text: str
    samples: int


def problems(recogniser: Recogniser, rows: Sequence[Given], *, need_text: bool = False, fit: bool = True) -> list[str]:
    """What is wrong with each recording, with its place; empty where nothing is, as far as can be foretold.

    Args:
        recogniser: model, feature extractor and tokenizer.
        rows: the recordings.
        need_text: whether an empty text is wrong, as it is to learn from and to judge by.
        fit: whether a recording must have the frames that its text needs.
    """
    unknown = [sys.maxsize] * len(rows)
    counts = (recogniser.frame_counts([row.samples for row in rows]) if fit else []) or unknown
    return [_problem(recogniser, row, frames, need_text) for row, frames in zip(rows, counts, strict=True)]


def lack(name: str, ids: Sequence[int], frames: int, shift: float) -> str:
    """What is wrong where a recording has fewer frames than its text needs: one a token, and one between equal ones."""
    need = len(ids) + sum(a == b for a, b in pairwise(ids))
    if need <= frames:
        return ""
    return (
        f"{name}: the text needs at least {need} frames of {1e3 * shift:.0f} ms and the recording has {frames}; check "
        "that this text belongs to it"
    )


def _problem(recogniser: Recogniser, row: Given, frames: int, need_text: bool) -> str:
    spelt = recogniser.spelling.spell(row.text)
    if need_text and not spelt.text.strip():
        return f"{row.where}: its text is empty; write what is said, or leave it out"
    if spelt.lacks or spelt.problem:
        return f"{row.where}: {recogniser.spelling.problem(row.text)}"
    try:
        recogniser.check_lengths([{"id": row.where, "audio": range(row.samples)}])
    except ValueError as error:
        return str(error)
    return lack(row.where, spelt.ids, frames, recogniser.frame_times[0])
