"""GRAO: advantages by hand, the loss against loops, its two identities, padding, and bad input."""

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.preference import GroupRelativeAlignment, effective_weights, group_advantages, group_relative_alignment
from tests.conformance.case import Case, Fixed

ARGUMENTS = {
    "num_samples": lambda: 8,
    "rewards samples": lambda: torch.tensor([[1.0, 0.0, -1.0]] * 4),
    "reference_rewards": lambda: torch.zeros(4),
    "sample_log_probs": lambda: -torch.ones(4, 3),
    "sample_mask": lambda: torch.tensor([[True, True, False]] * 4),
    "advantages": lambda: torch.tensor([1.0, -1.0, 0.5, 0.5]),
    "reference_log_probs": lambda: -torch.ones(9, 2),  # more than there are samples of
    "reference_mask": lambda: torch.ones(9, 2, dtype=torch.bool),
    "reference_advantages": lambda: torch.ones(9),
}


def drawn(generator: Generator, *, whole: bool = False) -> dict[str, Any]:
    """Four samples of two prompts, with a group in a row (`whole`) or not."""
    lengths, reference_lengths = torch.tensor([3, 5, 1, 0]), torch.tensor([4, 2])
    return {
        "sample_log_probs": -torch.rand(4, 5, generator=generator, dtype=torch.float64),
        "sample_mask": torch.arange(5) < lengths[:, None],
        "advantages": torch.tensor([1.5, -0.5, 0.3, -1.1], dtype=torch.float64),
        "reference_log_probs": -torch.rand(2, 4, generator=generator, dtype=torch.float64),
        "reference_mask": torch.arange(4) < reference_lengths[:, None],
        "reference_advantages": torch.tensor([0.7, -0.4], dtype=torch.float64),
        "group": torch.tensor([0, 0, 1, 1] if whole else [1, 0, 1, 1]),
    }


def fixed(objective: GroupRelativeAlignment, inputs: dict[str, Any]) -> Fixed:
    """Advantages carry no gradient, so they enter as whole numbers of hundredths."""

    def function(
        sample_log_probs: Float[Tensor, "batch tokens"],
        sample_mask: Bool[Tensor, "batch tokens"],
        hundredths: Int[Tensor, " batch"],
        reference_log_probs: Float[Tensor, "prompts answer"],
        group: Int[Tensor, " batch"],
    ) -> Tensor:
        return objective(
            sample_log_probs,
            sample_mask,
            hundredths.to(sample_log_probs.dtype) / 100,
            reference_log_probs,
            inputs["reference_mask"],
            inputs["reference_advantages"].to(sample_log_probs.dtype),
            group,
        ).loss

    kept = {name: inputs[name] for name in ("sample_log_probs", "sample_mask", "reference_log_probs", "group")}
    return function, kept | {"hundredths": (100 * inputs["advantages"]).round().long()}


def cases() -> list[Case]:
    by_mask = "what is padding is said by masks, see TestTheLoss"
    skip = {"padding_does_not_matter": by_mask, "nan_in_the_padding_does_not_matter": by_mask}
    return [
        Case(GroupRelativeAlignment, drawn, fixed, skip),
        Case(
            lambda: GroupRelativeAlignment(form="folded", beta=0.3, lambda_=1.0),
            lambda generator: drawn(generator, whole=True),
            fixed,
            skip,
            "folded",
        ),
        Case(
            lambda: GroupRelativeAlignment(clip_negative_reference=True, std="sample"),
            drawn,
            fixed,
            skip | {"gradients": "the clipped reference is a constant in the gradient, not in the value"},
            "clipped",
        ),
    ]


def plain(x: dict[str, Any], *, beta: float = 0.5, lambda_: float = 0.6) -> tuple[float, float, float]:
    """Exploration, imitation and regulariser of -J, as equation 3 has them, with loops."""

    def likelihood(name: str, row: int) -> float:
        pairs = zip(x[f"{name}_log_probs"][row].tolist(), x[f"{name}_mask"][row].tolist(), strict=True)
        values = [value for value, inside in pairs if inside]
        return sum(values) / max(1, len(values))

    parts = [0.0, 0.0, 0.0]
    rows = len(x["advantages"])
    for i in range(rows):
        y = int(x["group"][i])
        a, a_y = float(x["advantages"][i]), float(x["reference_advantages"][y])
        sample, reference = likelihood("sample", i), likelihood("reference", y)
        parts[0] -= a * sample / rows
        parts[1] -= beta * a_y * reference / rows
        parts[2] -= lambda_ * a * (sample - reference) / rows
    return parts[0], parts[1], parts[2]


def groups(
    prompts: int = 3, size: int = 8, seed: int = 0, *, in_stats: bool = True, std: Any = "population", eps: float = 1e-4
) -> dict[str, Any]:
    """Whole groups, with advantages of drawn rewards and log-probabilities to differentiate."""
    draw = Generator().manual_seed(seed)
    rewards = torch.randn(prompts, size, generator=draw, dtype=torch.float64)
    a, a_y = group_advantages(
        rewards,
        torch.randn(prompts, generator=draw, dtype=torch.float64),
        reference_in_stats=in_stats,
        std=std,
        eps=eps,
    )
    lengths = torch.randint(0, 7, (prompts * size,), generator=draw)
    return {
        "sample_log_probs": (-torch.rand(prompts * size, 6, generator=draw, dtype=torch.float64)).requires_grad_(),
        "sample_mask": torch.arange(6) < lengths[:, None],
        "advantages": a.flatten(),
        "reference_log_probs": (-torch.rand(prompts, 5, generator=draw, dtype=torch.float64)).requires_grad_(),
        "reference_mask": torch.arange(5) < torch.tensor([5, 2, 3])[:prompts, None],
        "reference_advantages": a_y,
    }


def slopes(loss: Tensor, x: dict[str, Any]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, [x["sample_log_probs"], x["reference_log_probs"]], materialize_grads=True)


class TestAdvantages:
    @pytest.mark.parametrize("size", [2, 8, 64])
    def test_2_all_samples_lose_or_win(self, size: int) -> None:
        a, a_y = group_advantages(torch.tensor([[-1.0] * size, [1.0] * size]), eps=0)
        root = math.sqrt(size)
        assert_close(a, torch.tensor([[-1 / root] * size, [1 / root] * size]))
        assert_close(a_y, torch.tensor([root, -root]))

    def test_with_eps_the_closed_form_holds_to_it(self) -> None:
        a_y = group_advantages(torch.full((1, 8), -1.0))[1]
        assert abs(float(a_y) / math.sqrt(8) - 1) == pytest.approx(3.2e-4, rel=0.05)

    @pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e4, 1e-8])
    @pytest.mark.parametrize("std", ["population", "sample"])
    def test_2_without_spread_there_is_none(self, std: Any, value: float) -> None:
        rewards = torch.full((2, 7), value)
        for reference in (rewards[:, 0], rewards[:, 0] * (1 + 2e-7)):
            for eps in (0, 1e-4):
                a, a_y = group_advantages(rewards, reference, std=std, eps=eps)
                assert not a.any()
                assert not a_y.any()

    def test_2_all_lose_and_the_reference_does_not_count(self) -> None:
        """One over eps would be 10,000."""
        a, a_y = group_advantages(torch.full((1, 8), -1.0), reference_in_stats=False)
        assert not a.any()
        assert not a_y.any()
        summed = torch.tensor([[0.1 + 0.2, 0.3, 0.3]], dtype=torch.float64)  # the same but for rounding
        assert not group_advantages(summed, reference_in_stats=False)[1].any()

    @pytest.mark.parametrize("in_stats", [True, False])
    @pytest.mark.parametrize("std", ["population", "sample"])
    def test_by_hand(self, std: Any, in_stats: bool) -> None:
        a, a_y = group_advantages(
            torch.tensor([[1.0, 3.0, 8.0]]), torch.tensor([4.0]), reference_in_stats=in_stats, std=std, eps=0.5
        )
        squares, number = (26.0, 4) if in_stats else (26.0, 3)  # the mean is 4 in both
        sigma = math.sqrt(squares / (number - (std == "sample"))) + 0.5
        assert_close(a, torch.tensor([[-3.0, -1.0, 4.0]]) / sigma)
        assert_close(a_y, torch.zeros(1))

    def test_3_it_is_trls_way_of_scaling(self) -> None:
        rewards = torch.randn(5, 6, generator=Generator().manual_seed(0))
        a, _ = group_advantages(rewards, reference_in_stats=False, std="sample")
        assert_close(a, (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4))

    @pytest.mark.parametrize("in_stats", [True, False])
    @pytest.mark.parametrize("std", ["population", "sample"])
    def test_a_sample_without_a_score_is_left_out(self, std: Any, in_stats: bool) -> None:
        how = {"reference_in_stats": in_stats, "std": std}
        reference = torch.tensor([0.5])
        a, a_y = group_advantages(torch.tensor([[1.0, math.nan, 3.0, math.nan, -2.0]]), reference, **how)
        fewer, fewer_y = group_advantages(torch.tensor([[1.0, 3.0, -2.0]]), reference, **how)
        assert_close(a[:, [0, 2, 4]], fewer)
        assert_close(a_y, fewer_y)
        assert not a[:, [1, 3]].any()

    def test_one_score_or_none(self) -> None:
        rewards = torch.tensor([[math.nan, math.nan], [math.nan, 1.0]])
        for std in ("population", "sample"):
            a, a_y = group_advantages(rewards, torch.zeros(2), std=std, reference_in_stats=False)
            assert not torch.cat([a.flatten(), a_y]).any()
        a, a_y = group_advantages(rewards, torch.zeros(2), eps=0)
        assert_close(a, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
        assert_close(a_y, torch.tensor([0.0, -1.0]))

    @given(
        st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=8),
        st.floats(0.1, 50),
        st.floats(-20, 20),
        st.sampled_from([True, False]),
        st.sampled_from(["population", "sample"]),
    )
    def test_5_neither_scale_nor_shift_matters(
        self, values: list[float], scale: float, shift: float, in_stats: bool, std: Any
    ) -> None:
        rewards = torch.tensor([values[1:]], dtype=torch.float64)
        reference = torch.tensor(values[:1], dtype=torch.float64)
        how = {"reference_in_stats": in_stats, "std": std, "eps": 0}
        everyone = torch.cat([rewards[0], reference]) if in_stats else rewards[0]
        if float(everyone.max() - everyone.min()) < 1e-3:
            return
        one = group_advantages(rewards, reference, **how)
        other = group_advantages(scale * rewards + shift, scale * reference + shift, **how)
        assert_close(one, other, atol=1e-8, rtol=1e-8)

    @given(st.integers(2, 9), st.integers(0, 99), st.sampled_from([True, False]))
    def test_those_that_count_sum_to_nothing(self, size: int, seed: int, in_stats: bool) -> None:
        draw = Generator().manual_seed(seed)
        rewards = torch.randint(-1, 2, (4, size), generator=draw).double()
        rewards[0, 0] = math.nan
        a, a_y = group_advantages(rewards, reference_in_stats=in_stats)
        assert_close(a.sum(1), -a_y if in_stats else torch.zeros_like(a_y), atol=1e-12, rtol=0)

    @pytest.mark.parametrize(("scale", "shift"), [(1e-25, 0.0), (1e30, 0.0), (1.0, -1e7)])
    def test_neither_size_costs_precision(self, scale: float, shift: float) -> None:
        """Squares under or over what float32 holds, and sums rounded to more than the spread."""
        rewards = torch.randint(0, 200, (9, 8), generator=Generator().manual_seed(0)).float()
        found = group_advantages(scale * rewards + shift, torch.full((9,), shift), eps=0)
        expected = group_advantages(rewards.double(), eps=0)
        assert_close([one.double() for one in found], [*expected], atol=2e-6, rtol=1e-5)

    def test_7_nothing_is_differentiated(self) -> None:
        rewards = torch.randn(2, 4).requires_grad_()
        for one in group_advantages(rewards, torch.zeros(2, requires_grad=True)):
            assert not one.requires_grad

    def test_halves_are_computed_in_float32(self) -> None:
        a, a_y = group_advantages(torch.tensor([[1.0, 2.0]]).bfloat16(), torch.tensor([3.0]).bfloat16())
        assert a.dtype == a_y.dtype == torch.float32
        assert_close(a, group_advantages(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]))[0])

    def test_the_objective_has_them_with_its_own_options(self) -> None:
        rewards, reference = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([3.0])
        how = {"reference_in_stats": False, "std": "sample", "eps": 0.3}
        assert_close(
            GroupRelativeAlignment(**how).advantages(rewards, reference), group_advantages(rewards, reference, **how)
        )


class TestTheLoss:
    def test_it_is_the_papers(self) -> None:
        x = drawn(Generator().manual_seed(3))
        out = GroupRelativeAlignment()(**x)
        for part, expected in zip(out.parts.values(), plain(x), strict=True):
            assert float(part) == pytest.approx(expected, abs=1e-12)
        assert [*out.parts] == ["exploration", "imitation", "regulariser"]
        assert float(group_relative_alignment(**x, beta=2.0, lambda_=0.1)) == pytest.approx(
            sum(plain(x, beta=2.0, lambda_=0.1)), abs=1e-12
        )

    @pytest.mark.parametrize("eps", [0, 1e-4])
    @pytest.mark.parametrize("std", ["population", "sample"])
    @pytest.mark.parametrize("in_stats", [True, False])
    def test_1_the_regulariser_only_changes_two_weights(self, in_stats: bool, std: Any, eps: float) -> None:
        x = groups(in_stats=in_stats, std=std, eps=eps)
        loss = group_relative_alignment(**x)
        sample, reference = effective_weights(8, reference_in_stats=in_stats)
        each, each_y = (
            (x[f"{name}_log_probs"] * x[f"{name}_mask"]).sum(1) / x[f"{name}_mask"].sum(1).clamp(min=1)
            for name in ("sample", "reference")
        )
        folded = -(sample * x["advantages"] @ each + reference * x["reference_advantages"] @ each_y) / 3
        assert_close(loss, folded, atol=1e-12, rtol=1e-12)
        assert_close(slopes(loss, x), slopes(folded, x), atol=1e-12, rtol=1e-12)

    @pytest.mark.parametrize("in_stats", [True, False])
    def test_1_folded_computes_just_that(self, in_stats: bool) -> None:
        x = groups(in_stats=in_stats)
        found = [GroupRelativeAlignment(form=form, reference_in_stats=in_stats)(**x) for form in ("paper", "folded")]
        assert [*found[1].parts] == ["samples", "reference"]
        assert_close(found[0].loss, found[1].loss, atol=1e-12, rtol=1e-12)
        assert_close(slopes(found[0].loss, x), slopes(found[1].loss, x), atol=1e-12, rtol=1e-12)
        assert_close(found[0].stats, found[1].stats)

    def test_1_groups_of_other_sizes_fold_by_counts(self) -> None:
        x = groups(prompts=2, size=4)
        group, advantages = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1]), torch.empty(8, dtype=torch.float64)
        rewards, reference = torch.randn(8, dtype=torch.float64), torch.tensor([0.2, -0.1], dtype=torch.float64)
        reference_advantages = torch.empty(2, dtype=torch.float64)
        for y in (0, 1):
            a, a_y = group_advantages(rewards[group == y][None], reference[y : y + 1])
            advantages[group == y], reference_advantages[y] = a[0], a_y[0]
        x |= {"group": group, "advantages": advantages, "reference_advantages": reference_advantages}
        losses = [GroupRelativeAlignment(form=form)(**x).loss for form in ("paper", "folded")]
        assert_close(*losses, atol=1e-12, rtol=1e-12)
        assert_close(slopes(losses[0], x), slopes(losses[1], x), atol=1e-12, rtol=1e-12)

    @pytest.mark.parametrize("clip", [False, True])
    def test_the_term_of_references_completes_a_loss_of_samples_however_groups_are_split(self, clip: bool) -> None:
        x, objective = groups(), GroupRelativeAlignment(clip_negative_reference=clip)
        whole = slopes(objective(**x).loss, x)
        order = torch.randperm(24, generator=Generator().manual_seed(1))
        group = torch.arange(3).repeat_interleave(8)
        loss = torch.zeros((), dtype=torch.float64)
        for rows in order.split(6):
            each = (x["sample_log_probs"] * x["sample_mask"]).sum(1) / x["sample_mask"].sum(1).clamp(min=1)
            counts = torch.bincount(group[rows], minlength=3).double()
            reference = {name: value for name, value in x.items() if name.startswith("reference")}
            term = objective.reference_term(**reference, counts=counts, num_samples=8)
            loss = loss + (term.loss - 1.6 * (x["advantages"] * each)[rows].mean()) / 4
        assert_close(slopes(loss, x), whole, atol=1e-12, rtol=1e-12)

    def test_2_where_all_lose_the_reference_teaches(self) -> None:
        x = groups(prompts=1)
        a, a_y = group_advantages(torch.full((1, 8), -1.0, dtype=torch.float64))
        grao = slopes(GroupRelativeAlignment()(**x | {"advantages": a[0], "reference_advantages": a_y}).loss, x)
        assert all(slope.any() for slope in grao)
        a, _ = group_advantages(torch.full((1, 8), -1.0, dtype=torch.float64), reference_in_stats=False)
        grpo = GroupRelativeAlignment(beta=0, lambda_=0)(**x | {"advantages": a[0], "reference_advantages": a_y})
        assert not any(slope.any() for slope in slopes(grpo.loss, x))

    def test_2_where_all_tie_there_is_no_loss(self) -> None:
        a, a_y = group_advantages(torch.zeros(3, 8, dtype=torch.float64))
        for form in ("paper", "folded"):
            out = GroupRelativeAlignment(form=form)(
                **groups() | {"advantages": a.flatten(), "reference_advantages": a_y}
            )
            assert out.loss == 0

    def test_4_of_imitation_alone_it_is_the_mean_log_likelihood(self) -> None:
        ones = {"advantages": torch.zeros(24).double(), "reference_advantages": torch.ones(3).double()}
        x: dict[str, Any] = groups() | ones
        rows = zip(x["reference_log_probs"], x["reference_mask"], strict=True)
        expected = -torch.stack([row[mask].mean() for row, mask in rows]).mean()
        assert_close(group_relative_alignment(**x, beta=1.0), expected)

    @pytest.mark.parametrize("form", ["paper", "folded"])
    @pytest.mark.parametrize("value", [math.nan, -math.inf, 7.0])
    def test_6_padding_does_not_matter(self, value: float, form: Any) -> None:
        objective, x = GroupRelativeAlignment(form=form), groups()
        expected = objective(**x).loss
        spoilt = dict(x)
        for name in ("sample", "reference"):
            log_probs = x[f"{name}_log_probs"].detach().masked_fill(~x[f"{name}_mask"], value)
            more = torch.full((len(log_probs), 2), value, dtype=torch.float64)
            spoilt[f"{name}_log_probs"] = torch.cat([log_probs, more], 1).requires_grad_()
            spoilt[f"{name}_mask"] = torch.cat([x[f"{name}_mask"], torch.zeros_like(more).bool()], 1)
        loss = objective(**spoilt).loss
        assert_close(loss, expected)
        for name, slope, before in zip(("sample", "reference"), slopes(loss, spoilt), slopes(expected, x), strict=True):
            assert not slope[~spoilt[f"{name}_mask"]].any()
            assert_close(slope[:, :-2], before)

    def test_6_masks_may_be_numbers(self) -> None:
        x = groups()
        whole = {name: value.long() for name, value in x.items() if value.dtype == torch.bool}
        assert_close(GroupRelativeAlignment()(**x | whole).loss, GroupRelativeAlignment()(**x).loss)

    def test_6_the_order_of_samples_does_not_matter(self) -> None:
        x = groups(prompts=1)
        order = torch.randperm(8, generator=Generator().manual_seed(0))
        other = {name: value[order] for name, value in x.items() if len(value) == 8}
        assert_close(group_relative_alignment(**x | other), group_relative_alignment(**x))

    def test_6_an_answer_of_nothing_counts_0(self) -> None:
        x = groups()
        nothing = {name: torch.zeros_like(x[name]) for name in ("sample_mask", "reference_mask")}
        out = GroupRelativeAlignment()(**x | nothing)
        assert not out.loss.any()
        assert all(slope.isfinite().all() for slope in slopes(out.loss, x))

    def test_7_no_gradient_reaches_advantages(self) -> None:
        x = groups()
        leaves = [x[name].requires_grad_() for name in ("advantages", "reference_advantages")]
        for form in ("paper", "folded"):
            loss = GroupRelativeAlignment(form=form)(**x).loss
            assert torch.autograd.grad(loss, leaves, allow_unused=True) == (None, None)

    @pytest.mark.parametrize("form", ["paper", "folded"])
    def test_no_gradient_reaches_a_reference_that_is_worse(self, form: Any) -> None:
        x = groups() | {"reference_advantages": torch.tensor([-0.5, 0.8, -2.0]).double()}
        kept = GroupRelativeAlignment(form=form)(**x)
        clipped = GroupRelativeAlignment(form=form, clip_negative_reference=True)(**x)
        before, after = slopes(kept.loss, x), slopes(clipped.loss, x)
        assert_close(after[0], before[0])
        assert before[1][[0, 2]].any()
        assert not after[1][[0, 2]].any()
        assert_close(after[1][1], before[1][1])
        assert_close(clipped.stats["reference_advantage"], x["reference_advantages"].mean())

    def test_stats_are_over_the_references_that_have_samples(self) -> None:
        x = drawn(Generator().manual_seed(0)) | {"group": torch.tensor([1, 1, 1, 1])}
        stats = GroupRelativeAlignment()(**x).stats
        assert_close(stats["reference_advantage"], x["reference_advantages"][1])
        assert_close(stats["reference_log_prob"], x["reference_log_probs"][1, :2].mean())

    def test_without_samples_there_is_none(self) -> None:
        x = {name: value[:0] for name, value in groups().items()}
        for form in ("paper", "folded"):
            out = GroupRelativeAlignment(form=form)(**x)
            assert out.loss == 0
            assert not any(out.stats.values())

    @pytest.mark.parametrize("form", ["paper", "folded"])
    @pytest.mark.parametrize("name", ["sample_log_probs", "reference_log_probs"])
    def test_precisions_may_differ(self, name: str, form: Any) -> None:
        x, objective = groups(), GroupRelativeAlignment(form=form)
        assert_close(objective(**x | {name: x[name].float()}).loss, objective(**x).loss, atol=1e-6, rtol=1e-6)

    def test_under_autocast_it_is_float32(self) -> None:
        x = {name: value.float() if value.is_floating_point() else value for name, value in groups().items()}
        expected = GroupRelativeAlignment()(**x).loss
        with torch.autocast("cpu", torch.bfloat16):
            found = GroupRelativeAlignment()(**x).loss
        assert found.dtype == torch.float32
        assert_close(found, expected)


def test_what_weights_it_has_in_effect() -> None:
    assert effective_weights(8) == (0.2, 0.575)
    assert effective_weights(8, reference_in_stats=False) == (0.2, 0.5)
    assert effective_weights(4, beta=0, lambda_=0) == (0.25, 0.0)


@pytest.mark.usefixtures("own_messages")
class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "error", "said"),
        [
            (
                {"sample_mask": torch.ones(4, 5)},
                TypeError,
                "sample_mask must be boolean, or 0 and 1",
            ),
            ({"sample_mask": torch.full((4, 5), 2)}, ValueError, "row 0: sample_mask is 2; give 0 and 1"),
            ({"sample_mask": torch.ones(4, 6).bool()}, ValueError, "sample_mask must be shaped like sample_log_probs"),
            (
                {"reference_mask": torch.ones(3, 4).bool()},
                ValueError,
                "reference_mask must be shaped like ref",
            ),
            ({"reference_mask": None}, TypeError, "reference_mask must be a tensor, got NoneType"),
            ({"sample_log_probs": torch.ones(4, 5).long()}, TypeError, "sample_log_probs must be floating point"),
            ({"sample_log_probs": -torch.ones(4, 5, 9)}, ValueError, "not of the vocabulary"),
            ({"advantages": torch.ones(2, 2)}, ValueError, "advantages.flatten()"),
            ({"advantages": torch.full((4,), math.nan)}, ValueError, "row 0: advantages is NaN"),
            ({"reference_advantages": torch.ones(4)}, ValueError, "reference_advantages must have shape (2,)"),
            ({"reference_log_probs": torch.full((2, 4), math.nan)}, ValueError, "row 0: reference_log_probs is NaN"),
            ({"sample_log_probs": torch.full((4, 5), -math.inf)}, ValueError, "row 0: sample_log_probs is infinite"),
            (
                {"group": torch.tensor([0, 1, 2, 0])},
                ValueError,
                "row 2: group is 2, but reference_log_pr",
            ),
            ({"group": torch.tensor([0, 1, -1, 0])}, ValueError, "row 2: group is -1"),
            ({"group": torch.tensor([0, 1])}, ValueError, "group must have shape (4,)"),
            ({"group": torch.ones(4)}, TypeError, "group must hold integers"),
        ],
        ids=str,
    )
    def test_tensors(self, change: dict[str, Any], error: type[Exception], said: str) -> None:
        x = drawn(Generator().manual_seed(0)) | change
        for call in (GroupRelativeAlignment(), GroupRelativeAlignment(form="folded"), group_relative_alignment):
            with pytest.raises(error, match=re.escape(said)):
                call(**x)

    def test_samples_that_are_not_as_many_for_each_reference(self) -> None:
        x = groups(prompts=2, size=4)
        for rows, references in ((7, 2), (8, 0)):
            fewer = {name: value[: references if name.startswith("ref") else rows] for name, value in x.items()}
            with pytest.raises(ValueError, match=f"group is needed: sample_log_probs has {rows} rows"):
                GroupRelativeAlignment()(**fewer)

    @pytest.mark.parametrize("name", ["beta", "lambda_", "eps"])
    @pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
    def test_no_weight_is_negative(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite"):
            GroupRelativeAlignment(**{name: value})  # type: ignore[arg-type]

    def test_unknown_names(self) -> None:
        with pytest.raises(ValueError, match="form must be one of paper, folded, got 'fold'; did you mean 'folded'"):
            GroupRelativeAlignment(form="fold")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="std must be one of population, sample"):
            group_advantages(torch.ones(1, 2), std="bessel")  # type: ignore[arg-type]

    def test_rewards(self) -> None:
        with pytest.raises(ValueError, match=r"rewards has one sample of each prompt, .* or reference_in_stats=True"):
            group_advantages(torch.ones(2, 1), std="sample", reference_in_stats=False)
        group_advantages(torch.ones(2, 1), std="sample")
        with pytest.raises(ValueError, match="rewards has no samples of any prompt"):
            group_advantages(torch.ones(2, 0))
        with pytest.raises(ValueError, match="row 1: rewards is infinite at sample 2"):
            group_advantages(torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, -math.inf]]))
        with pytest.raises(ValueError, match="row 1: reference_rewards is NaN; give each reference a reward"):
            group_advantages(torch.zeros(2, 3), torch.tensor([0.0, math.nan]))
        with pytest.raises(ValueError, match=r"reference_rewards must have shape \(2,\)"):
            group_advantages(torch.zeros(2, 3), torch.zeros(3))
        with pytest.raises(TypeError, match="num_samples must be a whole number"):
            effective_weights(8.0)  # type: ignore[arg-type]
