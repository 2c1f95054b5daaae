"""The stock trainer of sentence-transformers, made safe to kill: exact resume from the last whole checkpoint.

The twin of `kilter.lab.training`, for encoders of texts and losses that take their vectors.
"""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers.trainer_callback import PrinterCallback

from kilter.lab.files import full_disk_said
from kilter.lab.recipe import Advance
from kilter.lab.training import Keeper, last_whole


def fit_texts(
    model: SentenceTransformer,
    loss: torch.nn.Module,
    *,
    columns: dict[str, list[Any]],
    prompts: dict[str, str],
    batch_sampler: Any,
    folder: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    warm_up_steps: int,
    seed: int,
    device: str,
    precision: str,
    save_steps: int,
    advance: Advance,
) -> None:
    """Train in place with AdamW and a linear schedule; `folder` keeps checkpoints until the caller removes it.

    Args:
        model: The encoder.
        loss: Of that library: `(features, labels) -> loss`.
        columns: Texts in the order that the loss wants them, and `label`.
        prompts: What stands before the texts of a column.
        batch_sampler: What `SentenceTransformerTrainingArguments.batch_sampler` takes.
        folder: For checkpoints.
        steps: Optimiser steps.
        batch_size: Rows in a batch.
        learning_rate: After the warm-up.
        warm_up_steps: Over which it rises.
        seed: Of the order and of dropout.
        device: cpu, cuda or mps.
        precision: float32, bf16 or fp16.
        save_steps: Steps between checkpoints.
        advance: Told of every step.

    Raises:
        ValueError: the training diverged.
    """
    from datasets import Dataset

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=warm_up_steps,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
        data_seed=seed,
        use_cpu=device == "cpu",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        save_strategy="steps",
        save_steps=save_steps,
        save_total_limit=2,
        logging_steps=25,
        disable_tqdm=True,
        report_to="none",
        batch_sampler=batch_sampler,
        prompts=prompts,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    if arguments.n_gpu > 1:  # one process drives one GPU
        arguments._n_gpu = 1
    model.model_card_data.widget = [{"text": ""}]  # else the library looks for examples, with bars; the card is ours
    rows = Dataset.from_dict(columns)
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=rows, loss=loss)
    by_name: Any = getattr(loss, "by_name", None)
    if by_name is not None:
        trainer.data_collator = by_name(trainer.data_collator)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Keeper(advance))
    last = last_whole(folder)
    with full_disk_said(folder):
        if last and int(last.rpartition("-")[2]) >= steps:  # killed after its last step: nothing is left to train
            model.load_state_dict(SentenceTransformer(last, device="cpu").state_dict())
        else:
            trainer.train(resume_from_checkpoint=last)
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise ValueError(f"the training in {folder} diverged (parameters are not finite); lower the learning rate")
