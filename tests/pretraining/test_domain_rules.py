"""Fixed weights and the rules of others, by hand and against their formulas in plain loops."""

import math

import pytest
import torch
from torch.testing import assert_close

from kilter.pretraining import balance_step, doge_step, importance_weights, proportional_weights, reweight
from tests.pretraining.small_models import numbers

ARGUMENTS = {
    "log_weights": lambda: torch.full((4,), 0.25).log(),
    "alignments domains": lambda: torch.tensor([0.1, -0.2, 0.3, 0.0]),
    "step_size": lambda: 1.0,
    "weights": lambda: torch.ones(4),
    "bases": lambda: torch.eye(4),
    "clusters": lambda: torch.tensor([0, 2, 1, 2]),
    "domains": lambda: 3,
}


def test_proportional_weights_are_shares() -> None:
    assert proportional_weights([1, 0, 3]).tolist() == [0.25, 0.0, 0.75]
    for wrong in ([], [0, 0], [-1, 2]):
        with pytest.raises(ValueError, match="sizes"):
            proportional_weights(wrong)


def test_importance_weights_are_the_targets_histogram() -> None:
    assert importance_weights(torch.tensor([4, 4, 0, 4]), 6).tolist() == [0.25, 0.0, 0.0, 0.0, 0.75, 0.0]
    with pytest.raises(ValueError, match="example 1: clusters is 6, but there are 6 domains"):
        importance_weights(torch.tensor([0, 6]), 6)


def test_doge_is_the_step_with_scores_cut() -> None:
    before, a = numbers(5).log_softmax(0), torch.tensor([-3.0, 0.5, 4.9, 5.0, 80.0])
    cut = [min(max(one, 0.0), 5.0) for one in a.tolist()]
    odds = [math.exp(float(w)) * math.exp(0.3 * one) for w, one in zip(before, cut, strict=True)]
    assert_close(doge_step(before, a, 0.3).exp(), torch.tensor([one / sum(odds) for one in odds]))


def test_balance_forgets_what_was_before_and_how_long_alignments_are() -> None:
    a = numbers(4, seed=1)
    found = balance_step(numbers(4), a, 3.0)
    assert_close(found, (3 * a / a.norm()).log_softmax(0))
    assert_close(balance_step(torch.zeros(4), 50 * a, 3.0), found)
    assert_close(balance_step(torch.zeros(4), torch.zeros(4), 3.0).exp(), torch.full((4,), 0.25))


def test_rules_differ_from_the_step_only_as_said() -> None:
    a = torch.tensor([0.0, 1.0, 2.0])
    assert_close(doge_step(torch.zeros(3), a, 1.0), reweight(torch.zeros(3), a, 1.0))
    assert not balance_step(torch.zeros(3), a, 1.0).allclose(reweight(torch.zeros(3), a, 1.0))
