"""InfAlign's reward: what a trainer is given, by hand, for functions of every kind; what is wrong is named."""

import asyncio
import inspect
import math
from typing import Any

import pytest
import torch

from kilter.preference import calibrate, inference_aware_reward, reward_transform


def minus_length(completions: list[str], **_: Any) -> list[float | None]:
    """Rewards as a trainer is given them."""
    return [None if text == "?" else -float(len(text)) for text in completions]


async def late(completions: list[str], **columns: Any) -> list[float | None]:
    return minus_length(completions, **columns)


ARGUMENTS = {"reward": lambda: minus_length}

TEXTS = ["a", "bbb", "cccc", "?"]
REFERENCES: list[Any] = [[-3.0, -2.0, -3.0, -9.0], [-3.0, None, math.nan, -9.0], [-3.0], None]
PLACES = [1.0, 0.75, 0.0]
"""By hand: above all; level with the first of two that there are, above the other; below the only one."""


def asked(
    reward: Any = minus_length, transform: Any = "identity", *, references: Any = REFERENCES, **options: Any
) -> Any:
    columns = {"prompts": ["p"] * 4, "completions": TEXTS, "completion_ids": [[1]] * 4}
    logged: dict[str, float] = {}
    function: Any = inference_aware_reward(reward, transform, **options)
    name = options.get("reference", "reference_rewards")
    found: Any = function(**columns, **{name: references}, log_metric=logged.__setitem__)
    return (asyncio.run(found) if inspect.isawaitable(found) else found), logged


@pytest.mark.parametrize("reward", [minus_length, late])
def test_places_by_hand(reward: Any) -> None:
    found, logged = asked(reward)
    assert found == [*PLACES, None]
    assert logged == {"win_rate": pytest.approx(sum(PLACES) / 3)}


def test_it_is_async_if_the_reward_is_and_has_its_name() -> None:
    assert inspect.iscoroutinefunction(inference_aware_reward(late))
    assert not inspect.iscoroutinefunction(inference_aware_reward(minus_length))
    assert inference_aware_reward(late).__name__ == "late"
    assert inference_aware_reward(minus_length).__name__ == "minus_length"


@pytest.mark.parametrize(
    ("transform", "options"),
    [
        ("exp", {}),
        ("exp", {"decoder": "worst_of", "rate": 5.0}),
        ("exp", {"normalize": False, "rate": 2}),
        ("poly", {"n": 2}),
        ("fixed_point", {"beta": 0.3}),
        ("identity", {"decoder": "plain"}),
        ("exp", {"decoder": lambda q: 2 * q}),
    ],
)
def test_the_transform_is_that_of_its_function(transform: Any, options: Any) -> None:
    found, _ = asked(transform=transform, **options)
    expected = reward_transform(torch.tensor(PLACES, dtype=torch.float64), transform, **options)
    assert found[:3] == pytest.approx(expected.tolist(), rel=1e-9)
    assert found[3] is None


def test_the_logarithm_stops_at_half_a_reference() -> None:
    found, _ = asked(transform="log")
    assert found == [pytest.approx(value) for value in (0, math.log(0.75), math.log(1 / 2))] + [None]
    four, _ = asked(transform="log", references=[[0.0] * 4] * 4)
    assert four[:3] == pytest.approx([math.log(1 / 8)] * 3)


def test_exponential_by_hand() -> None:
    found, _ = asked(transform="exp")
    assert found[:3] == pytest.approx([1, math.expm1(7.5) / math.expm1(10), 0])


def test_all_columns_pass_on() -> None:
    seen: dict[str, Any] = {}

    def curious(**columns: Any) -> list[float]:
        seen.update(columns)
        return [0.0, 1.0]

    function = inference_aware_reward(curious, "identity", reference="base")
    state = object()
    asked = {"prompts": ["p"] * 2, "completions": ["a", "b"], "completion_ids": [[1], [2]], "base": [[0.0], [0.0]]}
    assert function(**asked, solution=["x", "y"], trainer_state=state) == [0.5, 1.0]
    assert seen == asked | {"solution": ["x", "y"], "trainer_state": state}


def test_what_is_never_scored_needs_no_references() -> None:
    def silent(completions: list[str], **_: Any) -> list[None]:
        return [None] * len(completions)

    assert asked(silent, references=[None] * 4) == ([None] * 4, {})


def test_scale_of_a_reward_says_nothing() -> None:
    def cubed(completions: list[str], **_: Any) -> list[float | None]:
        return [None if value is None else value**3 for value in minus_length(completions)]

    references = [[-3.0, -2.0, -3.0, -9.0]] * 4
    assert asked(cubed, references=[[value**3 for value in row] for row in references]) == asked(references=references)


def test_places_are_those_of_calibrate() -> None:
    generator = torch.Generator().manual_seed(0)
    references = torch.randint(-9, 0, (4, 50), generator=generator).double()
    found, _ = asked(references=references.tolist())
    expected = calibrate(torch.tensor([-1.0, -3.0, -4.0], dtype=torch.float64), references[:3])
    assert found[:3] == pytest.approx(expected.tolist())


class TestBadInput:
    def test_no_column(self) -> None:
        function = inference_aware_reward(minus_length)
        with pytest.raises(ValueError, match=r"no column 'reference_rewards'; kilter.hosts.trl.add_reference_rewards"):
            function(prompts=["p"], completions=["a"], completion_ids=[[1]])

    @pytest.mark.parametrize("empty", [None, [], [None], [math.nan, None]])
    def test_an_empty_row(self, empty: Any) -> None:
        with pytest.raises(ValueError, match="row 1 of column 'reference_rewards' is empty though"):
            asked(references=[[1.0], empty, [1.0], None])

    @pytest.mark.parametrize("cell", ["12", 3.0, [[1.0]], ["a"]])
    def test_no_list_of_numbers(self, cell: Any) -> None:
        with pytest.raises(TypeError, match="reference: row 1 of column 'reference_rewards' is no list of numbers"):
            asked(references=[[1.0], cell, [1.0], None])

    def test_a_density_that_is_none(self) -> None:
        with pytest.raises(ValueError, match=r"integrates to 0\.5"):
            inference_aware_reward(minus_length, "identity", decoder=lambda q: q)

    def test_another_number_of_rows(self) -> None:
        with pytest.raises(ValueError, match="column 'reference_rewards' has 2 rows for 4 completions"):
            asked(references=[[1.0], [1.0]])

    def test_another_number_of_rewards(self) -> None:
        with pytest.raises(ValueError, match="reward fixed returned 2 numbers for 4 completions"):
            asked(fixed)

    def test_the_fixed_point_needs_beta(self) -> None:
        with pytest.raises(ValueError, match="beta"):
            inference_aware_reward(minus_length, "fixed_point")

    def test_a_name_of_a_model(self) -> None:
        with pytest.raises(TypeError, match="load it first"):
            inference_aware_reward("some/model")

    def test_no_name_of_a_column(self) -> None:
        with pytest.raises(TypeError, match="reference must be the name of a column"):
            inference_aware_reward(minus_length, reference="")


def fixed(**_: Any) -> list[float]:
    return [1.0, 2.0]
