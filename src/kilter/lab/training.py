"""The stock Trainer of transformers, made safe to kill: exact resume from the last whole checkpoint."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import get_last_checkpoint

from kilter.lab.recipe import Advance

_WHOLE = "whole"
"""Marks a checkpoint whose every file has been written."""


def fit(
    model: PreTrainedModel,
    *,
    dataset: Any,
    collate: Callable[[Sequence[Any]], dict[str, torch.Tensor]],
    folder: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    final_learning_rate: float,
    warm_up_steps: int,
    max_grad_norm: float,
    seed: int,
    device: str,
    precision: str,
    save_steps: int,
    advance: Advance,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Train in place with Adam and a cosine schedule; `folder` keeps checkpoints until the caller removes it."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": final_learning_rate},
        warmup_steps=warm_up_steps,
        weight_decay=0.0,
        max_grad_norm=max_grad_norm,
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=2,
        logging_steps=25,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = Trainer(model, arguments, train_dataset=dataset, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    for callback in (*callbacks, _Keeper(advance)):
        trainer.add_callback(callback)
    try:
        trainer.train(resume_from_checkpoint=_last_whole(folder))
    except Exception as error:  # torch and safetensors say "failed writing file" and the like
        if shutil.disk_usage(folder).free < 1 << 20:
            raise OSError(errno.ENOSPC, "no space left; what was finished is kept, run again", str(folder)) from error
        raise
    history = [row for row in trainer.state.log_history if "loss" in row]
    if not all(row["loss"] == row["loss"] for row in history):
        raise ValueError(f"the loss became NaN in {folder}; lower the learning rate or the weight")


class _Keeper(TrainerCallback):
    """Reports progress, and marks checkpoints that are whole."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.advance(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            for file in folder.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            (folder / _WHOLE).touch()


def _last_whole(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    while (last := get_last_checkpoint(str(folder)) if folder.is_dir() else None) is not None:
        if Path(last, _WHOLE).exists():
            return last
        shutil.rmtree(last)
    return None
