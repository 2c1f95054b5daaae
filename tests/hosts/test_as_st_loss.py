"""The loss of sentence-transformers' own trainer: what the objective is given, and a run that is taken up again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.core import LossOutput, Objective
from kilter.decoding import RankGenLoss, RankGenScorer
from kilter.speech import PeakFirst
from tests.decoding.encoders import TEXTS, scorer

library = pytest.importorskip("sentence_transformers")
pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scorer("bert", prefix_tokens=20, continuation_tokens=20).save_pretrained(tmp_path / "ranker")
    return tmp_path / "ranker"


def load(folder: Path) -> Any:
    return library.SentenceTransformer(str(folder), device="cpu")


def data(names: tuple[str, ...] = ("prefix", "continuation", "generated", "document")) -> Any:
    """Eight rows; texts and one number of a document."""
    from datasets import Dataset

    shifted = {"prefix": 0, "continuation": 1, "generated": 2, "other": 3}
    columns: dict[str, list[Any]] = {
        name: [TEXTS[(i + by) % 4] + " the" * (i // 4) for i in range(8)] for name, by in shifted.items()
    }
    columns |= {"document": [0, 0, 1, 1, 0, 0, 1, 1]}
    columns["label"] = columns["document"]
    return Dataset.from_dict({name: columns[name] for name in names})


def trainer(folder: Path, out: Path, loss: Any = None, by_name: bool = True, rows: Any = None, **options: Any) -> Any:
    from transformers.trainer_callback import PrinterCallback

    from kilter.hosts.sentence_transformers import as_st_loss

    model = load(folder)
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "prompts": {"prefix": "pre ", "continuation": "suffi ", "generated": "suffi "},
    }
    arguments = library.SentenceTransformerTrainingArguments(**settings | options)
    loss = as_st_loss(loss or RankGenLoss(), model)
    made = library.SentenceTransformerTrainer(model, arguments, train_dataset=rows or data(), loss=loss)
    if by_name:
        made.data_collator = loss.by_name(made.data_collator)
    made.remove_callback(PrinterCallback)
    return made


class Spy(Objective):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, prefix: Any, continuation: Any, generated: Any = None, document: Any = None) -> LossOutput:
        self.seen.append({"prefix": prefix, "continuation": continuation, "generated": generated, "document": document})
        half = (prefix * continuation).mean() / 2
        return LossOutput(2 * half, {"one": half, "other": half}, {"size": prefix.detach().norm()})


def in_order(made: Any) -> dict[str, Tensor]:
    """One pass over the data in order, without training."""
    made.model.eval()
    batch = made.data_collator([made.train_dataset[i] for i in range(4)])
    with torch.no_grad():
        loss = made.compute_loss(made.model, {**batch})
    made.loss.objective.seen[-1]["loss"] = loss
    return made.loss.objective.seen[-1]


@pytest.mark.parametrize(
    "names",
    [
        ("prefix", "continuation", "generated", "document"),
        ("document", "generated", "other", "continuation", "prefix"),
    ],
)
def test_columns_come_by_name_in_any_order(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    seen = in_order(trainer(folder, tmp_path / "run", Spy(), rows=data(names)))
    ranker = RankGenScorer.from_pretrained(folder)
    rows = data()[:4]
    assert_close(seen["prefix"], ranker.encode_prefix(rows["prefix"]).detach())
    assert_close(seen["continuation"], ranker.encode_continuation(rows["continuation"]).detach())
    assert_close(seen["generated"], ranker.encode_continuation(rows["generated"]).detach())
    assert seen["document"].tolist() == [0, 0, 1, 1]
    assert_close(seen["loss"], (seen["prefix"] * seen["continuation"]).mean())


def test_without_names_the_order_is_that_of_forward(folder: Path, tmp_path: Path) -> None:
    named = in_order(trainer(folder, tmp_path / "run", Spy()))
    names = ("prefix", "continuation", "generated", "label")
    ordered = in_order(trainer(folder, tmp_path / "run", Spy(), by_name=False, rows=data(names)))
    for name, value in named.items():
        assert torch.equal(ordered[name], value)


def test_what_is_optional_may_be_missing(folder: Path, tmp_path: Path) -> None:
    for by_name in (True, False):
        rows = data(("prefix", "continuation"))
        seen = in_order(trainer(folder, tmp_path / "run", Spy(), by_name=by_name, rows=rows))
        assert seen["generated"] is None
        assert seen["document"] is None


def test_training_lowers_the_loss_and_logs_parts(folder: Path, tmp_path: Path) -> None:
    made = trainer(folder, tmp_path / "run", max_steps=12)
    before = RankGenScorer.from_pretrained(folder).projection.weight.detach().clone()
    made.train()
    losses = [row["loss"] for row in made.state.log_history if "loss" in row]
    assert sum(losses[-3:]) < sum(losses[:3])
    for row in made.state.log_history[:-1]:
        assert row["rankgen"] == pytest.approx(row["loss"], abs=1e-3)
    assert sorted(made.loss.stats) == ["rankgen_generative", "rankgen_inbook"]
    made.save_model(str(tmp_path / "trained"))
    ranker = RankGenScorer.from_pretrained(tmp_path / "trained")
    assert not torch.allclose(ranker.projection.weight, before), "the matrix is part of the model and is trained"
    found = made.model.encode(TEXTS, prompt_name="prefix", convert_to_tensor=True)
    assert_close(ranker.encode_prefix(TEXTS).detach(), found, rtol=0, atol=1e-5)
    card = (tmp_path / "trained" / "README.md").read_text()
    assert "RankGen: Improving Text Generation with Large Ranking Models" in card


def test_a_resumed_run_ends_as_one_that_was_not_stopped(folder: Path, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = trainer(folder, tmp_path / "run", **saving)
    whole.train()
    again = trainer(folder, tmp_path / "again", **saving | {"save_strategy": "no"})
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert again.state.global_step == 4
    for name, value in whole.model.state_dict().items():
        assert_close(again.model.state_dict()[name], value, rtol=0, atol=1e-6)
    checkpoint = RankGenScorer.from_pretrained(tmp_path / "run" / "checkpoint-4")
    assert_close(checkpoint.projection.weight, whole.model[2].linear.weight)


def test_it_is_the_objective_on_vectors_of_a_loop_of_ones_own(folder: Path, tmp_path: Path) -> None:
    """One step of plain gradient descent, dropout off."""
    config = json.loads((folder / "config.json").read_text())
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config | off))
    made = trainer(folder, tmp_path / "run", max_steps=1, optim="sgd", max_grad_norm=0.0, lr_scheduler_type="constant")
    batch: list[Any] = []
    inner = made.data_collator.collator
    made.data_collator.collator = lambda rows: batch.extend(rows) or inner(rows)
    made.train()
    batch = batch[:4]  # the loader reads one batch ahead
    ranker = RankGenScorer.from_pretrained(folder)
    text = {name: [row[name] for row in batch] for name in ("prefix", "continuation", "generated")}
    loss = RankGenLoss()(
        ranker.encode_prefix(text["prefix"]),
        ranker.encode_continuation(text["continuation"]),
        ranker.encode_continuation(text["generated"]),
        torch.tensor([row["label"] for row in batch]),
    ).loss
    loss.backward()
    assert made.state.log_history[0]["loss"] == pytest.approx(loss.item(), abs=1e-3)
    expected = ranker.projection.weight - 1e-2 * ranker.projection.weight.grad
    assert_close(made.model[2].linear.weight, expected.detach(), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path, own_messages: None) -> None:
    from kilter.hosts.sentence_transformers import as_st_loss

    model = load(folder)
    with pytest.raises(TypeError, match="PeakFirst asks for log_probs; sentence-transformers has"):
        as_st_loss(PeakFirst(weight=1.0), model)
    with pytest.raises(TypeError, match="objective must be a kilter Objective, got Linear"):
        as_st_loss(torch.nn.Linear(1, 1), model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be a SentenceTransformer, got Linear"):
        as_st_loss(RankGenLoss(), torch.nn.Linear(1, 1))
    made = trainer(folder, tmp_path / "run", rows=data(("prefix", "other")))
    with pytest.raises(ValueError, match="lacks the columns continuation; it has prefix, other: rename them"):
        made.train()
    made = trainer(folder, tmp_path / "run", by_name=False, rows=data(("prefix", "label")))
    with pytest.raises(ValueError, match="the data has no continuation; RankGenLoss takes text columns prefix"):
        made.train()
    four = data(("prefix", "continuation", "generated", "other"))
    with pytest.raises(ValueError, match="the data has 4 text columns; RankGenLoss takes text columns"):
        trainer(folder, tmp_path / "run", by_name=False, rows=four).train()
