"""How a ranker is trained: pairs of one document a batch, by the stock trainer of sentence-transformers.

The encoder begins with a projection at which its scores lie close together; what is left loads in `RankGenScorer` and
in sentence-transformers.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from kilter.data.books import OneDocumentBatches
from kilter.lab.arms import Levers
from kilter.lab.encoders import train_encoder
from kilter.lab.files import full_disk_said
from kilter.lab.recipe import Advance

if TYPE_CHECKING:
    from kilter.data.books import Pair

_SPREAD = 0.25
"""Standard deviation of a prefix's scores at which training begins."""


def training_rows(pairs: "Sequence[Pair]", machine: Mapping[str, str], documents: Sequence[str]) -> Dataset:
    """Columns prefix, continuation, generated and label (the number of the document).

    Left out is what the machine did not continue, and a pair that is then the only one of its document.
    """
    pairs = [pair for pair in pairs if pair.id in machine]
    many = Counter(pair.document for pair in pairs)
    pairs = [pair for pair in pairs if many[pair.document] > 1]
    numbers = {name: number for number, name in enumerate(sorted(documents))}
    return Dataset.from_dict(
        {
            "prefix": [pair.prefix for pair in pairs],
            "continuation": [pair.continuation for pair in pairs],
            "generated": [machine[pair.id] for pair in pairs],
            "label": [numbers[pair.document] for pair in pairs],
        }
    )


def train_ranker(
    ranker: Any, rows: Dataset, levers: Levers, folder: Path, *, seed: int, device: str, advance: Advance, **how: Any
) -> SentenceTransformer:
    """Train a ranker by an arm's objective, rows, sampler and callbacks; a killed training goes on.

    Args:
        ranker: a fresh `RankGenScorer`, which `folder` keeps as it begins.
        rows: of `training_rows`.
        levers: of the arm; without a sampler every batch is of one document.
        folder: for what a killed training goes on from, until the caller removes it.
        seed: of the order, the sampler and dropout.
        device: cpu, cuda or mps.
        advance: told of every step.
        how: of `kilter.lab.training.arguments`.
    """
    start = folder.with_name("start")
    _tempered(ranker, rows[:32]).save_pretrained(start)
    encoder = SentenceTransformer(str(start), device=device)
    assert levers.objective is not None
    rows = levers.rows(rows, encoder, seed) if levers.rows is not None else rows
    before, after = ranker.words
    train_encoder(
        encoder,
        rows,
        levers.objective(encoder),
        folder,
        seed=seed,
        device=device,
        advance=advance,
        by_name=True,
        callbacks=levers.callbacks(encoder) if levers.callbacks is not None else (),
        batches=OneDocumentBatches.for_sentence_transformers,
        sampler=levers.sampler,
        prompts={"prefix": before, "continuation": after, "generated": after},
        dataloader_drop_last=False,  # the last batch of a document is as good as the others
        **how,
    )
    shutil.rmtree(start, ignore_errors=True)
    return encoder


def _tempered(ranker: Any, rows: Mapping[str, Sequence[str]]) -> Any:
    """The ranker with a projection at which its scores begin close together.

    Raw dot products of an encoder's states differ by so much that the first hundred steps would go into shrinking them.
    """
    scores = ranker.score_matrix(rows["prefix"], rows["continuation"])
    with torch.no_grad():
        ranker.projection.weight.mul_((_SPREAD / scores.std(1).mean().clamp_min(1e-6)).sqrt())
    return ranker


def save_ranker(encoder: SentenceTransformer, folder: Path, describe: Callable[[Path], None], *, compat: bool) -> None:
    """Save whole or not at all, so that RankGenScorer and sentence-transformers load it; `describe` adds the card."""
    from kilter.decoding import RankGenScorer

    trained, part = folder.with_name("trained"), folder.with_name(f"{folder.name}.part")
    for old in (trained, part):
        shutil.rmtree(old, ignore_errors=True)
    with full_disk_said(folder.parent):
        encoder.save_pretrained(str(trained))
        RankGenScorer.from_pretrained(trained, compat=compat).save_pretrained(part)
        describe(part)
    part.replace(folder)
    shutil.rmtree(trained)
