"""Drift by hand, matching by brute force, and what is not there."""

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.evaluation.latency import (
    Emission,
    Span,
    drift_between,
    drift_to_reference,
    early_share,
    emission_time,
    total_latency,
)
from tests.speech.plain import distance


def spans(*words: tuple[str, float, float]) -> list[Span]:
    return [Span(*word) for word in words]


def said(*words: tuple[str, float]) -> list[Emission]:
    return [Emission(*word) for word in words]


def test_by_hand() -> None:
    """Two utterances, one substitution, one deletion, one insertion: only what both have counts."""
    references = [spans(("one", 0.0, 0.5), ("two", 0.6, 1.0)), spans(("six", 0.0, 0.4), ("ten", 0.5, 0.9))]
    emissions = [said(("one", 0.8), ("ten", 1.1)), said(("oh", 0.1), ("six", 0.3), ("nine", 1.0))]
    drift = drift_to_reference(emissions, references)
    assert drift.matched == 2
    assert drift.delays == [[pytest.approx(300.0)], [pytest.approx(-100.0)]]
    assert (drift.mean, drift.median) == (pytest.approx(100.0), pytest.approx(100.0))
    assert drift.variance == pytest.approx(200.0**2)
    assert drift.start_mean == pytest.approx((800 + 300) / 2)
    assert drift.start_variance == pytest.approx(250.0**2)
    assert drift.early_share == 0.5


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
def test_shifting_every_emission_shifts_the_drift(delays: list[float]) -> None:
    references = [spans(*((f"w{i}", i, i + 0.5) for i in range(len(delays))))]
    drift = drift_to_reference([said(*((f"w{i}", i + 0.5 + d) for i, d in enumerate(delays)))], references)
    expected = [1e3 * d for d in delays]
    assert drift.mean == pytest.approx(statistics.fmean(expected), abs=1e-6)
    assert drift.median == pytest.approx(statistics.median(expected), abs=1e-6)
    assert drift.variance == pytest.approx(statistics.pvariance(expected), abs=1e-3)
    assert drift.start_mean == pytest.approx(drift.mean + 500)


@given(st.lists(st.sampled_from("ab"), max_size=5), st.lists(st.sampled_from("ab"), max_size=5))
def test_matched_tokens_are_those_of_an_optimal_alignment(ours: list[str], theirs: list[str]) -> None:
    """Delays in order, and as many as some optimal edit alignment leaves equal."""
    places = {60.0 * j - i: (i, j) for i in range(5) for j in range(5)}  # delays tell positions apart
    drift = drift_between([list(map(Emission, ours, range(5)))], [list(map(Emission, theirs, range(0, 300, 60)))])
    pairs = [places[round(-d / 1e3)] for d in drift.delays[0]]
    assert all(ours[i] == theirs[j] for i, j in pairs)
    assert pairs == sorted(pairs)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    # what is between two matches is substituted, deleted or inserted: together the edit distance
    edges = [(-1, -1), *pairs, (len(ours), len(theirs))]
    between = sum(max(i - a, j - b) - 1 for (a, b), (i, j) in itertools.pairwise(edges))
    assert between == distance(ours, theirs)


def test_between_models() -> None:
    drift = drift_between([said(("a", 1.0), ("b", 2.0), ("c", 4.0))], [said(("a", 0.5), ("c", 4.5))])
    assert drift.delays == [[500.0, -500.0]]
    assert (drift.mean, drift.early_share) == (0.0, 0.5)
    assert math.isnan(drift.start_mean)
    assert math.isnan(drift.start_variance)
    same = [said(("a", 1.0), ("b", 2.0))]
    assert drift_between(same, same).variance == 0.0


def test_nothing_matched_is_nan() -> None:
    for drift in (drift_to_reference([], []), drift_to_reference([said(("a", 1.0))], [spans(("b", 0, 1))])):
        assert drift.matched == 0
        assert math.isnan(drift.mean)
        assert math.isnan(drift.median)
        assert math.isnan(drift.early_share)


def test_one_list_per_utterance() -> None:
    with pytest.raises(ValueError, match="1 utterances of emissions but 2 of references; give one for each"):
        drift_to_reference([[]], [[], []])
    with pytest.raises(ValueError, match="give one for each"):
        drift_between([[], []], [[]])


def test_times_and_shares() -> None:
    assert emission_time(0, frame_shift=0.02) == 0.02
    assert emission_time(4, frame_shift=0.02, offset=0.025) == pytest.approx(0.125)
    assert total_latency(-20.0, 640.0) == 620.0
    assert early_share([-1.0, 0.0, 1.0, -2.0]) == 0.5
    assert math.isnan(early_share([]))


def test_frames_that_there_cannot_be_are_named(own_messages: None) -> None:
    with pytest.raises(ValueError, match="frame must be at least 0, got -1"):
        emission_time(-1, frame_shift=0.04)
    with pytest.raises(TypeError, match=r"frame must be a whole number, got 1\.5"):
        emission_time(1.5, frame_shift=0.04)  # type: ignore[arg-type]
    for shift in (0.0, -0.04, float("nan")):
        with pytest.raises(ValueError, match="frame_shift must be positive and finite"):
            emission_time(1, frame_shift=shift)
