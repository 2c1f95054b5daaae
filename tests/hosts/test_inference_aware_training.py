"""Stock trainers of TRL on rewards that know the base model: logged, transformed, and learnt from."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.hosts.trl_models import CHATS, PROMPTS, trainer_for

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]


def trains(completions: list[Any], **_: Any) -> list[float]:
    texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
    return [float(text.count("train")) - 0.01 * len(text) for text in texts]


async def trains_late(completions: list[Any], **columns: Any) -> list[float]:
    return trains(completions, **columns)


def data(prompts: Any) -> Any:
    from datasets import Dataset

    draw = torch.Generator().manual_seed(0)
    base = [(torch.rand(8, generator=draw) - 0.5).tolist() for _ in prompts]
    return Dataset.from_dict({"prompt": prompts, "reference_rewards": base})


@pytest.mark.parametrize(
    ("kind", "reward", "prompts", "options"),
    [
        ("RLOO", trains, PROMPTS, {"beta": 0.1}),
        ("GRPO", trains_late, CHATS, {"beta": 0.1, "scale_rewards": "none"}),
    ],
)
def test_trainers_take_it(tmp_path: Path, kind: str, reward: Any, prompts: Any, options: Any) -> None:
    from kilter.preference import inference_aware_reward

    function = inference_aware_reward(reward, "exp", n=4)
    trainer = trainer_for(kind, tmp_path, function, data(prompts), **options)
    before = [one.detach().clone() for one in trainer.model.parameters()]
    trainer.train()
    logs = [row for row in trainer.state.log_history if "win_rate" in row]
    assert len(logs) == 2
    assert all(0 <= row["win_rate"] <= 1 for row in logs)
    name = reward.__name__
    assert all(0 <= row[f"rewards/{name}/mean"] <= 1 for row in logs)
    assert any(not torch.equal(one, now) for one, now in zip(before, trainer.model.parameters(), strict=True))


def test_what_the_trainer_scores_is_what_we_say(tmp_path: Path) -> None:
    from kilter.preference import calibrate, inference_aware_reward

    rows = data(PROMPTS)
    trainer = trainer_for("RLOO", tmp_path, inference_aware_reward(trains, "identity"), rows)
    texts = ["train train", "rain", "a train"]
    found = trainer._calculate_rewards(list(rows), PROMPTS, texts, [[3], [4], [5]])[:, 0]
    expected = calibrate(torch.tensor(trains(texts)), torch.tensor(list(rows["reference_rewards"])))
    torch.testing.assert_close(found, expected)
