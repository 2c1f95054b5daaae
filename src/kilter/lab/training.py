"""The stock Trainer of transformers, made safe to kill: exact resume from the last whole checkpoint."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from kilter.hosts.transformers import FollowEpochs
from kilter.lab.files import full_disk_said
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
        ddp_timeout=7200,  # the others wait while one process judges
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    if arguments.n_gpu > 1:  # one process drives one GPU; torchrun starts one for each
        arguments._n_gpu = 1
    trainer = Trainer(model, arguments, train_dataset=dataset, data_collator=collate)
    trainer.remove_callback(PrinterCallback)
    for callback in (*callbacks, FollowEpochs(), Keeper(advance)):
        trainer.add_callback(callback)
    last = last_whole(folder)
    with full_disk_said(folder):
        if last and int(last.rpartition("-")[2]) >= steps:  # killed after its last step: nothing is left to train
            model.load_state_dict(type(model).from_pretrained(last, dtype=torch.float32).state_dict())
        else:
            trainer.train(resume_from_checkpoint=last)
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise ValueError(
            f"the training in {folder} diverged (parameters are not finite); lower the learning rate or the weight"
        )


class Keeper(TrainerCallback):
    """Reports progress, and marks checkpoints that are whole."""

    def __init__(self, advance: Advance) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        self.advance(state.global_step, state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Bring every file to the disk, then mark the checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            for file in filter(Path.is_file, folder.rglob("*")):
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            (folder / _WHOLE).touch()


def last_whole(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = sorted(folder.glob(f"checkpoint-*/{_WHOLE}"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    return str(whole[-1].parent) if whole else None
