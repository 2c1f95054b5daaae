"""Rewards are asked as TRL asks them: against its own trainer, and in every form that it takes."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kilter.hosts.trl_rewards import ask, check_takes, name_of, reward_function, told_apart
from tests.hosts.trl_models import CHATS, PROMPTS, classifier, trainer_for

pytestmark = pytest.mark.host

TEXTS = ["came back", "late in the rain and all day", ""]
IDS = [[1], [2, 3], [4]]


def short(completions: list[str], tone: list[float], **_: Any) -> list[float | None]:
    return [None if not text else number - len(text) for text, number in zip(completions, tone, strict=True)]


async def late(completions: list[str], tone: list[float], **columns: Any) -> list[float | None]:
    await asyncio.sleep(0)
    return short(completions, tone, **columns)


class Judge:
    async def __call__(self, completions: list[str], **columns: Any) -> list[float | None]:
        return await late(completions, **columns)


def asked(reward: Any, **columns: Any) -> Any:
    function = reward_function(reward)
    return ask(function, PROMPTS, TEXTS, IDS, {"prompt": PROMPTS, "tone": [1.0, 2.0, 3.0], **columns})


@pytest.mark.parametrize("reward", [short, late, partial(short), partial(late), Judge()])
def test_every_kind_of_function_says_the_same(reward: Any) -> None:
    assert asked(reward) == [-8.0, -26.0, None]

    async def inside() -> Any:  # an event loop runs already, as in a notebook
        return asked(reward)

    assert asyncio.run(inside()) == [-8.0, -26.0, None]


def test_all_that_a_trainer_gives_is_given() -> None:
    seen: dict[str, Any] = {}

    def curious(**columns: Any) -> torch.Tensor:
        seen.update(columns)
        columns["log_metric"]("a", 1.0)
        columns["log_extra"]("b", [1, 2, 3])
        return torch.tensor([1.0, torch.nan, 3.0])

    assert asked(curious, solution=["x", "y", "z"]) == [1.0, None, 3.0]
    assert seen["prompts"] == PROMPTS
    assert seen["completions"] == TEXTS
    assert seen["completion_ids"] == IDS
    assert seen["solution"] == ["x", "y", "z"]
    assert seen["trainer_state"].global_step == 0
    assert "prompt" not in seen


def test_names_are_those_of_the_log() -> None:
    assert [name_of(one) for one in (short, partial(short, tone=[]), Judge())] == ["short", "short", "Judge"]
    assert reward_function(short).__name__ == "short"
    assert name_of(nn.Linear(1, 1)) == "Linear"


@pytest.mark.parametrize("chat", [False, True], ids=["texts", "chats"])
@pytest.mark.filterwarnings("ignore")
def test_a_classifier_is_read_as_the_trainer_reads_it(tmp_path: Path, chat: bool) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(classifier(tmp_path / "judge")).eval()
    prompts: Any = CHATS if chat else [f"{prompt} " for prompt in PROMPTS]
    texts: Any = [[{"role": "assistant", "content": text}] for text in TEXTS] if chat else TEXTS
    trainer = trainer_for("RLOO", tmp_path, model, Dataset.from_dict({"prompt": prompts}))
    rows = [{"prompt": prompt} for prompt in prompts]
    expected = trainer._calculate_rewards(rows, prompts, texts, IDS)[:, 0]
    function = reward_function(model.train())
    found = ask(function, prompts, texts, IDS, {"prompt": prompts})
    assert found == pytest.approx(expected.tolist(), abs=1e-6)
    assert expected.unique().numel() == 3
    assert model.training
    assert model.transformer.drop.training
    assert function.__name__ == "judge"


@pytest.mark.filterwarnings("ignore")
def test_a_function_is_asked_by_the_trainer_as_by_us(tmp_path: Path) -> None:
    from datasets import Dataset

    data = Dataset.from_dict({"prompt": PROMPTS, "tone": [1.0, 2.0, 3.0]})
    trainer = trainer_for("GRPO", tmp_path, [short, reward_function(late)], data)
    found = trainer._calculate_rewards(list(data), PROMPTS, TEXTS, IDS)
    torch.testing.assert_close(found[:, 0], found[:, 1], equal_nan=True)
    assert trainer.reward_func_names == ["short", "late"]


class TestBadInput:
    @pytest.mark.parametrize("reward", [None, 3, "a/model", Judge])
    def test_no_reward(self, reward: Any) -> None:
        with pytest.raises(TypeError, match="reward must be a function or a classifier"):
            reward_function(reward)

    def test_a_module_that_is_no_classifier(self) -> None:
        with pytest.raises(TypeError, match="the module Linear has no config"):
            reward_function(nn.Linear(1, 1))

    def test_a_classifier_without_its_tokenizer(self, tmp_path: Path) -> None:
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(classifier(tmp_path / "judge"))
        model.config._name_or_path = ""
        with pytest.raises(ValueError, match="processing_class: the classifier was made"):
            reward_function(model)

    @pytest.mark.parametrize(
        ("said", "error", "match"),
        [
            ([1.0], ValueError, "reward fixed returned 1 numbers for 3 completions"),
            (1.0, TypeError, "reward fixed must return a list of 3 numbers, got 1.0"),
            ("abc", TypeError, "must return a list of 3 numbers"),
            ([1, "high", 2], TypeError, "reward fixed returned 'high' for completion 1"),
        ],
    )
    def test_what_is_no_list_of_numbers(self, said: Any, error: type[Exception], match: str) -> None:
        def fixed(**_: Any) -> Any:
            return said

        with pytest.raises(error, match=match):
            asked(fixed)

    def test_other_arguments(self) -> None:
        def narrow(prompts: list[str], completions: list[str]) -> list[float]:
            return []

        with pytest.raises(TypeError, match=r"reward narrow takes \(prompts.*let it end in \*\*columns"):
            check_takes(narrow, ["prompt", "tone"])
        check_takes(short, ["prompt", "tone"])
        with pytest.raises(TypeError, match="tone"):
            check_takes(short, ["prompt"])


def test_rewards_are_told_apart(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(classifier(tmp_path / "judge"))
    before = told_apart(model)
    assert told_apart(reward_function(model)) == before
    with torch.no_grad():
        model.score.weight += 1
    assert told_apart(model) != before
    assert told_apart(short) == told_apart(partial(short)) == told_apart(reward_function(short)) != told_apart(late)
    assert told_apart(len).startswith("len ")
    assert told_apart(SimpleNamespace.__call__).startswith("__call__")


class Scaled:
    def __init__(self, scale: float) -> None:
        self.scale, self.seen = scale, []

    def __call__(self, completions: list[str], **_: Any) -> list[float]:
        self.seen.append(completions)
        return [self.scale * len(text) for text in completions]


def scaled(scale: float) -> Any:
    return lambda completions, **_: [scale * len(text) for text in completions]


def weighed(completions: list[str], *, scale: float = 1.0, **_: Any) -> list[float]:
    return [scale * len(text) for text in completions]


@pytest.mark.parametrize("made", [Scaled, scaled, lambda scale: partial(weighed, scale=scale)])
def test_what_a_reward_was_made_with_tells_it_apart(made: Any) -> None:
    assert told_apart(made(1.0)) == told_apart(made(1.0)) != told_apart(made(2.0))
    reward = made(1.0)
    reward(["asked"])
    assert told_apart(reward) == told_apart(made(1.0))
