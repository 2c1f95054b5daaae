"""The offline regression: by hand, where it is zero, the constant of the published code, bad input."""

import math
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.preference import QuantileRewardRegression, log_partition, reward_transform
from tests.conformance.case import Case, Fixed

ARGUMENTS = {
    "policy_log_probs": lambda: torch.tensor([-3.0, -2.5, -9.0, -1.0]),
    "base_log_probs": lambda: torch.tensor([-3.0, -3.0, -8.0, -2.0]),
    "calibrated_rewards": lambda: torch.tensor([0.1, 0.9, 0.5, 1.0]),
}

SKIP = {
    "padding_does_not_matter": "sums over tokens: nothing is padded",
    "nan_in_the_padding_does_not_matter": "sums over tokens: nothing is padded",
}


def drawn(generator: Generator) -> dict[str, Any]:
    policy, base = (-10 * torch.rand(4, generator=generator, dtype=torch.float64) for _ in range(2))
    u = torch.rand(4, generator=generator, dtype=torch.float64)
    return {"policy_log_probs": policy, "base_log_probs": base, "calibrated_rewards": u}


def ratio_alone(objective: Any, inputs: dict[str, Any]) -> Fixed:
    """What has no gradient enters as whole numbers, in millionths."""

    def loss(
        policy_log_probs: Float[Tensor, " batch"],
        base_log_probs: Float[Tensor, " batch"],
        calibrated_rewards: Float[Tensor, " batch"],
    ) -> Tensor:
        fixed = (one.double() / 1e6 for one in (base_log_probs, calibrated_rewards))
        return objective(policy_log_probs, *fixed).loss

    whole = {name: (1e6 * inputs[name]).long() for name in ("base_log_probs", "calibrated_rewards")}
    return loss, {"policy_log_probs": inputs["policy_log_probs"], **whole}


def cases() -> list[Case]:
    return [
        Case(QuantileRewardRegression, drawn, ratio_alone, SKIP),
        Case(lambda: QuantileRewardRegression(transform="log", compat="qrpo"), drawn, ratio_alone, SKIP, "log"),
        Case(lambda: QuantileRewardRegression(transform="poly", decoder="worst_of"), drawn, ratio_alone, SKIP, "worst"),
    ]


@pytest.mark.parametrize("transform", ["exp", "identity", "poly", "log"])
@pytest.mark.parametrize("decoder", ["best_of", "worst_of"])
def test_by_hand(transform: Any, decoder: Any) -> None:
    given, beta = drawn(Generator().manual_seed(0)), 0.3
    total = 0.0
    for policy, base, u in zip(*(given[name].tolist() for name in given), strict=True):
        phi = float(reward_transform(torch.tensor(u, dtype=torch.float64), transform, decoder=decoder, floor=1 / 20))
        total += (phi - beta * log_partition(transform, beta, decoder=decoder) - beta * (policy - base)) ** 2
    out = QuantileRewardRegression(beta=beta, transform=transform, decoder=decoder, num_ref=10)(**given)
    assert float(out.loss) == pytest.approx(total / 4)
    assert set(out.parts) == {"regression"}
    assert float(out.stats["log_ratio"]) == pytest.approx(
        float((given["policy_log_probs"] - given["base_log_probs"]).mean())
    )


@pytest.mark.parametrize("transform", ["exp", "identity", "poly", "log", "fixed_point"])
def test_it_is_zero_at_the_optimum(transform: Any) -> None:
    u = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    log_density = reward_transform(u, transform, beta=0.2) / 0.2 - log_partition(transform, 0.2)
    base = -20 * torch.rand(100, generator=Generator().manual_seed(0), dtype=torch.float64)
    out = QuantileRewardRegression(beta=0.2, transform=transform)(base + log_density, base, u)
    assert float(out.loss) < 1e-18


def test_it_ends_at_the_tilted_base() -> None:
    """Trained on all answers at once, a table of 200 answers without ties."""
    u, beta = (torch.arange(200, dtype=torch.float64) + 0.5) / 200, 0.5
    base = torch.full_like(u, 1 / 200).log()
    logits = base.clone().requires_grad_()
    loss = QuantileRewardRegression(beta=beta)
    optimiser = torch.optim.Adam([logits], 0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss(logits.log_softmax(-1), base, u).loss.backward()
        optimiser.step()
    expected = (base + reward_transform(u) / beta).softmax(-1)
    assert float((logits.detach().softmax(-1) - expected).abs().sum() / 2) < 1e-3


@pytest.mark.parametrize("beta", [0.05, 0.02, 0.01])
def test_the_published_constant_is_right_for_small_beta(beta: float) -> None:
    theirs = QuantileRewardRegression(beta=beta, transform="identity", compat="qrpo")
    ours = QuantileRewardRegression(beta=beta, transform="identity")
    assert theirs.log_z == pytest.approx(ours.log_z, abs=1e-6)
    given = {name: one.float() for name, one in drawn(Generator().manual_seed(0)).items()}
    assert_close(theirs(**given).loss, ours(**given).loss, rtol=0, atol=1e-6)


def test_the_published_constant_is_wrong_for_large_beta() -> None:
    theirs = QuantileRewardRegression(beta=1, transform="identity", compat="qrpo")
    ours = QuantileRewardRegression(beta=1, transform="identity")
    assert theirs.log_z - ours.log_z == pytest.approx(1 - math.log(math.e - 1))
    logs = (QuantileRewardRegression(beta=1, transform="log", compat=one).log_z for one in ("qrpo", None))
    assert len({*logs}) == 1


def test_the_gradient_goes_to_the_policy_alone() -> None:
    given = {name: one.requires_grad_() for name, one in drawn(Generator().manual_seed(0)).items()}
    QuantileRewardRegression()(**given).loss.backward()
    assert [one.grad is not None for one in given.values()] == [True, False, False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": 0}, "beta must be positive"),
        ({"transform": "cube"}, "transform must be one of"),
        ({"decoder": "best"}, "decoder='best' is unknown"),
        ({"compat": "qrp"}, "compat must be one of qrpo"),
        ({"compat": "qrpo"}, "compat='qrpo' has no transform='exp'"),
        ({"num_ref": 0}, "num_ref must be at least 1"),
        ({"transform": "fixed_point", "n": 64, "beta": 0.01}, "does not converge"),
    ],
)
def test_options_are_named(options: dict[str, Any], said: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=said):
        QuantileRewardRegression(**options)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("policy_log_probs", torch.ones(4, 2), "policy_log_probs must be .*sum over the tokens"),
        ("base_log_probs", torch.ones(3), r"base_log_probs must have shape \(4,\)"),
        ("calibrated_rewards", torch.full((4,), 1.5), "row 0: calibrated_rewards is 1.5, not within"),
        ("calibrated_rewards", torch.full((4,), torch.nan), "row 0: calibrated_rewards is nan"),
        ("policy_log_probs", torch.full((4,), -torch.inf), "row 0: policy_log_probs is infinite"),
    ],
)
def test_bad_input_is_named(name: str, value: Tensor, said: str, own_messages: None) -> None:
    given = {key: make() for key, make in ARGUMENTS.items()}
    with pytest.raises(ValueError, match=said):
        QuantileRewardRegression()(**given | {name: value})
