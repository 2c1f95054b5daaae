"""CLAPS under the stock Seq2SeqTrainer: accumulated, checkpointed in either sense, in bfloat16, and to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.seq2seq import ContrastivePerturbation
from tests.hosts.pairs import FAMILIES, WIDTH, batch, model_of, rows
from tests.hosts.test_seq2seq_trainer import attach, logged, trainer_for, weights

pytestmark = pytest.mark.host


def claps(seed: int = 3, **options: Any) -> ContrastivePerturbation:
    torch.manual_seed(seed)
    return ContrastivePerturbation(WIDTH, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_attached_it_is_what_it_is_when_called(family: str) -> None:
    objective, given = claps(), batch()
    wanted = objective(model_of(family), **given)
    model = model_of(family)
    attach(model, objective)
    torch.testing.assert_close(model(**given).loss, wanted.loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_resumed_run_is_one_that_was_not_stopped(family: str, tmp_path: Path) -> None:
    found = []
    for seed, checkpoint in ((3, None), (4, tmp_path / "3" / "checkpoint-3")):
        model, objective = model_of(family, dropout=0.1), claps(seed)
        saving: dict[str, Any] = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
        trainer = trainer_for(model, tmp_path / str(seed), handle=attach(model, objective, start=1, ramp=3), **saving)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        found.append(torch.cat([weights(model), weights(objective)]))
        parts = [sum(both) for both in zip(logged(trainer, "nll")[1:], logged(trainer, "contrast"), strict=True)]
        assert parts == pytest.approx(logged(trainer, "loss")[1:], abs=1e-3)
    assert torch.equal(*found)


def test_weight_zero_is_bitwise_the_stock_trainer(tmp_path: Path) -> None:
    stock, model = model_of("t5", dropout=0.1), model_of("t5", dropout=0.1)
    trainer_for(stock, tmp_path).train()
    trainer_for(model, tmp_path, handle=attach(model, claps(weight=0.0))).train()
    assert torch.equal(weights(model), weights(stock))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing")  # its new name is younger than the floor
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_and_checkpointed_layers_stay_near(family: str, tmp_path: Path) -> None:
    losses = []
    settings: tuple[dict[str, Any], ...] = ({}, {"gradient_checkpointing": True}, {"bf16": True})
    for options in settings:
        model = model_of(family)
        trainer = trainer_for(model, tmp_path, handle=attach(model, claps()), data=rows(16), **options)
        trainer.train()
        losses.append(torch.tensor(logged(trainer, "contrast")))
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses[2], losses[0], atol=0.1, rtol=0.1)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # which peft calls by its old name
def test_an_adapter_trains_with_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = model_of("t5")
    objective = claps()
    before = weights(objective)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q", "v"], r=2))
    trainer = trainer_for(adapted, tmp_path, handle=attach(adapted, objective), save_strategy="steps", save_steps=4)
    trainer.train()
    assert not torch.equal(weights(objective), before)
    assert (tmp_path / "checkpoint-4" / "kilter_objective.safetensors").is_file()
