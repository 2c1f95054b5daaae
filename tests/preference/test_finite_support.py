"""Finitely many answers: against all draws in loops, gradients, ties, the best policy, and RL without chance."""

import itertools
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.preference import calibrate, finite_fixed_point, finite_win_rate, fixed_point, reward_transform, win_rate

ARGUMENTS = {"policy": lambda: torch.full((4,), 0.25), "base": lambda: torch.tensor([0.1, 0.2, 0.3, 0.4])}
BASE = torch.tensor([0.3, 0.1, 0.2, 0.15, 0.25], dtype=torch.float64)
REWARDS = torch.tensor([1.0, 0.0, 1.0, 2.0, -1.0], dtype=torch.float64)


def policies(rows: int, answers: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(rows, answers, generator=Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def put_out(masses: list[float], rewards: list[float], decoder: str, n: int) -> list[float]:
    """What a decoder does, from every n draws; those that tie share."""
    found = [0.0] * len(masses)
    pick = max if decoder == "best_of" else min
    for draws in itertools.product(range(len(masses)), repeat=n):
        chance = 1.0
        for one in draws:
            chance *= masses[one]
        best = [one for one in draws if rewards[one] == pick(rewards[other] for other in draws)]
        for one in best:
            found[one] += chance / len(best)
    return found


def plain(policy: list[float], base: list[float], rewards: list[float], decoder: str, n: int) -> float:
    ours, theirs = (put_out(one, rewards, decoder, n) for one in (policy, base))
    pairs = itertools.product(range(len(rewards)), repeat=2)
    return sum(ours[i] * theirs[j] * ((rewards[i] > rewards[j]) + 0.5 * (rewards[i] == rewards[j])) for i, j in pairs)


@pytest.mark.parametrize("decoder", ["best_of", "worst_of", "plain"])
class TestWinRate:
    def test_it_is_that_of_all_draws(self, decoder: str) -> None:
        for policy in policies(2):
            n = 1 if decoder == "plain" else 3
            expected = plain(policy.tolist(), BASE.tolist(), REWARDS.tolist(), decoder, n)
            assert float(finite_win_rate(policy, BASE, REWARDS, decoder, n)) == pytest.approx(expected)

    def test_10_the_gradient_is_the_difference(self, decoder: str) -> None:
        policy = policies(1)[0].requires_grad_()
        (found,) = torch.autograd.grad(finite_win_rate(policy, BASE, REWARDS, decoder), policy)
        steps = 1e-5 * torch.eye(5, dtype=torch.float64)
        base, rewards = BASE.expand(5, 5), REWARDS.expand(5, 5)
        up, down = (finite_win_rate(policy.detach() + sign * steps, base, rewards, decoder) for sign in (1, -1))
        assert_close(found, (up - down) / 2e-5, atol=1e-6, rtol=0)
        if decoder == "plain":  # and that is the calibrated reward
            draws = REWARDS.repeat_interleave((100 * BASE).round().long())
            assert_close(found, calibrate(REWARDS[None], draws[None])[0])

    def test_10_the_gradient_in_the_small(self, decoder: str) -> None:
        inputs = policies(2).requires_grad_(), policies(2, seed=1).requires_grad_()
        rewards = torch.stack([REWARDS, REWARDS.flip(0)])
        assert torch.autograd.gradcheck(lambda ours, theirs: finite_win_rate(ours, theirs, rewards, decoder), inputs)

    def test_the_same_policy_wins_half(self, decoder: str) -> None:
        base = policies(6).view(2, 3, 5)
        assert_close(finite_win_rate(base, base, REWARDS.expand(2, 3, 5), decoder), torch.full((2, 3), 0.5).double())

    def test_the_order_of_answers_does_not_matter(self, decoder: str) -> None:
        policy, order = policies(1)[0], torch.tensor([3, 0, 4, 1, 2])
        assert_close(
            finite_win_rate(policy[order], BASE[order], REWARDS[order], decoder),
            finite_win_rate(policy, BASE, REWARDS, decoder),
        )

    def test_many_answers_without_ties_are_the_curve(self, decoder: str) -> None:
        found = fixed_point(decoder, 4, 0.3)
        centres = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
        policy = (reward_transform(centres, "fixed_point", decoder=decoder, beta=0.3) / 0.3).softmax(-1)
        base = torch.full_like(policy, 1 / 2000)
        assert float(finite_win_rate(policy, base, centres, decoder)) == pytest.approx(found.win_rate, abs=1e-4)
        assert float(win_rate(found.density, decoder)) == pytest.approx(found.win_rate)


class TestTheBestPolicy:
    @pytest.mark.parametrize("decoder", ["best_of", "worst_of", "plain"])
    @pytest.mark.parametrize("beta", [1.0, 0.1])
    def test_it_is_what_it_says_and_none_is_better(self, decoder: str, beta: float) -> None:
        found = finite_fixed_point(BASE, REWARDS, decoder, 4, beta)
        assert found.converged
        assert_close(found.policy, (BASE.log() + found.reward / beta).softmax(-1), atol=1e-8, rtol=0)

        def objective(policy: Tensor) -> Tensor:
            kl = (policy * (policy / BASE).log()).sum(-1)
            return finite_win_rate(policy, BASE.expand_as(policy), REWARDS.expand_as(policy), decoder) - beta * kl

        most = objective(found.policy)
        assert float(most) == pytest.approx(float(found.win_rate - beta * found.kl))
        assert (objective(policies(200)) <= most).all()
        near = (found.policy.log() + 0.01 * policies(200, seed=3)).softmax(-1)
        assert (objective(near) <= most + 1e-12).all()

    def test_rows_are_what_each_is_alone(self) -> None:
        base, rewards = policies(4).view(2, 2, 5), torch.stack([REWARDS, REWARDS.flip(0)])[:, None].expand(2, 2, 5)
        found = finite_fixed_point(base, rewards, "best_of", 4, 0.1)
        assert found.converged.shape == found.win_rate.shape == found.kl.shape == (2, 2)
        assert found.converged.all()
        for at in itertools.product(range(2), repeat=2):
            alone = finite_fixed_point(base[at], rewards[at], "best_of", 4, 0.1)
            assert_close(found.policy[at], alone.policy, atol=1e-8, rtol=0)
            assert_close(found.reward[at], alone.reward, atol=1e-8, rtol=0)

    def test_all_tie_then_nothing_is_to_be_won(self) -> None:
        found = finite_fixed_point(BASE, torch.zeros_like(BASE), "best_of", 4, 0.01)
        assert found.converged
        assert_close(found.policy, BASE)
        assert (float(found.win_rate), float(found.kl)) == pytest.approx((0.5, 0))

    def test_an_answer_that_the_base_never_gives(self) -> None:
        base = torch.tensor([0.5, 0.5, 0.0])
        found = finite_fixed_point(base, torch.tensor([0.0, 1.0, 2.0]), beta=0.5)
        assert found.policy[2] == 0
        assert found.policy.isfinite().all()
        assert found.kl.isfinite()

    def test_what_did_not_converge_says_so(self) -> None:
        assert not finite_fixed_point(BASE, REWARDS, "best_of", 4, 0.1, max_iter=1).converged.any()

    def test_11_training_ends_at_the_tilted_base(self) -> None:
        """Softmax over 20 answers, exact expectations of what RLOO and unscaled GRPO estimate."""
        draw, beta = Generator().manual_seed(0), 0.1
        base = torch.randn(20, generator=draw, dtype=torch.float64).softmax(-1)
        rewards = torch.randn(20, generator=draw, dtype=torch.float64)
        leaf = base.clone().requires_grad_()
        (calibrated,) = torch.autograd.grad(finite_win_rate(leaf, base, rewards, "plain"), leaf)
        phi = reward_transform(calibrated.clamp(0, 1))
        logits = base.log().requires_grad_()
        optimiser = torch.optim.Adam([logits], 0.05)
        for _ in range(1500):
            policy = logits.softmax(-1)
            reward = phi - beta * (policy.detach() / base).log()  # the KL in the reward
            advantage = reward - (policy.detach() * reward).sum()
            optimiser.zero_grad()
            (-(policy * advantage).sum()).backward()
            optimiser.step()
        expected = (base.log() + phi / beta).softmax(-1)
        assert float((logits.detach().softmax(-1) - expected).abs().sum() / 2) < 1e-3


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"policy": 2 * BASE}, ValueError, "policy sums to 2 over the answers"),
            ({"base": BASE - 0.2}, ValueError, r"base holds -0.1 at \[1\]"),
            ({"base": BASE[:4]}, ValueError, r"policy must be shaped like base \(4,\)"),
            ({"rewards": torch.full((5,), torch.nan)}, ValueError, r"rewards is NaN at \[0\]"),
            ({"rewards": REWARDS[:4]}, ValueError, "rewards must be shaped like base"),
            ({"rewards": REWARDS.long()}, TypeError, "rewards must be floating point"),
            ({"decoder": "worst"}, ValueError, "decoder='worst' is unknown"),
            ({"n": 0}, ValueError, "n must be at least 1"),
            (dict.fromkeys(("policy", "base", "rewards"), BASE[:0]), ValueError, "with one answer at least"),
        ],
    )
    def test_it_is_named(
        self, arguments: dict[str, Any], error: type[Exception], said: str, own_messages: None
    ) -> None:
        good = {"policy": BASE, "base": BASE, "rewards": REWARDS}
        with pytest.raises(error, match=said):
            finite_win_rate(**good | arguments)
        if "policy" not in arguments and "shaped" not in said:
            given = {name: one for name, one in (good | arguments).items() if name != "policy"}
            with pytest.raises(error, match=said):
                finite_fixed_point(**given)

    @pytest.mark.parametrize("options", [{"beta": 0}, {"tol": 0}, {"max_iter": 0}])
    def test_options_are_named(self, options: dict[str, Any], own_messages: None) -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            finite_fixed_point(BASE, REWARDS, **options)
