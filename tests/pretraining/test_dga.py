"""Dynamic gradient alignment: the numbers of its update, its average, what it comes to, and bad input."""

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from kilter.pretraining import (
    DomainMixture,
    DynamicGradientAlignment,
    balance_step,
    doge_step,
    gradient_alignments,
    reweight,
)
from tests.pretraining.small_models import numbers, squared_error

THIRDS = torch.full((3,), 1 / 3)
LOGS = torch.tensor([1.0, 2.0, 4.0]).log()
SEVENTHS = torch.tensor([1.0, 2.0, 4.0]) / 7


def aligned(sizes: Any = (10, 10, 10), weights: Any = None, **options: Any) -> DynamicGradientAlignment:
    mixture = DomainMixture([*sizes], weights=weights, generator=Generator().manual_seed(0))
    return DynamicGradientAlignment(mixture, **{"step_size": 1.0, **options})


class TestReweight:
    def test_the_golden_numbers(self) -> None:
        assert_close(reweight(THIRDS.log(), LOGS, 1.0).exp(), SEVENTHS)

    def test_the_sign_is_plus(self) -> None:
        found = reweight(THIRDS.log(), torch.tensor([-1.0, 0.0, 1.0]), 0.1).exp()
        assert found[2] > found[1] > found[0]

    @given(st.integers(1, 6), st.floats(-50, 50), st.floats(0, 5), st.integers(0, 99))
    def test_a_constant_changes_nothing_and_order_does_not_matter(
        self, k: int, constant: float, step_size: float, seed: int
    ) -> None:
        weights, a = numbers(k, seed=seed, dtype=torch.float64).log_softmax(0), numbers(k, seed=seed + 1).double()
        found = reweight(weights, a, step_size)
        assert_close(reweight(weights, a + constant, step_size), found)
        order = torch.randperm(k, generator=Generator().manual_seed(seed))
        assert_close(reweight(weights[order], a[order], step_size), found[order])
        assert_close(found.exp().sum(), torch.ones((), dtype=torch.float64))

    def test_without_a_step_weights_stay(self) -> None:
        weights = SEVENTHS.log()
        assert_close(reweight(weights, LOGS, 0), weights)

    def test_it_is_the_closed_form_of_the_mirror_step(self) -> None:
        """No other point of the simplex has more of what is maximised."""
        weights, a, mu = SEVENTHS.double(), torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), 2.0

        def gain(alpha: Tensor) -> Tensor:
            return alpha @ a - (alpha * (alpha / weights).log()).sum(-1) / mu

        best = reweight(weights.log(), a, mu).exp()
        others = numbers(500, 3, dtype=torch.float64).softmax(1)
        assert all(gain(best) >= gain(other) for other in others)

    def test_large_numbers_do_not_overflow(self) -> None:
        assert_close(reweight(THIRDS.log(), torch.tensor([1e4, 0.0, -1e4]), 10.0).exp(), torch.tensor([1.0, 0.0, 0.0]))

    def test_a_domain_that_is_away_stays_away(self) -> None:
        assert reweight(torch.tensor([0.0, -math.inf]), torch.tensor([0.0, 9.0]), 1.0).exp().tolist() == [1.0, 0.0]
        with pytest.raises(ValueError, match="log_weights are all minus infinity"):
            reweight(torch.full((2,), -math.inf), torch.zeros(2), 1.0)

    def test_gradients_do_not_reach_through(self) -> None:
        assert reweight(THIRDS.half().log(), LOGS.half(), 1.0).dtype == torch.float32


class TestUpdate:
    def test_without_average_it_is_the_update(self) -> None:
        one = aligned(ema=1.0)
        assert_close(one.update(LOGS), SEVENTHS)
        assert_close(one.mixture.weights, SEVENTHS)
        assert_close(one.update(LOGS), torch.tensor([1.0, 4.0, 16.0]) / 21)

    def test_the_average_is_of_the_new_value_and_the_recursion_of_the_plain_one(self) -> None:
        one = aligned(ema=0.1)
        assert_close(one.update(LOGS), 0.9 * THIRDS + 0.1 * SEVENTHS)
        second = torch.tensor([1.0, 4.0, 16.0]) / 21
        assert_close(one.update(LOGS), 0.81 * THIRDS + 0.09 * SEVENTHS + 0.1 * second)
        assert_close(one.log_weights.exp().float(), second)

    def test_with_no_weight_of_the_new_value_weights_stay(self) -> None:
        one = aligned(ema=0.0, weights=[0.5, 0.25, 0.25])
        for _ in range(3):
            assert one.update(LOGS).tolist() == [0.5, 0.25, 0.25]

    def test_bases_of_one_domain_each_are_the_domain_form(self) -> None:
        plain = aligned()
        mixture = DomainMixture([10, 10, 10], bases=torch.eye(3), generator=Generator().manual_seed(0))
        based = DynamicGradientAlignment(mixture, step_size=1.0)
        for seed in range(4):
            a = numbers(3, seed=seed)
            assert torch.equal(plain.update(a), based.update(a))
            assert torch.equal(plain.mixture.weights, based.mixture.domain_weights)

    def test_weights_of_bases_are_those_of_their_distributions(self) -> None:
        mixture = DomainMixture([10, 10, 10], bases=[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        one = DynamicGradientAlignment(mixture, step_size=1.0, ema=1.0)
        assert_close(one.update(torch.tensor([1.0, 3.0]).log()), torch.tensor([0.25, 0.75]))
        assert_close(mixture.domain_weights, torch.tensor([0.125, 0.125, 0.75]))

    def test_a_floor_is_equal_for_all(self) -> None:
        one = aligned(ema=1.0, floor=0.3)
        assert_close(one.update(torch.tensor([0.0, 0.0, 500.0])), torch.tensor([0.1, 0.1, 0.8]))

    def test_the_learning_rate_multiplies_the_step(self) -> None:
        one = aligned(ema=1.0, step_size=100.0, times_learning_rate=True)
        assert_close(one.update(LOGS, learning_rate=0.01), SEVENTHS)
        with pytest.raises(ValueError, match="learning_rate is needed"):
            one.update(LOGS)

    @pytest.mark.parametrize("rule", [reweight, doge_step, balance_step])
    def test_other_rules_stand_in_its_place(self, rule: Any) -> None:
        one = aligned(ema=1.0, rule=rule, step_size=2.0)
        one.update(LOGS)
        expected = rule(rule(THIRDS.log(), LOGS, 2.0), -LOGS, 2.0).exp()
        assert_close(one.update(-LOGS), expected)

    def test_each_update_is_a_row_of_the_history(self) -> None:
        one = aligned(ema=0.1, floor=0.3)
        one.update(LOGS)
        taken = iter(one.mixture)
        for _ in range(4):
            next(taken)
        one.update(-LOGS)
        first, second = one.history
        assert first["weights"] == pytest.approx(SEVENTHS.tolist())
        assert first["averaged"] == pytest.approx((0.9 * THIRDS + 0.1 * SEVENTHS).tolist())
        assert first["drawn"] == pytest.approx([0.7 * each + 0.1 for each in first["averaged"]])
        assert [row["alignments"] for row in one.history] == [LOGS.tolist(), (-LOGS).tolist()]
        assert (first["step"], sum(first["examples"])) == (1, 0)
        assert (second["step"], sum(second["examples"])) == (2, 4)
        assert sum(second["epochs"]) == pytest.approx(0.4)
        other = aligned()
        other.load_state_dict(one.state_dict())
        other.update(LOGS)
        assert [row["step"] for row in other.history] == [3]

    def test_weights_set_by_hand_are_gone_on_from(self) -> None:
        one = aligned(ema=0.5)
        one.update(torch.tensor([1.0, 0.0, 0.0]))
        one.mixture.weights = [0.0, 0.25, 0.75]
        assert_close(one.update(torch.zeros(3)), torch.tensor([0.0, 0.25, 0.75]))

    def test_it_goes_on_from_a_state(self) -> None:
        one, other = aligned(weights=[1.0, 1.0, 0.0]), aligned(weights=[0.2, 0.3, 0.5])
        one.update(LOGS)
        list(one.mixture)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.update(-LOGS), other.update(-LOGS))
        assert [*one.mixture, *one.mixture] == [*other.mixture, *other.mixture]


class TestWhatItComesTo:
    def regressions(self, steps: int, seed: int, same: bool) -> Tensor:
        """Weights after a training on three domains: the target's own and two of noise, or three alike."""
        generator = Generator().manual_seed(seed)
        truth = torch.tensor([1.0, -2.0, 0.5, 1.5])
        model = nn.Linear(4, 1, bias=False)
        nn.init.zeros_(model.weight)
        one = aligned(step_size=0.3, ema=0.5)

        def batch(noise: bool) -> tuple[Tensor, Tensor]:
            x = torch.randn(8, 4, generator=generator)
            return x, torch.randn(8, generator=generator) * 2 if noise else x @ truth

        weights = one.mixture.weights
        for _ in range(steps):
            noise = [not same and number > 0 for number in range(3)]
            a = gradient_alignments(model, squared_error, [batch(each) for each in noise], batch(False))
            weights = one.update(a)
            with torch.no_grad():
                x, y = batch(False)
                model.weight -= 0.02 * (x.T @ (x @ model.weight[0] - y) / len(x))
        return weights

    def test_the_domain_of_the_target_wins(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert self.regressions(30, 0, same=False)[0] > 0.95

    def test_equal_domains_stay_equal_in_the_mean(self) -> None:
        found = torch.stack([self.regressions(3, seed, same=True) for seed in range(40)])
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - 1 / 3).abs() < 4 * error).all()


class TestBadInput:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"ema": 1.5}, "ema must be within 0..1, got 1.5"),
            ({"ema": -0.1}, "ema must be within"),
            ({"ema": math.nan}, "ema must be within"),
            ({"step_size": 0}, "step_size must be positive"),
            ({"step_size": -1.0}, "step_size must be positive"),
            ({"floor": 2}, "floor must be within"),
            ({"every": 0}, "every must be at least 1"),
            ({"method": "central"}, "method must be one of"),
            ({"step": 0.0}, "step must be positive"),
            ({"clip": -1.0}, "clip must be positive"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
            ({"rule": "doge"}, "rule must be callable"),
            ({"domains": [[1], [2]]}, "domains are 2, and mixture has 3"),
            ({"domains": [[1], [], [2]]}, r"domains\[1\] is empty"),
            ({"domains": {"a": [1], "b": [2], "c": []}}, r"domains\['c'\] is empty|domains\[2\] is empty"),
            ({"domains": [iter([1]), [1], [1]]}, r"domains\[0\] must be a data set"),
            ({"domains": (one for one in [[1], [1], [1]])}, "domains must be a list or a dict of data sets"),
            ({"domains": "abc"}, "domains must be a list or a dict of data sets, got str"),
            ({"domains": [[1], "a text", [1]]}, r"domains\[1\] must be a data set with indices, got str"),
            ({"domains": [[1], {"input_ids": [1]}, [1]]}, r"domains\[1\] must be a data set with indices, got dict"),
            ({"target": {"input_ids": [[1], [2]]}}, "target must be a data set with indices, or a loader .* got dict"),
            ({"target": "a text"}, "target must be a data set with indices, or a loader of batches, got str"),
            ({"target": []}, "target is empty"),
            ({"target": 5}, "target must be a data set or a loader"),
            ({"generator": 3}, "generator must be"),
        ],
    )
    def test_options(self, changed: dict[str, Any], message: str, own_messages: None) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            aligned(**changed)

    def test_no_mixture(self, own_messages: None) -> None:
        with pytest.raises(TypeError, match="mixture must be a DomainMixture, got list"):
            DynamicGradientAlignment([3, 3], step_size=1.0)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("a", "message"),
        [
            (torch.tensor([0.0, math.nan, 0.0]), "domain 1: alignments is NaN; leave this step out"),
            (torch.tensor([0.0, math.inf, 0.0]), "domain 1: alignments is infinite"),
            (torch.zeros(2), r"alignments must be shaped like the mixture's weights \(3,\), got \(2,\)"),
            (torch.zeros(3).long(), "alignments must be floating point"),
            ([0.0, 0.0, 0.0], "alignments must be a tensor"),
        ],
    )
    def test_alignments(self, a: Any, message: str, own_messages: None) -> None:
        one = aligned()
        with pytest.raises((TypeError, ValueError), match=message):
            one.update(a)
        assert_close(one.mixture.weights, THIRDS)

    def test_a_target_of_one_example_is_said(self) -> None:
        with pytest.warns(UserWarning, match="target has one example"):
            aligned(target=[{"input_ids": [1]}])

    def test_a_collapse_is_said_once_with_what_to_do(self) -> None:
        one = aligned(ema=1.0, domains={"books": [1], "pages": [1], "mail": [1]})
        with pytest.warns(UserWarning, match="of domain 'mail'; lower step_size or ema, or give a floor"):
            one.update(torch.tensor([0.0, 0.0, 10.0]))
        one.update(torch.tensor([0.0, 0.0, 10.0]))  # a warning would be an error

    def test_a_mixture_of_one_domain_does_not_collapse(self) -> None:
        assert aligned([5]).update(torch.tensor([3.0])).tolist() == [1.0]

    def test_what_is_no_event_is_no_attribute(self) -> None:
        one = aligned()
        one.on_substep_end(None, None, None, model=None)
        with pytest.raises(AttributeError, match="no attribute 'updates'"):
            one.updates  # noqa: B018
