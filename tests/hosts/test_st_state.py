"""What an objective learns and remembers under sentence-transformers' trainer: trained, saved, taken up, logged."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from kilter.core import LossOutput, Objective
from tests.hosts.learning import Remembering, Scaled
from tests.hosts.small_encoder import DIM, folder_of, load, rows, trainer

pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout."""
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return folder_of(tmp_path_factory.mktemp("still"), **off)


def state(made: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.loss.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5, "per_device_train_batch_size": 3}


def test_a_resumed_run_ends_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    whole = trainer(load(folder), Remembering(), rows(2), tmp_path / "whole", **SAVING)
    before = state(whole)
    whole.train()
    after = state(whole)
    changed = {
        name.split(".")[1] for name in after if name.startswith("obj") and not torch.equal(after[name], before[name])
    }
    assert changed == {"head", "norm", "bank", "pushed"}
    assert after["objective.pushed"] == 3 * 5 - 1, "a last batch of two, each row pushed once"

    checkpoint = tmp_path / "whole" / "checkpoint-2"
    assert json.loads((checkpoint / "objective.json").read_text())["objective"] == "Remembering"
    assert load_file(checkpoint / "objective.safetensors").keys() == whole.loss.objective.state_dict().keys()
    again = trainer(load(folder), Remembering(), rows(2), tmp_path / "again", **SAVING)
    again.train(resume_from_checkpoint=str(checkpoint))
    same(state(again), after)
    moments = [made.optimizer.state_dict()["state"] for made in (whole, again)]
    for one, other in zip(*(found.values() for found in moments), strict=True):
        same(one, other)


def test_the_saved_model_is_an_ordinary_one(folder: Path, tmp_path: Path) -> None:
    made = trainer(load(folder, normalized=True), Remembering(), rows(2), tmp_path / "run", **SAVING)
    made.train()
    made.save_model(str(tmp_path / "saved"))
    made.model.save_pretrained(str(tmp_path / "own"))
    for place in ("saved", "own"):
        assert not [*(tmp_path / place).glob("objective*")]
        kinds = [one["type"] for one in json.loads((tmp_path / place / "modules.json").read_text())]
        assert all(kind.startswith("sentence_transformers.") for kind in kinds)
    made.loss.save_objective(tmp_path / "own")
    other = trainer(load(folder), Remembering(), rows(2), tmp_path / "run").loss
    other.load_objective(tmp_path / "own")
    same(other.objective.state_dict(), made.loss.objective.state_dict())


def test_a_checkpoint_without_its_objective_is_said(folder: Path, tmp_path: Path) -> None:
    trainer(load(folder), Remembering(), rows(2), tmp_path / "run", **SAVING).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    other = trainer(load(folder), Remembering(size=5), rows(2), tmp_path / "again", **SAVING)
    with pytest.raises(ValueError, match="is of Remembering and does not fit this Remembering; resume with"):
        other.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "objective.safetensors").unlink()
    made = trainer(load(folder), Remembering(), rows(2), tmp_path / "again", **SAVING)
    with pytest.warns(UserWarning, match=r"checkpoint-2 has no objective\.safetensors: what Remembering learns"):
        made.train(resume_from_checkpoint=str(checkpoint))


def test_what_keeps_nothing_saves_nothing(folder: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    class Plain(Objective):
        def forward(self, centre: Any) -> LossOutput:
            return LossOutput(centre.square().mean(), {"plain": centre.square().mean()})

    trainer(load(folder), Plain(), rows(1), tmp_path / "run", **SAVING).train()
    assert not [*(tmp_path / "run").rglob("objective*")]
    again = trainer(load(folder), Plain(), rows(1), tmp_path / "again", **SAVING)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert not [one for one in recwarn if "objective" in str(one.message)]


@pytest.mark.parametrize("mini", [None, 1, 3])
def test_steps_of_several_batches_move_the_objective_as_one(still: Path, tmp_path: Path, mini: int | None) -> None:
    """Plain gradient descent; several steps, so that gradients that were not forgotten would show."""
    from kilter.hosts.sentence_transformers import as_st_loss

    if mini is not None:
        pytest.importorskip("sentence_transformers.base.losses")  # an older one has no GradCache for others
    ends = []
    for accumulation, size in ((1, None), (2, mini)):
        model = load(still)
        made = trainer(
            model,
            Scaled(),
            rows(2),
            tmp_path / "run",
            loss=as_st_loss(Scaled(), model, mini_batch_size=size),
            optim="sgd",
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            max_steps=3,
            per_device_train_batch_size=4 // accumulation,
            gradient_accumulation_steps=accumulation,
        )
        made.train()
        ends.append(state(made))
    for name, value in ends[0].items():
        assert_close(ends[1][name], value, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ends[0]["objective.weight"], torch.full((DIM,), 2.0))


def test_statistics_are_logged_apart(folder: Path, tmp_path: Path) -> None:
    how = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 2, "max_steps": 4}
    made = trainer(load(folder), Scaled(), rows(2), tmp_path, **how)
    made.train()
    first, second = (row for row in made.state.log_history if "loss" in row)
    assert first["loss"] == pytest.approx(first["one"] + first["other"], abs=2e-4)
    assert first["stats/calls"] == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert second["stats/calls"] == pytest.approx((5 + 6 + 7 + 8) / 4)
    assert second["stats/large"] == 6.5e6
    calls = len(made.loss.objective.rows)
    made.evaluate()
    found = made.state.log_history[-1]
    assert found["eval_stats/calls"] == pytest.approx(calls + 1.5)
    assert found["eval_loss"] == pytest.approx(found["eval_one"] + found["eval_other"], abs=2e-4)
    assert "stats/calls" not in found


def test_evaluation_changes_nothing(folder: Path, tmp_path: Path) -> None:
    made = trainer(load(folder), Remembering(), rows(2), tmp_path, eval_strategy="steps", eval_steps=1)
    made.train()
    before = state(made)
    found = made.evaluate()
    assert found["eval_loss"] == made.evaluate()["eval_loss"], "nor is anything drawn"
    same(state(made), before)
    pushed = [row["eval_stats/pushed"] for row in made.state.log_history if "eval_stats/pushed" in row]
    assert pushed == [4, 8, 12, 16, 16, 16]


def test_mini_batches_push_a_bank_once_and_change_nothing(still: Path, tmp_path: Path) -> None:
    from kilter.hosts.sentence_transformers import as_st_loss

    pytest.importorskip("sentence_transformers.base.losses")  # an older one has no GradCache for others
    ends = []
    for size in (None, 2):
        model = load(still, normalized=True)
        loss = as_st_loss(Remembering(), model, mini_batch_size=size)
        made = trainer(model, Remembering(), rows(2), tmp_path, loss=loss, optim="sgd")
        made.train()
        ends.append((state(made), [row["both"] for row in made.state.log_history if "loss" in row]))
        made.evaluate()
    assert ends[1][0]["objective.pushed"] == 16
    assert ends[1][1] == pytest.approx(ends[0][1], abs=2e-4)
    for name, value in ends[0][0].items():
        assert_close(ends[1][0][name], value, rtol=1e-3, atol=1e-4)


def test_several_data_sets_share_an_objective_or_have_their_own(folder: Path, tmp_path: Path) -> None:
    from datasets import DatasetDict

    from kilter.hosts.sentence_transformers import as_st_loss

    def made(out: str) -> Any:
        model = load(folder)
        shared = Remembering()
        losses = {
            "one": as_st_loss(shared, model),
            "two": as_st_loss(shared, model),
            "three": as_st_loss(Remembering(), model),
        }
        data = DatasetDict({name: rows(2) for name in losses})
        how = SAVING | {"per_device_train_batch_size": 4, "multi_dataset_batch_sampler": "round_robin"}
        return trainer(model, shared, data, tmp_path / out, loss=losses, **how)

    whole = made("whole")
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    assert {file.name for file in checkpoint.glob("objective*.safetensors")} == {
        "objective.safetensors", "objective-2.safetensors"
    }  # fmt: skip
    again = made("again")
    again.train(resume_from_checkpoint=str(checkpoint))
    for name, loss in whole.loss.items():
        same(again.loss[name].state_dict(), loss.state_dict())


def test_mini_batches_that_cannot_be_are_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kilter.hosts.sentence_transformers import as_st_loss

    with pytest.raises(ValueError, match="mini_batch_size must be"):
        as_st_loss(Scaled(), load(folder), mini_batch_size=0)
    monkeypatch.setitem(sys.modules, "sentence_transformers.base.losses", None)
    with pytest.raises(ModuleNotFoundError, match=r"mini_batch_size needs a newer sentence-transformers than \d"):
        as_st_loss(Scaled(), load(folder), mini_batch_size=2)


def test_the_objective_may_learn_at_a_rate_of_its_own(folder: Path, tmp_path: Path) -> None:
    made = trainer(load(folder), Scaled(), rows(2), tmp_path, learning_rate_mapping={"^objective": 0.5}, warmup_steps=0)
    made.create_optimizer()
    weight, groups = made.loss.objective.weight, made.optimizer.param_groups
    assert [group["lr"] for group in groups if any(one is weight for one in group["params"])] == [0.5]


def test_half_precision(folder: Path, tmp_path: Path) -> None:
    made = trainer(load(folder, normalized=True), Remembering(), rows(2), tmp_path, bf16=True)
    made.train()
    assert all(value.isfinite().all() for value in state(made).values())
    assert made.loss.objective.head.weight.dtype == torch.float32
