"""The stock trainers, made safe to kill: exact resume from the last whole checkpoint.

For any trainer of transformers' kind; those of sentence-transformers and TRL are. The task makes the trainer with its
own data and loss, from `arguments`; `fit` resumes, keeps, reports and checks.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from kilter.hosts.position_models import saved_with_positions
from kilter.hosts.trainers import use_sampler
from kilter.hosts.transformers import FollowEpochs, load
from kilter.lab.files import full_disk_said
from kilter.lab.recipe import Advance
from kilter.models.devices import out_of_memory

_WHOLE = "whole"
"""Marks a checkpoint whose every file has been written."""


def arguments(
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    warm_up_steps: int,
    seed: int,
    device: str,
    precision: str,
    save_steps: int,
    kind: type[TrainingArguments] = TrainingArguments,
    **more: Any,
) -> Any:
    """What every training here has in common, as arguments of a trainer.

    Args:
        folder: for checkpoints, until the caller removes it.
        steps: optimiser steps.
        batch_size: rows in a batch of one process.
        learning_rate: after the warm-up.
        warm_up_steps: over which it rises.
        seed: of the order and of dropout.
        device: cpu, cuda or mps.
        precision: float32, bf16 or fp16.
        save_steps: steps between checkpoints.
        kind: the host's own arguments, such as `SentenceTransformerTrainingArguments`.
        more: what else it takes, such as the schedule.
    """
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup_steps": warm_up_steps,
        "weight_decay": 0.0,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 2,
        "logging_steps": 25,
        "ddp_timeout": 7200,  # the others wait while one process judges
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    made = kind(**{**given, **more})
    if made.n_gpu > 1:  # one process drives one GPU; torchrun starts one for each
        made._n_gpu = 1
    return made


def fit(
    trainer: Trainer,
    advance: Advance,
    *,
    callbacks: Sequence[Any] = (),
    sampler: Any = None,
    loss: Callable[..., Any] | None = None,
) -> None:
    """Train the trainer's model in place, from its last whole checkpoint if there is one.

    Args:
        trainer: of transformers' kind, made with `arguments`.
        advance: told of every step.
        callbacks: beside those of the trainer, or what has their methods.
        sampler: of the training rows, instead of the trainer's; one that is the same each time it is made resumes.
        loss: instead of the model's, as `compute_loss_func` of the trainer.

    Raises:
        ValueError: the training diverged, or a batch does not fit into memory.
        OSError: the disk is full; what was finished is kept.
    """
    folder = Path(trainer.args.output_dir)  # type: ignore[arg-type]
    trainer.remove_callback(PrinterCallback)
    for callback in (*callbacks, FollowEpochs(), Keeper(advance)):
        trainer.add_callback(callback)
    if sampler is not None:
        use_sampler(trainer, sampler)
    if loss is not None:
        trainer.compute_loss_func = loss
    model: Any = trainer.model
    last = last_whole(folder)
    added = hasattr(model, "peft_config")  # of which the trainer keeps and loads what was added alone
    if hasattr(type(model), "from_pretrained") and not added:
        # the trainer's own way knows nothing of weights that are renamed when they are saved, as a ViT's are
        trainer._load_from_checkpoint = _from_checkpoint.__get__(trainer)
    with full_disk_said(folder):
        if last and int(last.rpartition("-")[2]) >= trainer.args.max_steps:  # killed after its last step
            if added:
                trainer._load_from_checkpoint(last)
            else:
                model.load_state_dict(_weights(model, last))
        else:
            try:
                trainer.train(resume_from_checkpoint=last)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise ValueError(_too_large(trainer, folder)) from error
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise ValueError(
            f"the training in {folder} diverged (parameters are not finite); lower the learning rate or the weight"
        )


def _too_large(trainer: Trainer, folder: Path) -> str:
    kept = "nothing is lost: the same command goes on from its last checkpoint" if last_whole(folder) else "run again"
    return (
        f"step {trainer.state.global_step + 1} of the training in {folder} does not fit into memory; free some, choose "
        f"another --device or --precision, and {kept}; or lower --batch-size, which is another experiment in a folder "
        "of its own (the same batch in several steps is gradient_accumulation_steps of a trainer of your own)"
    )


def _from_checkpoint(self: Trainer, folder: str, model: Any = None) -> None:
    into: Any = self.model if model is None else model
    into.load_state_dict(_weights(into, folder))


def _weights(model: Any, folder: str) -> Any:
    """Of a checkpoint, as the model's own library loads it."""
    if saved_with_positions(folder):
        return load(folder, dtype=torch.float32).state_dict()
    if hasattr(type(model), "from_pretrained"):
        return type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
    if not Path(folder, "modules.json").is_file():  # any other module of torch
        return load_file(Path(folder, "model.safetensors"))
    return type(model)(folder, device="cpu", trust_remote_code=True).state_dict()  # ours alone, as we wrote it


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
                with file.open("r+b") as handle:  # Windows syncs only what is open for writing
                    os.fsync(handle.fileno())
            (folder / _WHOLE).touch()


def last_whole(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = sorted(folder.glob(f"checkpoint-*/{_WHOLE}"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    return str(whole[-1].parent) if whole else None
