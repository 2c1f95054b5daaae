"""Win rates of best of N: against every subset, against simulation and integrals, and what is no sample."""

from fractions import Fraction
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kilter.evaluation.win_rate import selection_weights, win_rates

Row = list[float]
FEW = arrays(np.float64, st.tuples(st.just(2), st.integers(4, 6)), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0]))
NAMES = ("best_of", "worst_of", "plain")


def shown(rewards: Row, decoder: str, n: int) -> list[list[int]]:
    """Of each subset the places of those that are tied for being shown."""
    if decoder == "plain":
        return [[place] for place in range(len(rewards))]
    best = max if decoder == "best_of" else min
    subsets = combinations(range(len(rewards)), n)
    return [[i for i in some if rewards[i] == best(rewards[j] for j in some)] for some in subsets]


def by_subsets(ours: Row, theirs: Row, decoder: str, n: int, judged: Row, judged_theirs: Row) -> float:
    """Every subset of ours against every one of theirs."""

    def win(mine: list[int], other: list[int]) -> float:
        scores = [(judged[i], judged_theirs[j]) for i in mine for j in other]
        return fmean(float(a > b) + (a == b) / 2 for a, b in scores)

    mine, other = shown(ours, decoder, n), shown(theirs, decoder, n)
    return fmean(win(a, b) for a in mine for b in other)


@given(FEW, FEW, st.sampled_from(NAMES), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_the_mean_over_all_subsets(
    ours: np.ndarray, theirs: np.ndarray, decoder: Any, n: int, judge: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.integers(0, 3, one.shape).astype(float) for one in (ours, theirs)] if judge else [ours, theirs]
    judges = dict(zip(("judged_ours", "judged_theirs"), scores, strict=True)) if judge else {}
    found = win_rates(ours, theirs, decoder=decoder, n=n, **judges)
    rows = zip(ours.tolist(), theirs.tolist(), scores[0].tolist(), scores[1].tolist(), strict=True)
    assert found == pytest.approx([by_subsets(a, b, decoder, n, s, t) for a, b, s, t in rows], abs=1e-12)


@given(FEW, FEW, st.sampled_from(NAMES), st.integers(1, 4))
def test_what_one_wins_the_other_loses_and_the_same_is_even(
    ours: np.ndarray, theirs: np.ndarray, decoder: Any, n: int
) -> None:
    there, back = win_rates(ours, theirs, decoder=decoder, n=n), win_rates(theirs, ours, decoder=decoder, n=n)
    assert there + back == pytest.approx(1)
    assert win_rates(ours, ours, decoder=decoder, n=n) == pytest.approx(0.5)
    rescaled = win_rates(3 * ours**3 - 1, 3 * theirs**3 - 1, decoder=decoder, n=n)
    assert (rescaled == there).all()  # only the order counts


@given(FEW, st.integers(1, 4))
def test_worst_is_best_of_the_negative(rewards: np.ndarray, n: int) -> None:
    best = selection_weights(-rewards, decoder="best_of", n=n)
    assert selection_weights(rewards, decoder="worst_of", n=n) == pytest.approx(best)
    assert best.sum(1) == pytest.approx(1)


def test_by_hand() -> None:
    """Of {1, 3, 2} and {0, 2, 4}, two each: ours shows 3 twice in three, theirs 4 twice in three and else 2."""
    found = win_rates([[1, 3, 2]], [[0, 2, 4]], n=2)
    assert found.dtype == np.float64
    assert found == pytest.approx([float(Fraction(2, 3) * Fraction(1, 3) + Fraction(1, 3) * Fraction(1, 3) / 2)])


def test_the_judge_says_who_wins_and_the_reward_who_is_shown() -> None:
    """The reward shows the second of ours, which the judge dislikes."""
    one = {"judged_ours": [[9.0, 1.0]], "judged_theirs": [[0.0, 5.0]]}
    assert win_rates([[1.0, 3.0]], [[0.0, 2.0]], n=2) == 1
    assert win_rates([[1.0, 3.0]], [[0.0, 2.0]], n=2, **one) == 0
    assert win_rates([[1.0, 3.0]], [[0.0, 2.0]], n=1, **one) == pytest.approx(0.75)


def test_many_samples_come_near_the_integral() -> None:
    """Of a policy with density 4u³ against the uniform, W of best of 4 is 1 - 4∫u¹⁶u³ = 0.8."""
    rng = np.random.default_rng(0)
    found = win_rates(rng.random((60, 400)) ** 0.25, rng.random((60, 500)), n=4)
    assert abs(found.mean() - 0.8) < 4 * found.std() / 60**0.5
    assert abs(found.mean() - 0.8) < 0.01


def test_drawing_subsets_again_and_again_comes_to_the_same() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.integers(0, 6, (1, 9)).astype(float), rng.integers(0, 6, (1, 7)).astype(float)
    drawn = [rng.permuted(np.repeat(one, 20_000, 0), axis=1)[:, :3].max(1) for one in (ours, theirs)]
    wins = (drawn[0] > drawn[1]) + (drawn[0] == drawn[1]) / 2
    assert abs(wins.mean() - win_rates(ours, theirs, n=3)[0]) < 4 * wins.std() / 20_000**0.5


def test_a_density_is_any_procedure() -> None:
    """g = 1 is plain; g = 4q³ is best of 4 of samples drawn with replacement: ((k+1)/S)⁴ - (k/S)⁴."""
    rewards = np.random.default_rng(2).random((3, 6))
    assert selection_weights(rewards, decoder=torch.ones_like) == pytest.approx(1 / 6)
    found = selection_weights(rewards, decoder=lambda q: 4 * q**3)
    ranks = rewards.argsort(1).argsort(1)
    assert found == pytest.approx(((ranks + 1) / 6) ** 4 - (ranks / 6) ** 4)
    step = selection_weights([[3.0, 1.0, 2.0]], decoder=lambda q: 2.0 * (q > 0.5))  # draws until above the median
    assert step == pytest.approx(np.array([[2 / 3, 0, 1 / 3]]), abs=1e-3)
    ties = selection_weights([[1.0, 1.0, 2.0, 2.0]], decoder=lambda q: 2 * q)
    assert ties == pytest.approx(np.array([[0.125, 0.125, 0.375, 0.375]]))
    ours = win_rates(rewards, rewards[:, :4] + 0.1, decoder=lambda q: 4 * q**3)
    assert win_rates(rewards[:, :4] + 0.1, rewards, decoder=lambda q: 4 * q**3) == pytest.approx(1 - ours)


@pytest.mark.parametrize(
    "kind", [torch.tensor, np.array, list, lambda rows: torch.tensor(rows).bfloat16().requires_grad_()]
)
def test_tensors_arrays_and_lists(kind: Any) -> None:
    rows = [[1.0, 3.0, 2.0, 2.0]]
    found = win_rates(kind(rows), kind(rows), n=2)
    assert isinstance(found, np.ndarray)
    assert found == pytest.approx([0.5])


def test_infinite_rewards_are_higher_than_any() -> None:
    assert win_rates([[np.inf, 0.0]], [[1.0, -np.inf]], n=1) == pytest.approx([0.75])


GOOD: dict[str, Any] = {"ours": [[1.0, 2.0, 3.0, 4.0]], "theirs": [[1.0, 2.0, 3.0, 4.0]]}
NAN = [[1.0, 2.0, float("nan"), 4.0]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ours": [1.0, 2.0]}, r"ours must be \(prompts, samples\) and not empty, got the shape \(2,\)"),
        ({"theirs": [[]]}, r"theirs must be .* not empty"),
        ({"ours": [[1.0, 2.0], [1.0]]}, "ours must be numbers, a row a prompt, rows equally long"),
        ({"ours": [["a", "b"]]}, "ours must be numbers"),
        ({"ours": [[1.0] * 4] * 2}, "same prompts, a row each; they have 2 and 1 rows"),
        ({"theirs": NAN}, r"theirs\[0\]\[2\] is NaN"),
        ({"theirs": np.ma.masked_equal([[1, 2, 3, 4]], 3)}, r"theirs\[0\]\[2\] is NaN"),
        ({"theirs": [[1, 2, 3j, 4]]}, "theirs must be numbers"),
        ({"theirs": np.array([[1, 2, 3j, 4]])}, "theirs must be numbers.*complex"),
        ({"n": 5}, "n=5: ours has 4 samples for each prompt; draw more, or choose among fewer"),
        ({"theirs": [[1.0, 2.0]]}, "n=4: theirs has 2 samples"),
        ({"n": 0}, "n must be at least 1, got 0"),
        (
            {"decoder": "bestof"},
            "decoder must be one of best_of, worst_of, plain, got 'bestof'; did you mean 'best_of'",
        ),
        ({"judged_ours": [[1.0] * 4]}, "judged_ours is given alone"),
        ({"judged_theirs": [[1.0] * 4]}, "judged_theirs is given alone"),
        (
            {"judged_ours": [[1.0] * 3], "judged_theirs": [[1.0] * 4]},
            r"judged_ours must be of the samples of ours, \(1, 4\), got \(1, 3\)",
        ),
        ({"judged_ours": NAN, "judged_theirs": [[1.0] * 4]}, r"judged_ours\[0\]\[2\] is NaN"),
        ({"decoder": lambda q: 2 * q.sqrt()}, r"decoder is no density: its integral over 0\.\.1 is 1\.333"),
        ({"decoder": lambda q: 3 * q - 0.5}, "decoder must return densities that are finite and not negative"),
        ({"decoder": lambda q: q / 0}, "decoder must return densities that are finite"),
        ({"decoder": lambda q: 1.0}, "decoder must return a density for each quantile"),
    ],
)
@pytest.mark.usefixtures("own_messages")
def test_what_is_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        win_rates(**GOOD | wrong)


@pytest.mark.usefixtures("own_messages")
def test_a_number_of_samples_is_whole() -> None:
    with pytest.raises(TypeError, match=r"n must be a whole number, got 2\.5"):
        win_rates(**GOOD, n=2.5)  # type: ignore[arg-type]
