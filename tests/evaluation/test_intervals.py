"""Intervals: closed forms, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats

from kilter.evaluation.intervals import Interval, ratio_bootstrap, ratio_interval, t_interval


def test_students_interval_is_scipys() -> None:
    values = [1.0, 4.0, 2.5, 3.0]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = t_interval(values)
    assert (found.mean, found.low, found.high) == (pytest.approx(2.625), pytest.approx(low), pytest.approx(high))
    assert t_interval([3.0]) == Interval(3.0, None, None)
    assert t_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)


def test_bootstrap_covers() -> None:
    """Of 300 samples of 60 examples, about 95 % of the intervals hold the true ratio (±5 points)."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        words = rng.integers(3, 7, 60)
        found = ratio_bootstrap(np.stack([rng.binomial(words, 0.2), words], 1), draws=400)
        held += found.low <= 0.2 <= found.high
    assert 0.9 < held / 300 < 0.99


def test_pairing_narrows_the_difference() -> None:
    rng = np.random.default_rng(1)
    base = np.stack([rng.integers(0, 9, 50), np.full(50, 10)], 1)
    other = base + np.array([1, 0])
    found = ratio_bootstrap(other, base, scale=100.0)
    assert (found.mean, found.low, found.high) == (pytest.approx(10), pytest.approx(10), pytest.approx(10))
    assert ratio_bootstrap(base, base).mean == 0.0
    alone = ratio_bootstrap(other, scale=100.0)
    assert alone.high - alone.low > 5


def test_it_repeats_and_ignores_scale_of_examples() -> None:
    totals = np.array([[1, 4], [0, 5], [2, 3]])
    assert ratio_bootstrap(totals) == ratio_bootstrap(totals)
    many = np.stack([np.arange(50) % 7, np.full(50, 10)], 1)
    assert ratio_bootstrap(many, seed=1) != ratio_bootstrap(many)
    assert ratio_bootstrap(totals).mean == pytest.approx(3 / 12)
    found = ratio_bootstrap(totals)
    assert 0 <= found.low <= found.mean <= found.high <= 2 / 3


def test_one_example_has_no_interval() -> None:
    one, two = np.array([[1.0, 4.0]]), np.array([[2.0, 4.0]])
    beside = np.zeros((1, 2))  # not counted in this figure
    for ours, theirs in ((one, two), (np.concatenate([one, beside]), np.concatenate([two, beside]))):
        assert ratio_bootstrap(ours) == Interval(0.25, None, None)
        assert ratio_bootstrap(ours, theirs) == Interval(-0.25, None, None)
        assert ratio_interval(ours, theirs) == Interval(0.5, None, None)


def test_paired_arms_have_the_same_examples() -> None:
    with pytest.raises(ValueError, match="paired arms must have the same examples, got 2 and 1"):
        ratio_bootstrap(np.ones((2, 2)), np.ones((1, 2)))


def test_the_interval_of_a_multiple_is_paired_and_covers() -> None:
    rng = np.random.default_rng(0)
    ones = np.ones(40)
    hits = 0
    for _ in range(100):
        base = rng.gamma(2.0, 1.0, 40)
        ours = 2 * base * rng.uniform(0.8, 1.2, 40)
        found = ratio_interval(np.stack([ours, ones], 1), np.stack([base, ones], 1), draws=400)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 2 <= found.high
        assert found.high - found.low < 0.25  # unpaired it would be about 0.9
    assert hits >= 85
    with pytest.raises(ValueError, match="same examples"):
        ratio_interval(np.ones((3, 2)), np.ones((4, 2)))


def test_what_has_no_interval_is_named(own_messages: None) -> None:
    good = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"values must be one or more numbers, got shape \(0,\)"):
        t_interval([])
    for wrong in (good[:, 0], good[:, :1], good[:0]):
        with pytest.raises(ValueError, match=r"totals must be \(examples, 2\), numerator and denominator, got shape"):
            ratio_bootstrap(wrong)
        with pytest.raises(ValueError, match=r"theirs must be \(examples, 2\)"):
            ratio_interval(good, wrong)
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        ratio_bootstrap(good, draws=0)
