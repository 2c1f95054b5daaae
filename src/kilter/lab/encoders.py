"""Encoders: trained by the stock trainer of sentence-transformers with an objective of ours, and saved as its own.

What every task on vectors of texts shares; a task makes the rows and says which objective.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch.utils.data import BatchSampler

from kilter.core.objective import Objective
from kilter.hosts.sentence_transformers import as_st_loss
from kilter.lab.files import full_disk_said
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit, last_whole


def train_encoder(
    encoder: SentenceTransformer,
    rows: Dataset,
    objective: Objective | Any,
    folder: Path,
    *,
    seed: int,
    device: str,
    advance: Advance,
    max_tokens: int | None = None,
    labels: str | tuple[str, ...] | None = None,
    by_name: bool = False,
    callbacks: Sequence[Any] = (),
    batches: Callable[..., Any] | None = None,
    sampler: Callable[[Any, int], Any] | None = None,
    **how: Any,
) -> SentenceTransformer:
    """Train an encoder in place; a killed training goes on and ends with the same numbers.

    Args:
        encoder: changed in place.
        rows: text columns in the order that the objective takes them, and a column `label` if it asks for one.
        objective: of ours, or a loss of the library made for this encoder.
        folder: for what a killed training goes on from, until the caller removes it.
        seed: of the order and of dropout.
        device: cpu, cuda or mps.
        advance: told of every step.
        max_tokens: longer texts are cut while it trains; the encoder's own limit stands again afterwards.
        labels: see `as_st_loss`.
        by_name: columns bear the names of what the objective takes, and may stand in any order.
        callbacks: of the trainer.
        batches: what the trainer takes as its `batch_sampler`; by default rows in any order, in full batches.
        sampler: instead, as an arm has it: `(rows, seed) -> sampler` of rows, or of batches.
        how: of `kilter.lab.training.arguments`.
    """
    loss: Any = as_st_loss(objective, encoder, labels=labels) if isinstance(objective, Objective) else objective
    how = {"dataloader_drop_last": True, **how}  # what is left over has other batch statistics
    settings = arguments(folder, seed=seed, device=device, kind=SentenceTransformerTrainingArguments, **how)
    encoder.model_card_data.widget = [{"text": ""}]  # else the library looks for examples, with bars; the card is ours
    limit = encoder.max_seq_length
    if max_tokens is not None:
        encoder.max_seq_length = max_tokens if limit is None else min(limit, max_tokens)
    trainer: Any = SentenceTransformerTrainer(model=encoder, args=settings, train_dataset=rows, loss=loss)
    if by_name:
        trainer.data_collator = loss.by_name(trainer.data_collator)
    fit(trainer, advance, callbacks=callbacks, sampler=_batches(sampler, seed) if sampler else batches)
    if not trainer.state.global_step and isinstance(objective, Objective) and objective.state_dict():
        loss.load_objective(last_whole(folder))  # killed after its last step, so that nothing was left to train
    if max_tokens is not None:
        encoder.max_seq_length = limit
    return encoder.eval()


def _batches(sampler: Callable[[Any, int], Any], seed: int) -> Callable[..., Any]:
    """What the trainer makes its batches with; a sampler of single rows is one of batches then."""

    def drawn(rows: Dataset, batch_size: int, **given: Any) -> Any:
        found = sampler(rows, seed)
        return found if hasattr(found, "batch_size") else BatchSampler(found, batch_size, drop_last=True)

    return drawn


def save_encoder(encoder: SentenceTransformer, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save whole or not at all, as sentence-transformers has it; `describe` writes the card into the folder."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        encoder.save_pretrained(str(part), create_model_card=False)
        describe(part)
    part.replace(folder)
