"""The sampler of domains: frequencies, passes, weights that change while it draws, and states that draw the same."""

import json
import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator
from torch.utils.data import DataLoader, TensorDataset

from kilter.pretraining import DomainMixture

ARGUMENTS = {"sizes": lambda: [3, 5, 2, 4], "mixture": lambda: DomainMixture([3, 5, 2, 4])}


def mixture(sizes: Any = (40, 30, 20), seed: int = 0, **options: Any) -> DomainMixture:
    return DomainMixture([*sizes], generator=Generator().manual_seed(seed), **options)


def domains_of(one: DomainMixture, drawn: list[int]) -> list[int]:
    ends = torch.tensor(one.sizes).cumsum(0)
    return torch.bucketize(torch.tensor(drawn), ends, right=True).tolist()


def chi_square(one: DomainMixture, drawn: list[int], shares: list[float]) -> float:
    counts = torch.bincount(torch.tensor(domains_of(one, drawn)), minlength=len(shares)).double()
    expected = torch.tensor(shares, dtype=torch.float64) * len(drawn)
    return float(((counts - expected).square() / expected).sum())


def many(one: DomainMixture, count: int) -> list[int]:
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += list(one)
    return drawn[:count]


class TestDraws:
    def test_frequencies_follow_the_weights(self) -> None:
        one = mixture(weights=[0.6, 0.3, 0.1])
        assert chi_square(one, many(one, 10_000), [0.6, 0.3, 0.1]) < 13.8  # p = 0.001 of two degrees of freedom

    def test_frequencies_follow_weights_that_change(self) -> None:
        one = mixture(weights=[0.6, 0.3, 0.1])
        many(one, 100)
        one.weights = torch.tensor([0.1, 0.1, 0.8])
        assert chi_square(one, many(one, 10_000), [0.1, 0.1, 0.8]) < 13.8

    def test_frequencies_of_bases_are_those_of_their_mixture(self) -> None:
        one = mixture(weights=[0.25, 0.75], bases=[[1.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
        assert one.domain_weights.tolist() == pytest.approx([0.125, 0.3125, 0.5625])
        assert chi_square(one, many(one, 10_000), [0.125, 0.3125, 0.5625]) < 13.8

    def test_bases_of_one_domain_each_are_the_domains(self) -> None:
        plain = mixture(weights=[0.2, 0.3, 0.5])
        based = mixture(weights=[0.2, 0.3, 0.5], bases=torch.eye(3))
        assert based.domain_weights.tolist() == plain.domain_weights.tolist()

    def test_weights_count_from_the_next_index_on(self) -> None:
        one = mixture(weights=[1.0, 0.0, 0.0])
        draws = iter(one)
        assert {*domains_of(one, list(islice(draws, 20)))} == {0}
        one.weights = [0.0, 0.0, 5.0]
        assert {*domains_of(one, list(islice(draws, 20)))} == {2}

    @pytest.mark.parametrize(("workers", "ahead"), [(0, 0), (2, 4)])
    def test_a_loader_has_asked_ahead_as_far_as_is_said(self, workers: int, ahead: int) -> None:
        one = mixture(weights=[1.0, 0.0, 0.0])
        loader = DataLoader(
            TensorDataset(torch.arange(90)), 5, sampler=one, num_workers=workers, prefetch_factor=2 if workers else None
        )
        batches = iter(loader)
        next(batches)
        one.weights = [0.0, 1.0, 0.0]
        found = [domains_of(one, batch[0].tolist()) for batch in batches]
        assert [{*each} for each in found] == [{0}] * ahead + [{1}] * (len(found) - ahead)

    def test_a_domain_comes_whole_before_any_example_comes_again(self) -> None:
        one = mixture([4, 7], weights=[0.0, 1.0])
        drawn = [*one, *one]
        for start in range(0, 21, 7):
            assert sorted(drawn[start : start + 7]) == list(range(4, 11))
        assert drawn[:7] != drawn[7:14]
        assert one.counts == [0, 22]
        assert one.epochs == [0.0, 22 / 7]

    def test_one_example_comes_each_time(self) -> None:
        one = mixture([1, 3], weights=[1.0, 0.0])
        assert list(one) == [0] * 4
        assert one.epochs == [4.0, 0.0]

    def test_equal_weights_unless_told(self) -> None:
        assert mixture().weights.tolist() == pytest.approx([1 / 3] * 3)

    def test_the_global_stream_is_left_alone(self) -> None:
        one, before = mixture(), torch.get_rng_state()
        list(one)
        assert torch.equal(torch.get_rng_state(), before)

    @given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
    def test_indices_are_of_the_concatenation(self, sizes: list[int], seed: int) -> None:
        one = mixture(sizes, seed)
        drawn = list(one)
        assert len(drawn) == len(one) == sum(sizes)
        assert {*drawn} <= {*range(sum(sizes))}
        assert torch.bincount(torch.tensor(domains_of(one, drawn)), minlength=len(sizes)).tolist() == one.counts


class TestState:
    @given(st.integers(0, 39), st.integers(0, 39))
    def test_what_is_loaded_goes_on_with_the_same_draws(self, before: int, after: int) -> None:
        one = mixture([10, 30], weights=[0.5, 0.5])
        draws = iter(one)
        list(islice(draws, min(before, after)))
        one.weights = [0.9, 0.1]
        list(islice(draws, abs(before - after)))
        other = mixture([10, 30], seed=9)
        other.load_state_dict(json.loads(json.dumps(one.state_dict())))
        assert list(other) == list(draws)
        assert list(other) == list(one)
        assert other.counts == one.counts

    def test_a_replay_draws_the_same_with_the_weights_of_then(self) -> None:
        one = mixture(weights=[0.5, 0.5, 0.0])
        list(one)
        draws, first = iter(one), []
        for weights in ([0.0, 0.1, 0.9], [1.0, 1.0, 1.0], [0.7, 0.2, 0.1]):
            first += islice(draws, 20)
            one.weights = weights
        state = json.loads(json.dumps(one.state_dict()))
        rest = list(draws)
        other = mixture(seed=5)
        other.load_state_dict(state)
        other.replay()
        assert other.weights.tolist() == pytest.approx([0.7, 0.2, 0.1])
        assert list(other) == first + rest

    def test_weights_set_during_a_replay_win(self) -> None:
        one = mixture(weights=[1.0, 0.0, 0.0])
        list(islice(iter(one), 10))
        one.weights = [0.0, 1.0, 0.0]
        one.replay()
        one.weights = [0.0, 0.0, 1.0]
        assert {*domains_of(one, list(one))} == {2}

    def test_the_epoch_of_a_loaded_state_goes_on_and_another_begins(self) -> None:
        one = mixture([5, 5])
        list(islice(iter(one), 4))
        state = one.state_dict()
        one.load_state_dict(state)
        one.set_epoch(0)
        assert len(list(one)) == 6
        one.load_state_dict(state)
        one.set_epoch(1)
        assert len(list(one)) == 10

    def test_a_state_of_other_domains_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"domains of 40, 30, 20 examples, and these have 40, 30"):
            mixture([40, 30]).load_state_dict(mixture().state_dict())

    def test_a_state_of_bases_is_none_of_domains(self) -> None:
        """Also where there are as many."""
        state = mixture([3, 4]).state_dict()
        with pytest.raises(ValueError, match="of a mixture with 0 bases, and this has 2"):
            DomainMixture([3, 4], bases=[[1.0, 0.0], [0.5, 0.5]]).load_state_dict(state)

    def test_seeds_are_of_the_global_stream_without_a_generator(self) -> None:
        torch.manual_seed(1)
        first = list(DomainMixture([9, 9]))
        torch.manual_seed(1)
        assert list(DomainMixture([9, 9])) == first != list(DomainMixture([9, 9]))


class TestBadInput:
    @pytest.mark.parametrize(
        ("sizes", "message"),
        [
            ([], "sizes are none"),
            ([3, 0], r"sizes\[1\] is 0: domain 1 is empty"),
            ([3, -1], r"sizes\[1\] is -1"),
            ([3, 1.5], r"sizes\[1\] must be a whole number"),
            (3, "sizes must be a list"),
            ("33", "sizes must be a list"),
        ],
    )
    def test_sizes(self, sizes: Any, message: str, own_messages: None) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            DomainMixture(sizes)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([0.5, -0.5], r"weights\[1\] must be at least 0 and finite, got -0.5"),
            ([0.5, math.nan], r"weights\[1\] must be at least 0 and finite, got nan"),
            ([0.5, math.inf], r"weights\[1\] must be at least 0"),
            (torch.zeros(2), "weights are all 0"),
            ([1.0], "weights are 1, and there are 2 domains"),
            (torch.ones(1, 2), r"weights must be \(domains\)"),
            ([1e308, 1e308], "weights are so large that their sum is infinite"),
            (["1", "2"], r"weights\[0\] must be a number"),
            (5, "weights must be a list"),
        ],
    )
    def test_weights(self, weights: Any, message: str, own_messages: None) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            DomainMixture([3, 3], weights=weights)
        one = DomainMixture([3, 3])
        with pytest.raises((TypeError, ValueError), match=message):
            one.weights = weights
        assert one.weights.tolist() == [0.5, 0.5]

    def test_it_is_printed_with_sizes_and_weights(self) -> None:
        assert repr(DomainMixture([3, 5], weights=[1.0, 2.0])) == "DomainMixture(sizes=[3, 5], weights=[0.333, 0.667])"
        many = DomainMixture([7] * 9, bases=[[1.0] * 9])
        assert repr(many) == f"DomainMixture(sizes=[{'7, ' * 8}…], weights=[1], bases=1)"

    def test_numbers_of_numpy_are_numbers(self, own_messages: None) -> None:
        assert DomainMixture([3, 3], weights=[np.float32(1), np.int64(3)]).weights.tolist() == [0.25, 0.75]

    def test_bases_and_generator(self, own_messages: None) -> None:
        with pytest.raises(ValueError, match=r"bases\[1\] has 1 numbers, and there are 2 domains"):
            DomainMixture([3, 3], bases=[[1.0, 1.0], [1.0]])
        with pytest.raises(ValueError, match=r"bases\[0\] are all 0"):
            DomainMixture([3, 3], bases=[[0.0, 0.0]])
        with pytest.raises(TypeError, match="generator"):
            DomainMixture([3, 3], generator=7)  # type: ignore[arg-type]
