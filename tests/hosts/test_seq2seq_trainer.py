"""The stock trainers with an objective attached to an encoder–decoder: logged, ramped, accumulated, resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tests.hosts.pairs import FAMILIES, Nearer, model_of, rows

pytestmark = pytest.mark.host


def attach(model: Any, objective: Any = None, **options: Any) -> Any:
    from kilter.hosts.transformers import align_seq2seq

    return align_seq2seq(model, Nearer() if objective is None else objective, **options)


def trainer_for(model: Any, folder: Path, *, handle: Any = None, data: Any = None, **options: Any) -> Any:
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.trainer_callback import PrinterCallback

    settings: dict[str, Any] = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    data = rows() if data is None else data
    made = Seq2SeqTrainingArguments(str(folder), **settings | options)
    trainer = Seq2SeqTrainer(model, made, train_dataset=data, eval_dataset=data[:4])
    trainer.remove_callback(PrinterCallback)
    if handle is not None:
        trainer.add_callback(handle)
    return trainer


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


def weights(model: Any) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in model.state_dict().values()])


def seeded(seed: int = 3, **options: Any) -> Nearer:
    torch.manual_seed(seed)
    return Nearer(**options)


@pytest.mark.parametrize(("options", "objective"), [({}, {"weight": 0.0}), ({"start": 4}, {})])
@pytest.mark.parametrize("family", FAMILIES)
def test_weight_zero_is_bitwise_the_stock_trainer(family: str, options: Any, objective: Any, tmp_path: Path) -> None:
    stock = model_of(family, dropout=0.1)
    trainer_for(stock, tmp_path).train()
    model = model_of(family, dropout=0.1)
    trainer = trainer_for(model, tmp_path, handle=attach(model, Nearer(**objective), **options))
    trainer.train()
    assert torch.equal(weights(model), weights(stock))
    assert not torch.equal(weights(model), weights(model_of(family)))
    assert logged(trainer, "nll") == pytest.approx(logged(trainer, "loss"), abs=1e-4)
    assert logged(trainer, "objective_weight") == [0.0] * 4
    assert not logged(trainer, "contrast")


def test_the_stock_optimiser_trains_the_projection_and_logs_add_up(tmp_path: Path) -> None:
    model, objective = model_of("t5"), seeded()
    before = objective.project.weight.clone()
    trainer = trainer_for(model, tmp_path, handle=attach(model, objective), max_steps=12)
    trainer.train()
    assert (objective.project.weight - before).abs().max() > 0.02
    parts = [sum(both) for both in zip(logged(trainer, "nll"), logged(trainer, "contrast"), strict=True)]
    assert parts == pytest.approx(logged(trainer, "loss"), abs=1e-4)
    assert logged(trainer, "contrast")[-1] < logged(trainer, "contrast")[0]
    assert len(logged(trainer, "height")) == 12
    assert logged(trainer, "objective_weight") == [1.0] * 12


def test_it_starts_late_and_rises(tmp_path: Path) -> None:
    model = model_of("bart")
    handle = attach(model, Nearer(weight=0.5), start=2, ramp=4)
    trainer = trainer_for(model, tmp_path, handle=handle, max_steps=8)
    trainer.train()
    rising = [0, 0, 0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert logged(trainer, "objective_weight") == rising
    assert len(logged(trainer, "contrast")) == 6
    parts = [sum(both) for both in zip(logged(trainer, "nll")[2:], logged(trainer, "contrast"), strict=True)]
    assert parts == pytest.approx(logged(trainer, "loss")[2:], abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_batches_of_four_are_one_of_eight(family: str, tmp_path: Path) -> None:
    data = rows(16)
    for row in data:
        row["labels"] = row["labels"].clamp(min=2)  # equally long, so that means of means are the mean
    plain: dict[str, Any] = {"optim": "sgd", "max_grad_norm": 0, "max_steps": 2, "learning_rate": 0.05}
    trained, losses = [], []
    for size, accumulated in ((8, 1), (4, 2)):
        model = model_of(family)
        trainer = trainer_for(
            model,
            tmp_path,
            handle=attach(model, seeded(), ramp=2),
            data=data,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            **plain,
        )
        trainer.train()
        trained.append(weights(model))
        losses.append([logged(trainer, name) for name in ("loss", "nll", "contrast", "objective_weight")])
    torch.testing.assert_close(*trained, atol=1e-6, rtol=1e-4)
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    assert losses[0][3] == [0.5, 1.0]


def resumed(folder: Path, checkpoint: Path | None, **options: Any) -> tuple[Any, Nearer, Any]:
    model, objective = model_of("t5", dropout=0.1), seeded(3 if checkpoint is None else 4)
    handle = attach(model, objective, start=1, ramp=4)
    saving = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, **options}
    trainer = trainer_for(model, folder, handle=handle, **saving)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return model, objective, trainer


def test_a_resumed_run_is_one_that_was_not_stopped(tmp_path: Path) -> None:
    model, objective, trainer = resumed(tmp_path / "a", None)
    checkpoint = tmp_path / "a" / "checkpoint-3"
    with safe_open(checkpoint / "kilter_objective.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["project.bias", "project.weight"]
    assert json.loads((checkpoint / "kilter_objective.json").read_text())["objective"] == "Nearer"
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "objective" in name]  # noqa: SIM118
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    again, taken_up, further = resumed(tmp_path / "b", moved)
    assert torch.equal(weights(model), weights(again))
    assert torch.equal(weights(objective), weights(taken_up))
    assert [row["objective_weight"] for row in further.state.log_history if "loss" in row] == logged(
        trainer, "objective_weight"
    )
    assert logged(trainer, "contrast")[-3:] == logged(further, "contrast")[-3:]


def test_a_checkpoint_of_something_else_is_said(tmp_path: Path) -> None:
    resumed(tmp_path / "a", None, max_steps=3)
    checkpoint = tmp_path / "a" / "checkpoint-3"
    model = model_of("t5")
    trainer = trainer_for(model, tmp_path / "b", handle=attach(model, Wider()), max_steps=4)
    with pytest.raises(ValueError, match="is of Nearer and does not fit this Wider"):
        trainer.train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "kilter_objective.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"has no kilter_objective\.safetensors"):
        resumed(tmp_path / "b", checkpoint)


class Wider(Nearer):
    """Another one."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.Linear(8, 4)


def test_the_best_model_comes_with_its_projection(tmp_path: Path) -> None:
    _, objective, trainer = resumed(
        tmp_path, None, eval_strategy="steps", eval_steps=3, load_best_model_at_end=True, greater_is_better=True
    )
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-3")  # the worst by its loss
    with safe_open(tmp_path / "checkpoint-3" / "kilter_objective.safetensors", "pt") as file:
        assert torch.equal(objective.project.weight, file.get_tensor("project.weight"))


def test_the_last_model_is_plain_and_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    model = model_of("marian")
    trainer = trainer_for(model, tmp_path, handle=attach(model))
    trainer.train()
    trainer.save_model()
    assert not list(tmp_path.glob("*objective*"))
    loaded, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert torch.equal(weights(loaded), weights(model))
    assert not any(report.values())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")  # its new name is younger than the floor
def test_training_under_autocast_and_checkpointing(tmp_path: Path) -> None:
    model, objective = model_of("t5"), Nearer()
    trainer = trainer_for(model, tmp_path, handle=attach(model, objective), bf16=True, gradient_checkpointing=True)
    trainer.train()
    assert weights(model).isfinite().all()
    assert logged(trainer, "contrast")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor=0.1 makes the Trainer keep the labels back"),
        ({"late": True}, "built before"),
    ],
)
def test_trainers_that_it_cannot_go_with(options: Any, words: str, tmp_path: Path) -> None:
    model = model_of("bart")
    late = options.pop("late", False)
    handle = None if late else attach(model)
    trainer = trainer_for(model, tmp_path, handle=handle, **options)
    if late:
        trainer.add_callback(attach(model))
    with pytest.raises((RuntimeError, ValueError), match=words):
        trainer.train()


def test_a_handle_of_another_model_is_said(tmp_path: Path) -> None:
    trainer = trainer_for(model_of("t5"), tmp_path, handle=attach(model_of("t5")))
    with pytest.raises(RuntimeError, match="hangs on another model"):
        trainer.train()


class Killed(Exception):
    """In the middle of a training."""


def in_recipe(folder: Path, seed: int, killed_at: int | None = None) -> torch.Tensor:
    """Weights of model and objective after a recipe's training."""
    from transformers import Trainer

    from kilter.lab.training import arguments, fit

    def advance(step: int, steps: int) -> None:
        if step == killed_at:
            raise Killed

    model, objective = model_of("marian", dropout=0.1), seeded(seed)
    handle = attach(model, objective)
    made = arguments(
        folder,
        steps=8,
        batch_size=2,
        learning_rate=1e-2,
        warm_up_steps=0,
        seed=1,
        device="cpu",
        precision="float32",
        save_steps=3,
    )
    data: Any = rows()
    fit(Trainer(model, made, train_dataset=data), advance, callbacks=[handle])
    return torch.cat([weights(model), weights(objective)])


def test_it_resumes_in_trainings_of_recipes(tmp_path: Path) -> None:
    from kilter.lab.training import last_whole

    wanted = in_recipe(tmp_path / "whole", 3)
    with pytest.raises(Killed):
        in_recipe(tmp_path / "killed", 3, killed_at=5)
    assert Path(last_whole(tmp_path / "killed") or "", "kilter_objective.safetensors").is_file()
    assert torch.equal(in_recipe(tmp_path / "killed", 4), wanted)
