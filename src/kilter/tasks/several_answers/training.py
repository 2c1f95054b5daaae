"""The small encoder–decoder that the arms of a seed share: made, trained and saved."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer

from kilter import dist
from kilter.lab.card import write_model_card
from kilter.lab.files import MAIN_PROCESS, full_disk_said
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.models.small_seq2seq import PairBatches, only_batch, pair_tokenizer, small_seq2seq

if TYPE_CHECKING:
    from kilter.tasks.several_answers.sources import Source
    from kilter.tasks.several_answers.task import SeveralAnswers


def train_small(task: "SeveralAnswers", source: "Source", seed: int, folder: Path, advance: Advance) -> None:
    """Train it with the options of the task, resuming from `folder/checkpoints`, into `folder/model`."""
    pairs = source.train
    tokenizer = pair_tokenizer([text for pair in pairs for text in pair], entries=task.vocabulary)
    torch.manual_seed(seed)
    model = small_seq2seq(tokenizer, hidden_size=task.hidden_size, layers=task.layers, dropout=task.dropout)
    plan: Any = {"batches": task.steps, "batch_size": task.batch_size, "seed": seed, "blank": task.withheld}
    made = arguments(
        folder / "checkpoints",
        steps=task.steps,
        batch_size=1,  # an item is a whole batch
        learning_rate=task.learning_rate,
        warm_up_steps=min(200, task.steps // 4),
        seed=seed,
        device=task.device,
        precision=task.precision,
        save_steps=task.save_steps,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": task.learning_rate / 20},
        max_grad_norm=1.0,
        remove_unused_columns=False,
    )
    batches: Any = PairBatches(pairs, tokenizer, **plan)
    fit(Trainer(model, made, train_dataset=batches, data_collator=only_batch), advance)
    if MAIN_PROCESS:
        part = folder / "model.part"
        shutil.rmtree(part, ignore_errors=True)
        with full_disk_said(folder):
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            write_model_card(part, task, task.baseline, source.provenance, label="Small encoder–decoder")
        part.replace(folder / "model")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    dist.barrier()
