"""The stock Trainer with a handle attached: equal to writing it by hand, logged, scheduled, resumed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.speech import AlignWithPurpose, LowLatency
from tests.hosts.tiny import Tiny

pytestmark = pytest.mark.host


def attach(model: Any, objective: Any = None, **options: Any) -> Any:
    from kilter.hosts.transformers import align_ctc

    return align_ctc(model, objective or AlignWithPurpose(LowLatency()), **{"weight": 2.0} | options)


def trainer_for(
    model: Any, folder: Path, rows: Sequence[Any], *, callbacks: Sequence[Any] = (), kind: Any = None, **options: Any
) -> Any:
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    settings: dict[str, Any] = {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 8,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(str(folder), **settings | options)
    trainer = (kind or Trainer)(model, arguments, train_dataset=rows, eval_dataset=rows[:4])
    trainer.remove_callback(PrinterCallback)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def quiet_start(alignments: torch.Tensor) -> torch.Tensor:
    """Nothing in the first frames."""
    edited = alignments.clone()
    edited[..., :15] = 0
    return edited


FIXED = AlignWithPurpose(quiet_start, temperature=1e-6)
"""Samples the best path, always the same, so that runs that draw in another order can be compared."""


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_equals_an_explicit_override_of_the_trainer(tiny, tmp_path, reduction):
    from transformers import Trainer

    awp = AlignWithPurpose(LowLatency())

    class Explicit(Trainer):
        loss_is_scaled_for_ga = reduction == "sum"

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            lengths = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(-1))
            out = model(**inputs)
            scale = len(out.logits) if reduction == "sum" else 1
            return out.loss + 2.0 * scale * awp(out.logits.log_softmax(-1), lengths).loss

    trained = []
    for kind in (None, Explicit):
        model = tiny(ctc_loss_reduction=reduction)
        if kind is None:
            attach(model, awp)
        trainer = trainer_for(
            model, tmp_path, tiny.rows(), kind=kind, max_steps=3, gradient_accumulation_steps=2, optim="sgd"
        )
        trainer.train()
        trained.append(model.state_dict())
    assert any(not torch.equal(value, tiny().state_dict()[name]) for name, value in trained[0].items())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_accumulated_batches_equal_one_batch(tiny, tmp_path, reduction):
    trained, losses = [], []
    for batch_size, accumulation in ((8, 1), (4, 2), (2, 4), (1, 8)):
        model = tiny(ctc_loss_reduction=reduction)
        handle = attach(model, FIXED)
        trainer = trainer_for(
            model,
            tmp_path,
            tiny.rows(),
            callbacks=[handle],
            max_steps=1,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        (row,) = [row for row in trainer.state.log_history if "loss" in row]
        assert row["awp"] > 0
        assert row["ctc"] + row["awp"] == pytest.approx(row["loss"], rel=1e-5)
        trained.append(model.state_dict())
        losses.append(row)
    for other, weights in zip(losses[1:], trained[1:], strict=True):
        assert losses[0] == pytest.approx(other, rel=1e-5, abs=1e-5)
        for name, value in trained[0].items():
            torch.testing.assert_close(value, weights[name])


def test_a_trainer_built_too_early_is_found_out(tiny, tmp_path):
    """It would multiply a mean by the gradient accumulation: 4 times the step for 2 x 4 as for 8 x 1."""
    model = tiny()
    trainer = trainer_for(model, tmp_path, tiny.rows())
    attach(model)
    with pytest.raises(RuntimeError, match="call align_ctc first, then build the Trainer"):
        trainer.train()


def test_parts_and_stats_are_logged_and_evaluation_is_kept_apart(tiny, tmp_path):
    from transformers import TrainerCallback

    class After(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, float]] = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.seen.append(dict(logs))

    model, after = tiny(), After()
    handle = attach(model)
    trainer = trainer_for(
        model,
        tmp_path,
        tiny.rows(),
        callbacks=[handle, after],
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=2,
        prediction_loss_only=True,
    )
    trainer.train()
    names = {"ctc", "awp", "awp_active", "awp_edited", "objective_weight"}
    for rows in (after.seen, trainer.state.log_history):
        train = [row for row in rows if "loss" in row]
        evaluated = [row for row in rows if "eval_loss" in row]
        assert (len(train), len(evaluated)) == (2, 4)
        assert all(names <= row.keys() for row in train)
        assert not any(names & row.keys() for row in rows if "loss" not in row)
        for row in train:
            assert row["ctc"] + row["awp"] == pytest.approx(row["loss"], rel=1e-5)
            assert row["awp"] > 0
    handle.detach()
    assert trainer.evaluate()["eval_loss"] == evaluated[-1]["eval_loss"]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [2, 2, 2, 2, 2, 2, 2, 2]),
        ({"start": 3}, [0, 0, 0, 2, 2, 2, 2, 2]),
        ({"start": {"step": 3}}, [0, 0, 0, 2, 2, 2, 2, 2]),
        ({"start": {"epoch": 1.0}}, [0, 0, 0, 0, 2, 2, 2, 2]),
        ({"start": {"epoch": 1.5}}, [0, 0, 0, 0, 0, 0, 2, 2]),
        ({"schedule": "linear"}, [2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25]),
        ({"schedule": "linear", "start": 4}, [0, 0, 0, 0, 2, 1.5, 1, 0.5]),
        ({"schedule": "cosine", "start": 4}, [0, 0, 0, 0, 2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5]),
    ],
)
def test_starts_and_schedules(tiny, tmp_path, options, weights):
    from kilter.hosts.transformers import Start

    if isinstance(options.get("start"), dict):
        options = options | {"start": Start(**options["start"])}
    model = tiny("small")
    handle = attach(model, **options)
    trainer = trainer_for(model, tmp_path, tiny.rows("small"), callbacks=[handle], max_steps=8)
    for _ in range(2):  # a second training starts afresh
        trainer.train()
        assert logged(trainer, "objective_weight") == pytest.approx(weights)
        assert len(logged(trainer, "awp")) == sum(weight > 0 for weight in weights)


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, [0, 0, 0, 0]),
        ({"start": 2}, [1, 1, 0, 0]),
        ({"schedule": "linear"}, [0, 0.25, 0.5, 0.75]),  # as the objective goes, CTC comes back
    ],
)
def test_ctc_counts_whole_before_the_start_and_again_as_the_weight_falls(tiny, tmp_path, options, shares):
    model = tiny("small")
    handle = attach(model, ctc_weight=0.0, **options)
    seen = []
    before = handle.on_step_begin

    def watch(*args, **kwargs):
        before(*args, **kwargs)
        seen.append(handle.ctc_weight_now)

    handle.on_step_begin = watch
    trainer_for(model, tmp_path, tiny.rows("small"), callbacks=[handle], max_steps=4).train()
    assert seen == pytest.approx(shares)


class Echo:
    """Labels are what the model says, or nothing like it."""

    def __init__(self, tiny: Tiny, *, right: int) -> None:
        from kilter.hosts.transformers import ctc_outputs
        from kilter.speech import ctc_greedy

        rows = tiny.rows("small")
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "labels"}
        heard = [found.tokens for found in ctc_greedy(*ctc_outputs(tiny("small"), batch))]
        assert all(heard)
        said = [tokens if i < right else [t % 10 + 1 for t in tokens] for i, tokens in enumerate(heard)]
        self.rows = [
            row | {"labels": torch.tensor(tokens + [-100] * (8 - len(tokens)))}
            for row, tokens in zip(rows, said, strict=True)
        ]


@pytest.mark.parametrize(("right", "on"), [(8, [False, True, True]), (0, [False, False, False])])
def test_it_starts_when_words_come_out_right(tiny, tmp_path, right, on):
    from kilter.hosts.transformers import Start

    model = tiny("small")
    handle = attach(model, start=Start(word_success=0.9))
    rows = Echo(tiny, right=right).rows
    trainer = trainer_for(model, tmp_path, rows, callbacks=[handle], max_steps=3, learning_rate=0.0)
    trainer.train()
    assert [weight > 0 for weight in logged(trainer, "objective_weight")] == on
    assert logged(trainer, "word_success") == pytest.approx([1.0] if right else [0.0] * 3)


def test_more_errors_than_words_are_no_share_below_zero(tiny, tmp_path):
    from kilter.hosts.transformers import Start

    rows = [row | {"labels": torch.tensor([1, *[-100] * 7])} for row in tiny.rows("small")]
    heard = torch.tensor([len(row["labels"][row["labels"] != -100]) for row in Echo(tiny, right=8).rows])
    assert (heard > 2).any(), "nothing is said beyond the label, the test shows nothing"
    model = tiny("small")
    handle = attach(model, start=Start(word_success=0.9))
    trainer = trainer_for(model, tmp_path, rows, callbacks=[handle], max_steps=2, learning_rate=0.0)
    trainer.train()
    assert handle._words[0] < 0
    assert logged(trainer, "word_success") == [0.0, 0.0]


@pytest.mark.parametrize("options", [{"schedule": "linear", "start": 1}, {"start": "words"}])
def test_a_resumed_run_ends_with_the_same_parameters(tiny, tmp_path, options):
    from kilter.hosts.transformers import Start

    if options["start"] == "words":
        options = {"start": Start(word_success=0.52)}  # passed in the third step, if the first two are remembered
    rows = Echo(tiny, right=6).rows
    ends, histories = [], []
    for resume in (None, str(tmp_path / "checkpoint-2")):
        model = tiny("small", dropout=0.1 if "schedule" in options else 0.0)
        handle = attach(model, **options)
        trainer = trainer_for(
            model, tmp_path, rows, callbacks=[handle], save_strategy="steps", save_steps=2, learning_rate=1e-4
        )
        trainer.train(resume_from_checkpoint=resume)
        ends.append(model.state_dict())
        histories.append(trainer.state.log_history[:-1])  # the last one has times
        assert handle.on
        assert handle.began_at == (1 if "schedule" in options else 3)
    assert histories[0] == histories[1]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_the_state_is_in_the_checkpoint_and_nothing_else_is(tiny, tmp_path):
    import json

    names = {}
    for kind in ("plain", "attached"):
        model = tiny("small")
        callbacks = [attach(model, start=1)] if kind == "attached" else []
        trainer = trainer_for(
            model, tmp_path / kind, tiny.rows("small"), callbacks=callbacks, max_steps=2, save_strategy="steps",
            save_steps=2, restore_callback_states_from_checkpoint=True,
        )  # fmt: skip
        trainer.train()
        folder = tmp_path / kind / "checkpoint-2"
        names[kind] = {file.name for file in folder.iterdir()}
    assert names["plain"] == names["attached"]
    state = json.loads((folder / "trainer_state.json").read_text())["stateful_callbacks"]
    assert state["kilter.align_ctc"] == {"on": True, "began_at": 1, "words": [0.0, 0.0]}
    trainer.train(resume_from_checkpoint=str(folder))  # restoring callbacks' states must not make a second handle
    assert callbacks[0].began_at == 1


@pytest.mark.parametrize("why", ["another model", "detached", "compute_loss_func"])
def test_a_handle_that_has_no_effect_is_found_out(tiny, tmp_path, why):
    model = tiny("small")
    handle = attach(tiny("small") if why == "another model" else model)
    trainer = trainer_for(model, tmp_path, tiny.rows("small"), callbacks=[handle])
    if why == "detached":
        handle.detach()
    if why == "compute_loss_func":
        trainer.compute_loss_func = lambda outputs, labels, num_items_in_batch: outputs.logits.mean()
    with pytest.raises(RuntimeError, match=why):
        trainer.train()


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Dynamo says about transformers' code
@pytest.mark.parametrize("options", [{"bf16": True}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}])
def test_bfloat16_and_compiled(tiny, tmp_path, options):
    losses = []
    for chosen in ({}, options):
        model = tiny()
        handle = attach(model, FIXED)
        trainer = trainer_for(model, tmp_path, tiny.rows(), callbacks=[handle], max_steps=2, **chosen)
        trainer.train()
        losses.append(logged(trainer, "loss"))
        assert all(awp > 0 for awp in logged(trainer, "awp"))
    assert losses[0] == pytest.approx(losses[1], rel=0.05 if "bf16" in options else 1e-6)
    torch._dynamo.reset()
