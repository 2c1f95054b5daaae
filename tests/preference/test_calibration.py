"""Calibrated rewards and their transforms: against loops, by hand, what changes nothing, what is missing, bad input."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.preference import calibrate, fixed_point, reward_transform

ARGUMENTS = {
    "rewards": lambda: torch.tensor([0.5, 1.0, -2.0, 0.0]),
    "reference": lambda: torch.randn(4, 6, generator=Generator().manual_seed(0)),
    "u *lead": lambda: torch.linspace(0, 1, 4),
}


def rows(samples: int = 7, references: int = 9, seed: int = 0, levels: int = 5) -> tuple[Tensor, Tensor]:
    """Rewards that tie often."""
    draw = Generator().manual_seed(seed)
    made = [torch.randint(levels, (3, size), generator=draw).double() for size in (samples, references)]
    return made[0], made[1]


def plain(reward: float, references: list[float], power: int = 1) -> float:
    """The mean over subsets of what each wins."""
    won = [(reward > one) + 0.5 * (reward == one) for one in references if one == one]
    products = [math.prod(some) for some in itertools.combinations(won, power)]
    return sum(products) / len(products)


class TestCalibrate:
    @pytest.mark.parametrize("power", [1, 2, 3, 7])
    def test_it_is_the_mean_over_subsets(self, power: int) -> None:
        rewards, reference = rows()
        found = calibrate(rewards, reference, power=power)
        expected = [
            [plain(one, list(refs), power) for one in row] for row, refs in zip(rewards, reference, strict=True)
        ]
        assert_close(found, torch.tensor(expected, dtype=torch.float64))

    def test_one_reward_a_prompt(self) -> None:
        rewards, reference = rows(1)
        assert torch.equal(calibrate(rewards[:, 0], reference), calibrate(rewards, reference)[:, 0])

    @pytest.mark.parametrize("change", [lambda r: 3 * r - 7, lambda r: r**3, torch.exp])
    def test_8_no_rising_change_matters(self, change: Any) -> None:
        rewards, reference = rows()
        assert torch.equal(calibrate(change(rewards), change(reference)), calibrate(rewards, reference))

    def test_8_ties_give_halves(self) -> None:
        same = torch.ones(2, 5)
        assert (calibrate(same, same) == 0.5).all()
        assert calibrate(torch.tensor([2.0]), torch.tensor([[0.0, 2.0, 2.0, 3.0]])) == 0.5
        assert calibrate(torch.tensor([4.0, -1.0]), torch.arange(4.0).repeat(2, 1)).tolist() == [1, 0]

    def test_8_of_the_base_itself_it_is_uniform(self) -> None:
        from scipy.stats import kstest

        draw = Generator().manual_seed(0)
        found = calibrate(torch.randn(500, 1, generator=draw), torch.randn(500, 500, generator=draw))
        assert kstest(found.flatten().numpy(), "uniform").pvalue > 0.01

    @pytest.mark.parametrize("power", [2, 7])
    def test_a_power_has_no_bias(self, power: int) -> None:
        chance, references = 0.4, torch.rand(20_000, 16, generator=Generator().manual_seed(power))
        found = calibrate(torch.full((20_000,), chance), references, power=power)
        error = float(found.std()) / 20_000**0.5
        assert abs(float(found.mean()) - chance**power) < 4 * error
        biased = calibrate(torch.full((20_000,), chance), references) ** power
        assert float(biased.mean()) - chance**power > 8 * error

    @pytest.mark.parametrize(("references", "power"), [(1000, 1000), (500, 200), (100, 3)])
    def test_powers_of_any_size_are_counted(self, references: int, power: int) -> None:
        levels = torch.arange(references, dtype=torch.float64)[None]
        found = calibrate(torch.tensor([[references - 0.5, references / 2 + 0.5]]).double(), levels, power=power)
        expected = [1.0, math.comb(references // 2 + 1, power) / math.comb(references, power)]
        assert found[0].tolist() == pytest.approx(expected, rel=1e-9)
        tied = calibrate(torch.zeros(1, dtype=torch.float64), torch.zeros_like(levels), power=power)
        assert tied.item() == pytest.approx(0.5**power, rel=1e-9)

    def test_missing_references_are_not_there(self) -> None:
        rewards, reference = rows()
        holes = torch.cat([torch.full((3, 2), torch.nan, dtype=torch.float64), reference], 1)[:, torch.randperm(11)]
        for power in (1, 3):
            assert_close(calibrate(rewards, holes, power=power), calibrate(rewards, reference, power=power))
        inf = torch.full((3, 1), torch.inf, dtype=torch.float64)
        assert (calibrate(inf, holes) == 1).all()
        assert (calibrate(-inf, holes) == 0).all()
        with_inf = torch.cat([holes, inf], 1)
        assert_close(calibrate(inf, with_inf), torch.full((3, 1), 9.5 / 10, dtype=torch.float64))

    @pytest.mark.parametrize("samples", [7, 40])
    @pytest.mark.parametrize("presorted", [True, False])
    @pytest.mark.parametrize("power", [1, 3])
    def test_searched_or_compared_and_hardly_anything_there(self, samples: int, presorted: bool, power: int) -> None:
        rewards, reference = rows(samples, 12)
        reference[0, 1:9] = torch.nan
        reference[1, 2], reference[2, :2], rewards[:, 0], rewards[:, 1] = torch.inf, -torch.inf, torch.inf, -torch.inf
        expected = [
            [plain(one, list(refs), power) for one in row] for row, refs in zip(rewards, reference, strict=True)
        ]
        given = reference.sort(-1).values if presorted else reference
        found = calibrate(rewards, given, power=power, presorted=presorted)
        assert_close(found, torch.tensor(expected, dtype=torch.float64))

    def test_a_reward_that_is_missing_stays_so(self) -> None:
        found = calibrate(torch.tensor([[torch.nan, 1.0]]), torch.tensor([[0.0, torch.nan]]), power=1)
        assert found[0, 0].isnan()
        assert found[0, 1] == 1

    def test_sorted_already(self) -> None:
        rewards, reference = rows()
        reference[0, 3] = torch.nan
        assert torch.equal(calibrate(rewards, reference.sort(-1).values, presorted=True), calibrate(rewards, reference))

    def test_dtypes(self) -> None:
        rewards, reference = rows()
        assert calibrate(rewards.long(), reference.long()).dtype == torch.float32
        assert_close(calibrate(rewards.long(), reference).double(), calibrate(rewards, reference), rtol=0, atol=1e-6)
        half = calibrate(rewards.bfloat16(), reference.bfloat16())
        assert half.dtype == torch.float32
        assert_close(half.double(), calibrate(rewards, reference), rtol=0, atol=1e-6)

    def test_no_graph_and_nothing_changed(self) -> None:
        rewards, reference = rows()
        before = reference.clone()
        assert not calibrate(rewards.requires_grad_(), reference.requires_grad_()).requires_grad
        assert torch.equal(reference, before)

    @given(st.integers(0, 1000), st.integers(1, 4))
    def test_it_rises_with_the_reward_and_stays_within_0_and_1(self, seed: int, power: int) -> None:
        rewards, reference = rows(seed=seed)
        found = calibrate(rewards.sort(-1).values, reference, power=power)
        assert (found.diff() >= -1e-12).all()
        assert (found >= 0).all()
        assert (found <= 1).all()

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"rewards": torch.ones(2, 3, 4)}, ValueError, r"rewards must be \(batch\) or"),
            ({"reference": torch.ones(3, 5)}, ValueError, "reference has 3 rows, rewards 2"),
            ({"reference": torch.ones(2)}, ValueError, r"reference must be \(batch, references\)"),
            ({"power": 3}, ValueError, "row 1: reference has 2 rewards that are not NaN, and needs 3"),
            ({"power": 0}, ValueError, "power must be at least 1"),
            ({"reference": torch.ones(2, 0)}, ValueError, "row 0: reference has 0 rewards"),
            ({"reference": torch.full((2, 3), torch.nan)}, ValueError, "row 0: reference has 0 rewards"),
            (
                {"reference": torch.tensor([[1.0, 2.0], [torch.nan, 1.0]]), "presorted": True},
                ValueError,
                "row 1: reference falls after place 0, or is NaN there",
            ),
            (
                {"reference": torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "presorted": True},
                ValueError,
                "row 1: .*falls after",
            ),
            ({"rewards": torch.ones(2) > 0}, TypeError, "rewards must hold numbers, got torch.bool"),
            ({"reference": [[1.0]]}, TypeError, "reference must be a tensor, got list"),
        ],
    )
    def test_bad_input_is_named(
        self, arguments: dict[str, Any], error: type[Exception], said: str, own_messages: None
    ) -> None:
        good = {"rewards": torch.ones(2), "reference": torch.tensor([[1.0, 2.0, 3.0], [1.0, torch.nan, 2.0]])}
        with pytest.raises(error, match=said):
            calibrate(**good | arguments)


class TestTransforms:
    u = torch.linspace(0, 1, 41, dtype=torch.float64)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_by_hand(self, n: int) -> None:
        u, p = self.u, 2 * n - 1
        for decoder, exp, poly in (
            ("best_of", ((3 * u).exp() - 1) / math.expm1(3), u**p),
            ("worst_of", (1 - (-3 * u).exp()) / -math.expm1(-3), 1 - (1 - u) ** p),
        ):
            assert_close(reward_transform(u, "exp", decoder=decoder, rate=3), exp)
            assert_close(reward_transform(u, "poly", decoder=decoder, n=n), poly)
        off = {"normalize": False, "rate": 3, "n": n}
        assert_close(reward_transform(u, "exp", **off), (3 * u).exp())
        assert_close(reward_transform(u, "exp", decoder="worst_of", **off), -(-3 * u).exp())
        assert_close(reward_transform(u, "poly", decoder="worst_of", **off), -((1 - u) ** p))
        assert_close(reward_transform(u, "poly", decoder="plain", **off), u)
        assert torch.equal(reward_transform(u, "identity"), u)
        assert_close(reward_transform(u, "log", floor=0.1), u.clamp(min=0.1).log())
        assert reward_transform(u, "log")[0] == -math.inf

    @pytest.mark.parametrize("rate", [1e-9, 1.0, 900.0])
    @pytest.mark.parametrize("decoder", ["best_of", "worst_of"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_exponentials_run_from_0_to_1(self, rate: float, decoder: Any, dtype: torch.dtype) -> None:
        found = reward_transform(self.u.to(dtype), rate=rate, decoder=decoder)
        assert found.dtype == dtype
        assert found[0] == 0
        assert found[-1] == 1
        assert (found.diff() >= 0).all()

    @pytest.mark.parametrize("decoder", ["best_of", "worst_of"])
    def test_the_fixed_point_between_its_points(self, decoder: Any) -> None:
        coarse, fine = (fixed_point(decoder, 4, 0.2, grid=points).phi for points in (4001, 8001))
        assert_close(
            reward_transform(torch.linspace(0, 1, 4001, dtype=torch.float64), "fixed_point", decoder=decoder, beta=0.2),
            coarse,
        )
        found = reward_transform(
            torch.linspace(0, 1, 8001, dtype=torch.float64), "fixed_point", decoder=decoder, beta=0.2
        )
        assert_close(found, fine, atol=1e-8, rtol=0)

    def test_what_is_missing_stays_so_and_half_precision_is_widened(self) -> None:
        found = reward_transform(torch.tensor([[torch.nan, 0.5]], dtype=torch.bfloat16))
        assert found.dtype == torch.float32
        assert found[0].isnan().tolist() == [True, False]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"kind": "expo"}, "kind must be one of .*did you mean 'exp'"),
            ({"kind": "fixed_point"}, "fixed_point needs beta"),
            ({"kind": "fixed_point", "beta": 0}, "beta must be positive"),
            ({"kind": "fixed_point", "beta": 0.01, "n": 64}, "does not converge at beta=0.01 with n=64"),
            ({"kind": "poly", "decoder": torch.ones_like}, "poly is for best_of and worst_of"),
            ({"decoder": "beam"}, "decoder='beam' is unknown"),
            ({"n": 0}, "n must be at least 1"),
            ({"rate": 0}, "rate must be positive"),
            ({"rate": 900, "normalize": False}, "rate=900 overflows without normalize"),
            ({"floor": -1}, "floor must be within"),
            ({"u": torch.tensor([0.5, 1.5])}, "u holds 1.5, outside 0..1; calibrate"),
        ],
    )
    def test_bad_input_is_named(self, options: dict[str, Any], said: str, own_messages: None) -> None:
        with pytest.raises(ValueError, match=said):
            reward_transform(**{"u": torch.tensor([0.5])} | options)
