"""The stock Trainer made safe to kill: also after its last step, and where an epoch does not end with the steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback

from kilter.lab import training
from kilter.models.recogniser import Recogniser

pytestmark = pytest.mark.host

ROWS = [
    {
        "id": str(i),
        "audio": np.random.default_rng(i).normal(0, 0.1, 9000 + 800 * i).astype(np.float32),
        "text": "yes no",
    }
    for i in range(5)
]


def train(recogniser: Recogniser, folder: Path, advance: object = lambda done, total: None, **options: object) -> None:
    how = {name: options.pop(name) for name in ("callbacks", "sampler", "loss") if name in options}
    settings: dict = {
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "warm_up_steps": 0,
        "max_grad_norm": 5.0,
        "seed": 0,
        "device": "cpu",
        "precision": "float32",
        "save_steps": 2,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr": 1e-4},
        "remove_unused_columns": False,
    }
    arguments = training.arguments(folder, **{**settings, **options})
    trainer = Trainer(recogniser.model, arguments, train_dataset=ROWS, data_collator=recogniser.collate)
    training.fit(trainer, advance, **how)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Recogniser.small(("yes", "no"), "conv", 8000).save(tmp_path / "fresh")
    return tmp_path / "fresh"


def test_a_training_that_was_killed_after_its_last_step_is_not_trained_again(fresh: Path, tmp_path: Path) -> None:
    first = Recogniser.load(fresh)
    train(first, tmp_path / "work")
    second = Recogniser.load(fresh)
    train(second, tmp_path / "work")
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_training_killed_in_mid_epoch_ends_with_the_same_weights(fresh: Path, tmp_path: Path) -> None:
    whole = Recogniser.load(fresh)
    train(whole, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    killed = Recogniser.load(fresh)
    with pytest.raises(KeyboardInterrupt):
        train(killed, tmp_path / "killed", advance=stop)
    resumed = Recogniser.load(fresh)
    train(resumed, tmp_path / "killed")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_training_that_diverges_says_so(fresh: Path, tmp_path: Path) -> None:
    recogniser = Recogniser.load(fresh)
    with pytest.raises(ValueError, match="diverged"):
        train(recogniser, tmp_path / "work", learning_rate=1e30, max_grad_norm=0.0)


def test_a_training_without_memory_says_what_helps_and_goes_on(fresh: Path, tmp_path: Path) -> None:
    whole = Recogniser.load(fresh)
    train(whole, tmp_path / "whole")

    def full(done: int, total: int) -> None:
        if done == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    said = (
        r"^step 4 of the training in .* does not fit into memory; .*the same command goes on .*--batch-size, which is "
    )
    with pytest.raises(ValueError, match=said):
        train(Recogniser.load(fresh), tmp_path / "work", advance=full)
    resumed = Recogniser.load(fresh)
    train(resumed, tmp_path / "work")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


class Backwards(torch.utils.data.Sampler):
    """The last rows first."""

    def __init__(self) -> None:
        self.asked = 0

    def __len__(self) -> int:
        return len(ROWS)

    def __iter__(self) -> Iterator[int]:
        self.asked += 1
        return iter(range(len(ROWS) - 1, -1, -1))


def test_a_sampler_says_which_rows_are_drawn(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    collate = Recogniser.collate
    monkeypatch.setattr(
        Recogniser, "collate", lambda self, rows: seen.extend(r["id"] for r in rows) or collate(self, rows)
    )
    train(Recogniser.load(fresh), tmp_path / "work", sampler=(sampler := Backwards()))
    assert sampler.asked
    assert seen[:5] == ["4", "3", "2", "1", "0"]


def test_a_training_with_a_sampler_is_resumed_in_its_order(fresh: Path, tmp_path: Path) -> None:
    whole = Recogniser.load(fresh)
    train(whole, tmp_path / "whole", sampler=Backwards())

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Recogniser.load(fresh), tmp_path / "killed", advance=stop, sampler=Backwards())
    resumed = Recogniser.load(fresh)
    train(resumed, tmp_path / "killed", sampler=Backwards())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_loss_of_ones_own_and_callbacks_are_called(fresh: Path, tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(TrainerCallback):
        def on_step_end(self, *args: object, **kwargs: object) -> None:
            heard.append("step")

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        heard.append("loss")
        return outputs["logits"].square().mean()

    plain, other = Recogniser.load(fresh), Recogniser.load(fresh)
    train(plain, tmp_path / "plain")
    train(other, tmp_path / "other", loss=loss, callbacks=[Ear()])
    assert (heard.count("loss"), heard.count("step")) == (4, 4)
    assert any(not torch.equal(a, b) for a, b in zip(plain.model.parameters(), other.model.parameters(), strict=True))


def test_texts_that_the_tokenizer_cannot_spell_are_named(fresh: Path) -> None:
    with pytest.raises(ValueError, match="7: the tokenizer does not know every letter or word of 'yes maybe'"):
        Recogniser.load(fresh).collate([{**ROWS[0], "id": "7", "text": "yes maybe"}])


def test_a_half_precision_checkpoint_is_trained_in_full_precision(fresh: Path, tmp_path: Path) -> None:
    Recogniser.load(fresh).model.to(torch.bfloat16).save_pretrained(fresh)
    assert Recogniser.load(fresh).model.dtype == torch.float32


def test_a_recording_too_short_for_a_frame_is_named(fresh: Path) -> None:
    with pytest.raises(ValueError, match="short: 3 samples at 8000 Hz give the model no frame"):
        Recogniser.load(fresh).collate([ROWS[0], {**ROWS[0], "id": "short", "audio": np.zeros(3, np.float32)}])
