"""Rewards by their names: of a file, of a module, of a classifier; what is wrong is told in the option's name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kilter.models.rewards import load_reward
from tests.hosts.trl_models import classifier

pytestmark = pytest.mark.host

CODE = """
NUMBER = 3

def short(completions, **columns):
    return [-len(text) for text in completions]

async def late(completions, **columns):
    return [len(text) for text in completions]

def tuned(completions, tone, **columns):
    return tone

def narrow(prompts, completions):
    return []

def broken(completions, **columns):
    return [1 / 0]

async def broken_late(completions, **columns):
    return [1 / 0]

class Kind:
    pass
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path / "mine.py"


def said(reward: Any) -> Any:
    found = reward.function(prompts=["p "], completions=["rain"], completion_ids=[[1]])
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


def test_a_function_of_a_file(mine: Path) -> None:
    found = load_reward("reward", f"{mine}:short")
    assert (said(found), found.place, found.function.__name__) == ([-4.0], f"{mine}:short", "short")
    assert said(load_reward("reward", f"{mine}:late")) == [4.0]
    before = found.digest
    mine.write_text(CODE.replace("-len", "len"))
    assert load_reward("reward", f"{mine}:short").digest != before


def test_a_function_of_a_module(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine.rename(mine.with_name("kilter_test_rewards.py"))
    monkeypatch.syspath_prepend(str(mine.parent))
    found = load_reward("judge", "kilter_test_rewards:short")
    assert (said(found), found.place) == ([-4.0], "kilter_test_rewards:short")
    with pytest.raises(ValueError, match=r"judge: kilter_test_rewards has no 'shrot'; did you mean 'short'\?"):
        load_reward("judge", "kilter_test_rewards:shrot")


def test_columns_are_checked_before_anything_long(mine: Path) -> None:
    assert load_reward("reward", f"{mine}:tuned", columns=["tone"]).function.__name__ == "tuned"
    with pytest.raises(ValueError, match=r"reward: reward tuned takes .*tone"):
        load_reward("reward", f"{mine}:tuned")
    with pytest.raises(ValueError, match=r"judge: reward narrow takes .* let it end in \*\*columns"):
        load_reward("judge", f"{mine}:narrow")


def test_a_classifier(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "judge")
    found = load_reward("judge", str(folder))
    assert found.place == str(folder)
    assert found.function.__name__ == "judge"
    assert len(said(found)) == 1
    assert load_reward("judge", str(folder)).digest == found.digest


@pytest.mark.parametrize("name", ["broken", "broken_late"])
def test_an_exception_names_the_function_and_its_line(mine: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"reward: .*mine.py:{name} raised ZeroDivisionError: .* \(mine.py, line (1|2)\d\)"
    ):
        said(load_reward("reward", f"{mine}:{name}"))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("none.py:f", "reward: none.py: no such file"),
        ("{mine}", "which function"),
        ("{mine}:shrot", "did you mean 'short'"),
        ("{mine}:NUMBER", "is a int, not a function"),
        ("{mine}:Kind", "is a type, not a function"),
        ("no_such_module_at_all:f", "no_such_module_at_all cannot be imported: .*; of a file say FILE.py:FUNCTION"),
        (
            "no/such/folder",
            "reward: no/such/folder: not a folder or hub id of a sequence classifier, nor a function as",
        ),
    ],
)
def test_names_of_nothing(mine: Path, name: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_reward("reward", name.replace("{mine}", str(mine)))


def test_a_classifier_with_more_outputs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives 3 numbers for a text, and a reward is one"):
        load_reward("reward", str(classifier(tmp_path / "judge", labels=3)))


def test_a_model_without_a_head(tmp_path: Path) -> None:
    from tests.own_text import writing_model

    with pytest.raises(ValueError, match=r"reward: .*the head of GPT2ForSequenceClassification is not in the weights"):
        load_reward("reward", str(writing_model(tmp_path / "writer")))
