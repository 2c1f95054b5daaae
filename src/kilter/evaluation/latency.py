"""When does a recogniser emit its words? Drift against true or forced boundaries, or against another model.

Follows the decomposition used in Bayes-Risk CTC (Tian et al., ICLR 2023) and Align With Purpose (Segev et al., ICLR
2024): total latency = drift + data-collection latency (look-ahead); computing time is not counted.
Departure: the papers' rule for matching tokens is not published; here words are matched by edit distance.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kilter.core.errors import extra
from kilter.core.options import positive, whole


class Emission(NamedTuple):
    """A token and when it was emitted, in seconds."""

    token: str
    time: float


class Span(NamedTuple):
    """A token and where it lies in the audio, in seconds."""

    token: str
    start: float
    end: float


@dataclass(frozen=True)
class Drift:
    """How late tokens come, over all matched tokens, in milliseconds.

    Attributes:
        matched: tokens both sides have.
        mean, median, variance: of emission time minus reference (the end of the token, or the other model's time).
        start_mean, start_variance: of emission time minus the token's start; NaN against another model.
        early_share: share of tokens emitted before the reference.
        delays: one list of delays per utterance.
    """

    matched: int
    mean: float
    median: float
    variance: float
    start_mean: float
    start_variance: float
    early_share: float
    delays: list[list[float]]


def emission_time(frame: int, *, frame_shift: float, offset: float = 0.0) -> float:
    """Seconds at which the first frame of a token's run is complete.

    Args:
        frame: 0-based index of the first frame of the run.
        frame_shift: seconds between frames.
        offset: how much later than `(frame + 1) * frame_shift` the frame's own audio ends.

    Raises:
        TypeError, ValueError: a frame that is no whole number from 0, or a shift that is not positive.

    Example:
        >>> emission_time(2, frame_shift=0.04)
        0.12
    """
    whole("frame", frame, 0)
    positive("frame_shift", frame_shift)
    return (frame + 1) * frame_shift + offset


def drift_to_reference(emissions: Sequence[Sequence[Emission]], references: Sequence[Sequence[Span]]) -> Drift:
    """Delay of emissions after the true (or forced-alignment) end of their words.

    Args:
        emissions: per utterance, what was emitted and when.
        references: per utterance, what was said and where.

    Returns:
        The drift over words that were said and emitted; all NaN and `matched=0` if there are none.

    Raises:
        ValueError: lists of different lengths.

    Example:
        >>> drift_to_reference([[Emission("one", 0.9)]], [[Span("one", 0.2, 0.5)]]).mean
        400.0

    Reference: start and end delay as in the decoding scripts of k2-fsa/icefall.
    """
    pairs = _matched(emissions, references)
    ends = [[1e3 * (said.time - was.end) for said, was in row] for row in pairs]
    starts = [1e3 * (said.time - was.start) for row in pairs for said, was in row]
    return _drift(ends, starts)


def drift_between(emissions: Sequence[Sequence[Emission]], reference_emissions: Sequence[Sequence[Emission]]) -> Drift:
    """Delay of one model's emissions after another's, on the tokens both emit.

    Raises:
        ValueError: lists of different lengths.

    Example:
        >>> drift_between([[Emission("a", 1.0), Emission("b", 2.0)]], [[Emission("b", 1.5)]]).mean
        500.0

    Reference: drift latency of Bayes-Risk CTC and Align With Purpose.
    """
    pairs = _matched(emissions, reference_emissions)
    return _drift([[1e3 * (ours.time - theirs.time) for ours, theirs in row] for row in pairs], [])


def total_latency(drift_ms: float, look_ahead_ms: float) -> float:
    """Drift plus data-collection latency, the audio a model must wait for beyond the frame it labels.

    Example:
        >>> total_latency(120.0, 640.0)
        760.0
    """
    return drift_ms + look_ahead_ms


def early_share(delays: Sequence[float]) -> float:
    """Share of tokens emitted before their acoustic end (a negative delay); NaN without tokens.

    Example:
        >>> early_share([-20.0, 0.0, 30.0, 10.0])
        0.25
    """
    return sum(delay < 0 for delay in delays) / len(delays) if delays else float("nan")


def _matched(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> list[list[tuple[Any, Any]]]:
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} utterances of emissions but {len(theirs)} of references; give one for each")
    levenshtein = extra("rapidfuzz.distance.Levenshtein", "speech")
    rows = []
    for a, b in zip(ours, theirs, strict=True):
        equal = [op for op in levenshtein.opcodes([x[0] for x in a], [x[0] for x in b]) if op.tag == "equal"]
        rows.append(
            [(a[op.src_start + k], b[op.dest_start + k]) for op in equal for k in range(op.src_end - op.src_start)]
        )
    return rows


def _drift(delays: list[list[float]], starts: list[float]) -> Drift:
    flat = [delay for row in delays for delay in row]
    nan = float("nan")
    return Drift(
        matched=len(flat),
        mean=statistics.fmean(flat) if flat else nan,
        median=statistics.median(flat) if flat else nan,
        variance=statistics.pvariance(flat) if flat else nan,
        start_mean=statistics.fmean(starts) if starts else nan,
        start_variance=statistics.pvariance(starts) if starts else nan,
        early_share=early_share(flat),
        delays=delays,
    )
