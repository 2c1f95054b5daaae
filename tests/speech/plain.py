"""Align With Purpose in plain Python, one alignment (a list of token ids) at a time, written from the publication.

Slow on purpose and free of tensors: what the library computes is compared with this. Where the publication draws at
random, the functions here return everything that may be drawn.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

LETTER = 1e-7  # the published code scores log(p + 1e-7)


def collapsed(alignment: Sequence[int], blank: int = 0) -> list[int]:
    """Merge repeats, drop blanks."""
    return [token for token, _ in itertools.groupby(alignment) if token != blank]


def run_starts(alignment: Sequence[int], blank: int = 0) -> list[tuple[int, int]]:
    """(token, first frame) of every run that is not blank."""
    runs, t = [], 0
    for token, frames in itertools.groupby(alignment):
        if token != blank:
            runs.append((token, t))
        t += len(list(frames))
    return runs


def candidates(alignment: Sequence[int], blank: int = 0) -> list[int]:
    """Frames that f_low_latency may delete: repeats, and a leading blank."""
    return [t for t, a in enumerate(alignment) if (a == alignment[t - 1] if t else a == blank)]


def without(alignment: Sequence[int], frames: Sequence[int], blank: int = 0) -> list[int]:
    """Delete frames, append as many blanks."""
    return [a for t, a in enumerate(alignment) if t not in frames] + [blank] * len(frames)


def low_latency_outcomes(alignment: Sequence[int], blank: int = 0, k: int = 1) -> list[list[int]]:
    """What f_low_latency may return: any k distinct candidates gone (all of them if there are fewer)."""
    allowed = candidates(alignment, blank)
    return [without(alignment, frames, blank) for frames in itertools.combinations(allowed, min(k, len(allowed)))]


def score(log_probs: Sequence[Sequence[float]], alignment: Sequence[int], kind: str = "mean_logprob") -> float:
    """Published score of one alignment over its valid frames."""
    total = sum(math.log(math.exp(frame[a]) + LETTER) for frame, a in zip(log_probs, alignment, strict=True))
    return {"mean_logprob": total / max(len(alignment), 1), "sum_logprob": total, "prob": math.exp(total)}[kind]


def loss(
    log_probs: Sequence[Sequence[Sequence[float]]],
    alignments: Sequence[Sequence[Sequence[int]]],
    edited: Sequence[Sequence[Sequence[int]]],
    lengths: Sequence[int],
    margin: float = 0.0,
    kind: str = "mean_logprob",
    reduction: str = "mean",
) -> float:
    """Hinge over pairs: samples summed (published code) or averaged (paper), the batch averaged."""
    total = 0.0
    for sample, other in zip(alignments, edited, strict=True):
        for b, length in enumerate(lengths):
            if sample[b][:length] == other[b][:length]:
                continue
            frames = log_probs[b][:length]
            gap = score(frames, sample[b][:length], kind) - score(frames, other[b][:length], kind)
            total += max(gap + margin, 0.0)
    return total / len(lengths) / (len(alignments) if reduction == "mean" else 1)


def distance(a: Sequence, b: Sequence) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def pairings(a: Sequence, b: Sequence) -> Iterator[list[tuple[int, int]]]:
    """Every optimal alignment of two sequences, as its substituted pairs of positions."""
    if not a or not b:
        yield []
        return
    best = distance(a, b)
    if distance(a[:-1], b[:-1]) + (a[-1] != b[-1]) == best:
        for pairs in pairings(a[:-1], b[:-1]):
            yield pairs + [(len(a) - 1, len(b) - 1)] * (a[-1] != b[-1])
    if distance(a[:-1], b) + 1 == best:
        yield from pairings(a[:-1], b)
    if distance(a, b[:-1]) + 1 == best:
        yield from pairings(a, b[:-1])


def spoken(alignment: Sequence[int], letters: Sequence[str], blank: int = 0) -> list[str]:
    """Words of an alignment."""
    return "".join(letters[token] for token in collapsed(alignment, blank)).split()


def minimum_wer_outcomes(
    alignment: list[int], reference: str, letters: Sequence[str], blank: int = 0, limit: int = 2, strict: bool = True
) -> list[list[int]]:
    """What f_mWER may return, over all optimal alignments of the words."""
    runs = [(token, list(frames)) for token, frames in itertools.groupby(range(len(alignment)), alignment.__getitem__)]
    letters_of = [(letters[token], frames) for token, frames in runs if token != blank]
    words: list[list[tuple[str, list[int]]]] = [
        list(group) for space, group in itertools.groupby(letters_of, lambda x: x[0] == " ") if not space
    ]
    texts, expected = ["".join(c for c, _ in word) for word in words], reference.split()
    outcomes = []
    for pairs in pairings(texts, expected):
        edits = []
        for i, j in pairs:
            differing = [k for k, (x, y) in enumerate(zip(texts[i], expected[j], strict=False)) if x != y]
            if len(texts[i]) != len(expected[j]) or len(differing) > limit or not set(expected[j]) <= set(letters):
                continue
            edit = list(alignment)
            for k in differing:
                for t in words[i][k][1]:
                    edit[t] = letters.index(expected[j][k])
            if not strict or distance(spoken(edit, letters, blank), expected) < distance(texts, expected):
                edits.append(edit)
        outcomes += edits or [list(alignment)]
    return outcomes
