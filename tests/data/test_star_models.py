"""Stars of random variables: their tables by hand, their draws, and one entropy whatever the order."""

import math
from itertools import pairwise, permutations, product
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.data.star_models import Star

ORDERS = [*permutations(range(4))]


def every(variables: int = 4, symbols: int = 2) -> Tensor:
    return torch.tensor([*product(range(symbols), repeat=variables)])


@pytest.fixture(scope="module")
def star() -> Star:
    return Star.drawn(4, 2, 1.5, Generator().manual_seed(0))


def by_sums(star: Star, order: tuple[int, ...]) -> Tensor:
    """Log-probability of each variable given those before, out of the whole table of all sets."""
    sets = every()
    p = (-star.nats(sets).double()).exp()
    totals = [1.0 * torch.ones(len(sets)).double()]
    for known in range(1, 5):
        seen = sets[:, order[:known]]
        totals.append(torch.stack([p[(seen == one).all(1)].sum() for one in seen]))
    return torch.stack([(after / before).log() for before, after in pairwise(totals)], 1)


def test_by_hand() -> None:
    star = Star(torch.tensor([0.25, 0.75]), torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]))
    found = star.log_probs_in(torch.tensor([[1, 0]]), [1, 0]).exp()
    leaf = 0.25 * 0.5 + 0.75 * 0.9
    assert_close(found, torch.tensor([[leaf, 0.75 * 0.9 / leaf]]).double())
    assert float(star.nats(torch.tensor([[1, 0]]))) == pytest.approx(-math.log(0.75 * 0.9))
    entropy = -sum(p * math.log(p) for p in (0.125, 0.125, 0.675, 0.075))
    assert float(star.entropy()) == pytest.approx(entropy)


@pytest.mark.parametrize("order", ORDERS[::5])
def test_conditionals_are_those_of_the_whole_table(star: Star, order: tuple[int, ...]) -> None:
    assert_close(star.log_probs_in(every(), order), by_sums(star, order), rtol=0, atol=1e-6)


def test_8_every_order_has_one_entropy(star: Star) -> None:
    """Summed over steps it is one; step by step it is not, or the check would be of nothing."""
    sets = every()
    p = (-star.nats(sets).double()).exp()
    steps = torch.stack([-(p[:, None] * star.log_probs_in(sets, order)).sum(0) for order in ORDERS])
    assert_close(steps.sum(1), star.entropy().expand(len(ORDERS)), rtol=0, atol=1e-6)
    assert (steps.std(0) > 1e-3).all()


def test_8_all_orders_say_the_same_of_each_set(star: Star) -> None:
    found = torch.stack([star.log_probs_in(every(), order).sum(1) for order in ORDERS])
    assert_close(found, found[:1].expand_as(found), rtol=0, atol=1e-12)
    assert found[0].exp().sum().item() == pytest.approx(1)


def test_draws_are_as_likely_as_it_says(star: Star) -> None:
    drawn = star.draw(20_000, Generator().manual_seed(2)) @ torch.tensor([8, 4, 2, 1])
    seen, expected = torch.bincount(drawn, minlength=16), 20_000 * (-star.nats(every())).exp()
    assert ((seen - expected) ** 2 / expected).sum() < 37.7  # chi-square of 15, one in a thousand


def test_their_mean_is_the_entropy() -> None:
    generator = Generator().manual_seed(3)
    star = Star.drawn(20, 10, 2.0, generator)
    nats = star.nats(star.draw(4000, generator)).double()
    assert abs(float(nats.mean() - star.entropy())) < 4 * float(nats.std()) / 4000**0.5


def test_a_higher_peak_is_surer() -> None:
    found = [float(Star.drawn(6, 5, peak, Generator().manual_seed(0)).entropy()) for peak in (0.1, 1.0, 4.0)]
    assert 6 * math.log(5) > found[0] > found[1] > found[2] > 0


def test_a_seed_repeats_it() -> None:
    first, second = (Star.drawn(3, 2, 1.0, Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.others, second.others)
    draws = [first.draw(9, Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"variables": 1}, ValueError, "variables must be at least 2"),
        ({"symbols": 1}, ValueError, "symbols must be at least 2"),
        ({"symbols": 2.5}, TypeError, "symbols must be a whole number"),
        ({"peak": 0.0}, ValueError, "peak must be positive"),
        ({"peak": math.nan}, ValueError, "peak must be positive"),
    ],
)
def test_bad_stars_are_named(wrong: dict[str, Any], error: type[Exception], match: str, own_messages: None) -> None:
    with pytest.raises(error, match=match):
        Star.drawn(**{"variables": 3, "symbols": 2, "peak": 1.0, **wrong})


def test_bad_sets_and_orders_are_named(star: Star, own_messages: None) -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        star.draw(0)
    for call in (star.nats, lambda values: star.log_probs_in(values, [0, 1, 2, 3])):
        with pytest.raises(ValueError, match="row 1: values is 2, but a variable has symbols 0 to 1"):
            call(torch.tensor([[0, 0, 0, 0], [0, 2, 0, 0]]))
        with pytest.raises(ValueError, match="values has 3 variables and the star 4"):
            call(torch.zeros(2, 3).long())
        with pytest.raises(TypeError, match="values must hold symbols"):
            call(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"order is \[0, 0, 1, 2\], which is no order of 4 variables"):
        star.log_probs_in(every(), [0, 0, 1, 2])
