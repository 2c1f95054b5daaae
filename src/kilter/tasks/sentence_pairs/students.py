"""The student: an encoder that reads each sentence alone, and a small head that scores pairs of its vectors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from kilter.lab.arms import Levers
from kilter.lab.recipe import Advance
from kilter.tasks.sentence_pairs.teachers import Columns

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from kilter.data.labelled_pairs import LabelledPairs
    from kilter.embeddings import PairHead
    from kilter.tasks.sentence_pairs.sources import Kind

Pooling = Literal["concat", "mean", "given"]
_PAIRS = 4096
"""That a head scores at once."""


class Pupil(NamedTuple):
    """What an objective is made for.

    Attributes:
        encoder: a `SentenceTransformer`.
        head: a `PairHead` of its width, which the objective trains.
        kind: of the labels: binary, multiclass or regression.
    """

    encoder: "SentenceTransformer"
    head: "PairHead"
    kind: "Kind"


def fresh_encoder(
    name: str, texts: Sequence[str], device: str, *, pooling: Pooling, layers: int, projection: int | None = None
) -> "SentenceTransformer":
    """An encoder before any training: minilm, minilm-3, random, a folder or a hub id.

    Args:
        name: of the encoder.
        texts: from which the random one learns its words.
        device: cpu, cuda or mps.
        pooling: the mean over tokens of the last layers side by side, that of the last one, or the encoder's own.
        layers: so many of the last ones stand side by side, of an encoder with fewer all.
        projection: width of a linear map behind it; None for none.
    """
    from kilter.data.encoders import sentence_encoder
    from kilter.hosts.layer_pooling import with_layer_pooling
    from kilter.models.tiny_text import tiny_sentence_encoder

    encoder = tiny_sentence_encoder(texts[:2000], device=device) if name == "random" else None
    encoder = encoder or sentence_encoder(name, device=device)
    if pooling == "given":
        return encoder
    return with_layer_pooling(encoder, layers if pooling == "concat" else None, projection=projection)


def train_student(
    pupil: Pupil,
    objective: Any,
    columns: Columns,
    levers: Levers,
    folder: Path,
    *,
    seed: int,
    advance: Advance,
    **how: Any,
) -> None:
    """Train encoder and head in place on rows that carry the teacher's logits; a killed training goes on.

    Args:
        pupil: what is trained.
        objective: of `(u, v, teacher_logits, labels)`.
        columns: the rows.
        levers: rows, sampler and callbacks of the arm.
        folder: for what a killed training goes on from, until the caller removes it.
        seed: of the order and of dropout.
        advance: told of every step.
        how: of `kilter.lab.encoders.train_encoder`.
    """
    from kilter.lab.encoders import train_encoder

    rows: Any = training_rows(columns)
    rows = levers.rows(rows, pupil, seed) if levers.rows is not None else rows
    callbacks = levers.callbacks(pupil.encoder) if levers.callbacks is not None else ()
    more: Any = {"callbacks": callbacks, "sampler": levers.sampler, "labels": ("teacher_logits", "labels")}
    train_encoder(pupil.encoder, rows, objective, folder, seed=seed, advance=advance, **more, **how)
    pupil.head.eval()


def training_rows(columns: Columns) -> "Dataset":
    """Columns u and v, and in `label` a list of the teacher's logits and, last, the label.

    Example:
        >>> one = {"sentence1": ["a"], "sentence2": ["b"], "teacher": [[0.5, 2.0, 1.0]], "label": [1]}
        >>> training_rows(one)[0]
        {'u': 'a', 'v': 'b', 'label': [0.5, 2.0, 1.0, 1.0]}
    """
    from datasets import Dataset

    said = [logits if isinstance(logits, list) else [logits] for logits in columns["teacher"]]
    labels = [[*logits, float(label)] for logits, label in zip(said, columns["label"], strict=True)]
    return Dataset.from_dict({"u": columns["sentence1"], "v": columns["sentence2"], "label": labels})


# On the disk ----------------------------------------------------------------------------------------------------------


def save_student(pupil: Pupil, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save the encoder with its head in `head`, whole or not at all; `describe` writes the card into the folder."""
    from kilter.lab.encoders import save_encoder

    def beside(part: Path) -> None:
        pupil.head.save_pretrained(part / "head")
        describe(part)

    save_encoder(pupil.encoder, folder, beside)


def load_student(folder: Path, device: str) -> "tuple[SentenceTransformer, PairHead]":
    """Encoder and head that were saved."""
    from kilter.embeddings import PairHead
    from kilter.hosts.sentences import load_sentences

    encoder = load_sentences("SentenceTransformer", folder, device)
    return encoder, PairHead.from_pretrained(folder / "head").to(device).eval()


def save_index(folder: Path, texts: Sequence[str], device: str, output: int | None) -> None:
    """Make the sentences searchable, in `index` beside the student that was saved in a folder.

    Args:
        folder: of the student.
        texts: each once.
        device: cpu, cuda or mps.
        output: of a head for several classes the one to search by.
    """
    from kilter.embeddings import PairSearch

    encoder, head = load_student(folder, device)
    PairSearch.build(encoder, texts, head=head, output=output).save(folder.with_name("index"), encoder=folder)


# What it says ---------------------------------------------------------------------------------------------------------


def pair_vectors(encoder: "SentenceTransformer", pairs: "LabelledPairs") -> tuple[Tensor, Tensor]:
    """Vectors `(n, d)` of the first and of the second sentences; each different one is encoded once."""
    from kilter.hosts.sentences import encode

    texts = [*dict.fromkeys((*pairs.first, *pairs.second))]
    vectors, place = encode(encoder, texts, batch_size=64), {text: row for row, text in enumerate(texts)}
    u, v = (vectors[[place[text] for text in side]] for side in (pairs.first, pairs.second))
    return u, v


@torch.no_grad()
def head_scores(head: "PairHead", first: Tensor, second: Tensor, kind: "Kind") -> Tensor:
    """The head's outputs `(n,)`, or `(n, classes)`, of the pairs of two matrices of vectors `(n, d)`."""
    device = next(head.parameters()).device
    pieces = [
        head(one.to(device), other.to(device)).float().cpu()
        for one, other in zip(first.split(_PAIRS), second.split(_PAIRS), strict=True)
    ]
    found = torch.cat(pieces)
    return found if kind == "multiclass" else found.squeeze(1)
