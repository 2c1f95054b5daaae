"""Positions with losses of their own under the stock Trainer: in the loss, in the log, under what goes around it."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.testing import assert_close

from kilter.core.positions import PositionStep, PositionTerm
from kilter.pretraining import SeqPE, attach
from tests.hosts.positioned import model_of
from tests.hosts.test_trainer import logged, trainer_for

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
]
pytest.importorskip("transformers")

IDS = torch.randint(3, 50, (8, 12), generator=torch.Generator().manual_seed(0))
ROWS = [{"input_ids": row, "labels": row} for row in IDS]
PARTS = {"position_contrast", "position_transfer"}


def ragged() -> list[dict[str, Any]]:
    """Rows of which not all tokens count."""
    rows = [{"input_ids": row, "labels": row.clone()} for row in IDS]
    for place, row in enumerate(rows):
        row["labels"][: place + 1] = -100
    return rows


class Shifting(PositionTerm):
    """Positions that move at random in training, with a loss of 3 that depends on nothing else."""

    def fit(self, sizes: Any) -> None:
        super().fit(sizes)
        self.table = torch.nn.Embedding(64, sizes.width)

    def encode(self, positions: torch.Tensor) -> torch.Tensor:
        return self.table(positions)

    def forward(self, positions: torch.Tensor, batch: int = 1) -> PositionStep:
        moved = positions + torch.randint(0, 40, (batch, 1))
        return PositionStep(self.table.weight, moved, {"three": self.table.weight.sum() * 0 + 3.0})


def model_with(kind: str = "gpt2", **options: Any) -> Any:
    model = model_of(kind)
    model.config.use_cache = False
    torch.manual_seed(1)
    settings: dict[str, Any] = {"width": 16, "heads": 2, "shift_rate": 0.0}
    return attach(model, SeqPE(200, **settings | options)).train()


def without_dropout(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_parts_are_in_the_loss_of_training_alone(kind: str) -> None:
    model = without_dropout(model_with(kind))
    torch.manual_seed(0)
    loss = model(IDS, labels=IDS).loss
    parts = dict(model.kilter_parts)
    assert parts.keys() == PARTS
    assert all(part > 0 and not part.requires_grad for part in parts.values())
    plain = model.eval()(IDS, labels=IDS).loss
    assert not model.kilter_parts
    assert_close(loss, plain + sum(parts.values()))
    model.train()
    with torch.no_grad():
        assert_close(model(IDS, labels=IDS).loss, plain)
    model(IDS)  # whoever has a loss of their own adds them
    assert all(part.requires_grad for part in model.kilter_parts.values())


def test_a_step_counts_the_same_in_several_batches(tmp_path: Path) -> None:
    """With the Trainer's count of tokens, the parts of a step add up to one mean."""
    model = model_of("gpt2")
    attach(model, Shifting())
    from kilter.hosts.transformers import LogPositionParts

    for size, accumulation in ((4, 1), (2, 2), (1, 4)):
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer = trainer_for(model, tmp_path, ragged(), callbacks=[LogPositionParts()], max_steps=2, **options)
        trainer.train()
        assert logged(trainer, "three") == pytest.approx([3.0, 3.0])


def test_accumulated_gradients_are_those_of_the_whole(tmp_path: Path) -> None:
    found = []
    for size, accumulation in ((4, 1), (2, 2)):
        model = without_dropout(model_with(contrast_weight=0, transfer_weight=0))
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
        trainer_for(model, tmp_path, ragged(), max_steps=2, optim="sgd", **options).train()
        found.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert_close(found[0], found[1], atol=2e-5, rtol=1e-3)


def test_the_log_has_the_parts_and_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    from kilter.hosts.transformers import LogPositionParts

    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = trainer_for(model_with(shift_rate=0.5), tmp_path / "a", ROWS, callbacks=[LogPositionParts()], **options)
    whole.train()
    assert len(logged(whole, "position_contrast")) == 6
    assert 0 < len(logged(whole, "position_transfer")) < 6  # not where sequences are shifted
    again = trainer_for(model_with(shift_rate=0.5), tmp_path / "a", ROWS, callbacks=[LogPositionParts()], **options)
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    assert logged(again, "loss") == logged(whole, "loss")
    assert logged(again, "position_contrast") == logged(whole, "position_contrast")
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    last = again.evaluate()
    assert "eval_loss" in last


def test_the_trainer_prints_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As the page has it, and of a callback that is put first."""
    from transformers import Trainer, TrainingArguments

    from kilter.hosts.transformers import LogPositionParts

    settings: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "report_to": "none", "use_cpu": True}
    settings |= {"disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}
    arguments, rows, parts = TrainingArguments(str(tmp_path), **settings), cast("Any", ROWS), LogPositionParts()
    Trainer(model_with(), arguments, train_dataset=rows, callbacks=[parts]).train()
    assert "'position_contrast': " in capsys.readouterr().out
    first = Trainer(model_with(), arguments, train_dataset=rows)
    first.callback_handler.callbacks.insert(0, LogPositionParts())
    first.train()
    assert "'position_contrast': " in capsys.readouterr().out


def test_a_loaded_model_takes_a_run_up(tmp_path: Path) -> None:
    from kilter.hosts.transformers import load

    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "weight_decay": 0.1}
    whole = trainer_for(model_with(), tmp_path, ROWS, **options)
    whole.train()
    checkpoint = tmp_path / "checkpoint-2"
    again = trainer_for(load(checkpoint), tmp_path, ROWS, **options)
    again.train(resume_from_checkpoint=str(checkpoint))
    assert logged(again, "loss") == logged(whole, "loss")
    for one, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("apply", ["attn_scalar", "input_add"])
def test_checkpointed_layers_see_the_same_positions(kind: str, apply: str) -> None:
    """Two passes before the backward one, each with other shifts."""
    found = []
    for checkpointing in (False, True):
        model = without_dropout(model_with(kind, apply=apply, shift_rate=1.0))
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        (model(IDS, labels=IDS).loss + model(IDS[:, :9], labels=IDS[:, :9]).loss).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
    for name, gradient in found[0].items():
        assert gradient is not None, name
        assert_close(gradient, found[1][name])


def test_every_parameter_has_a_gradient_in_shifted_steps_too() -> None:
    """So that DistributedDataParallel needs no search for unused ones."""
    for kind in ("gpt2", "llama"):
        for rate in (0.0, 1.0):
            for apply in ("attn_scalar", "attn_mul", "attn_add", "input_add"):
                for qk_map in ("single", "multi", "none"):
                    model = model_with(kind, shift_rate=rate, apply=apply, qk_map=qk_map)
                    model(IDS, labels=IDS).loss.backward()
                    lacking = [name for name, w in model.named_parameters() if w.requires_grad and w.grad is None]
                    assert not lacking


def test_autocast() -> None:
    model = model_with("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(IDS, labels=IDS).loss
    loss.backward()
    assert loss.isfinite()
    assert all(part.dtype == torch.float32 for part in model.kilter_parts.values())


def test_an_adapter_of_peft_goes_around_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = model_with("llama")
    # the term's own layers are named by their place, so that an adapter of the model's leaves them alone
    settings = peft.LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["kilter_positions"])
    wrapped = peft.get_peft_model(model, settings).train()
    wrapped(input_ids=IDS, labels=IDS).loss.backward()
    assert model.kilter_parts.keys() == PARTS
    assert any(w.grad is not None for name, w in wrapped.named_parameters() if "kilter_positions" in name)
    assert wrapped.generate(input_ids=IDS, max_new_tokens=3, do_sample=False).shape == (8, 15)
    late = attach(peft.get_peft_model(model_of("llama"), peft.LoraConfig(target_modules=["q_proj"])), SeqPE(200))
    assert late(input_ids=IDS, labels=IDS).loss.isfinite()


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore")  # what Dynamo says about transformers' code
@pytest.mark.parametrize(("kind", "apply"), [("gpt2", "attn_scalar"), ("llama", "attn_mul"), ("llama", "input_add")])
def test_it_compiles(kind: str, apply: str) -> None:
    plain = without_dropout(model_with(kind, apply=apply))
    model = copy.deepcopy(plain)
    compiled = torch.compile(model, backend="aot_eager")
    for mode in (True, False):
        plain.train(mode), model.train(mode)
        torch.manual_seed(0)
        with torch.set_grad_enabled(mode):
            wanted = plain(input_ids=IDS, labels=IDS)
        torch.manual_seed(0)
        with torch.set_grad_enabled(mode):
            said = compiled(input_ids=IDS, labels=IDS)
        assert_close(said.logits, wanted.logits, atol=1e-4, rtol=1e-4)
        assert_close(said.loss, wanted.loss, atol=1e-4, rtol=1e-4)
    torch._dynamo.reset()
