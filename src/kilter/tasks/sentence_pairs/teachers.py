"""The teacher: a cross-encoder that reads both sentences together, trained here or given, and what it says of each row.

Its raw logits are asked for once and kept with the rows that they belong to, so that no shuffle can part them.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kilter.lab.files import full_disk_said, read_rows, write_rows
from kilter.lab.recipe import Advance

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from kilter.data.labelled_pairs import LabelledPairs
    from kilter.tasks.sentence_pairs.sources import Part

Columns = Mapping[str, Sequence[Any]]
"""Rows of pairs: sentence1, sentence2, label, and as `teacher` the logits."""


# Training -------------------------------------------------------------------------------------------------------------


def fresh_teacher(name: str, part: "Part", device: str, max_tokens: int) -> "CrossEncoder":
    """A cross-encoder with an untrained end: minilm's weights, a folder's or hub id's, or a tiny random one.

    Args:
        name: minilm, random, a folder or a hub id.
        part: what it will learn, from which the random one has its words.
        device: cpu, cuda or mps.
        max_tokens: of a pair; longer ones are cut.
    """
    from sentence_transformers import CrossEncoder

    from kilter.hosts.loading import reading

    how: Any = {"num_labels": part.outputs, "device": device, "max_length": max_tokens}
    if name == "random":
        from tempfile import TemporaryDirectory

        from kilter.models.tiny_text import tiny_encoder, tiny_tokenizer

        tokenizer = tiny_tokenizer([*part.train.first, *part.train.second][:2000])
        with TemporaryDirectory() as folder:
            tiny_encoder(tokenizer).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return _with_start(CrossEncoder(folder, **how, activation_fn=nn.Identity()), part)
    if name == "minilm":
        from kilter.data.pretrained import minilm_folder

        name = str(minilm_folder())
    with reading(name, "a model that can become a cross-encoder"):
        return _with_start(CrossEncoder(name, **how, activation_fn=nn.Identity()), part)


def _with_start(teacher: "CrossEncoder", part: "Part") -> "CrossEncoder":
    start_at_mean([one for one in teacher.modules() if isinstance(one, nn.Linear)][-1], part)
    return teacher


def start_at_mean(last: nn.Linear, part: "Part") -> None:
    """Let what scores begin at the mean of the scores to learn, so that no steps go into finding it; in place."""
    if part.kind == "regression":
        nn.init.constant_(last.bias, sum(part.train.labels) / len(part.train.labels))


def train_teacher(
    teacher: "CrossEncoder", part: "Part", folder: Path, *, seed: int, device: str, advance: Advance, **how: Any
) -> "CrossEncoder":
    """Train a cross-encoder in place on labels; a killed training goes on and ends with the same numbers.

    Args:
        teacher: of `fresh_teacher`.
        part: what it learns.
        folder: for what a killed training goes on from, until the caller removes it.
        seed: of the order and of dropout.
        device: cpu, cuda or mps.
        advance: told of every step.
        how: of `kilter.lab.training.arguments`.
    """
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses

    from kilter.lab.training import arguments, fit

    kinds = {"regression": "MSELoss", "binary": "BinaryCrossEntropyLoss", "multiclass": "CrossEntropyLoss"}
    number = int if part.kind == "multiclass" else float
    rows = Dataset.from_dict({**_texts(part.train), "label": [*map(number, part.train.labels)]})
    settings = arguments(folder, seed=seed, device=device, kind=CrossEncoderTrainingArguments, **how)
    loss = getattr(losses, kinds[part.kind])(teacher)
    fit(CrossEncoderTrainer(model=teacher, args=settings, train_dataset=rows, loss=loss), advance)
    return teacher.eval()


def save_teacher(teacher: "CrossEncoder", folder: Path) -> None:
    """Save whole or not at all, as sentence-transformers has it."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        teacher.save_pretrained(str(part), create_model_card=False)
    part.replace(folder)


# A teacher that is given ----------------------------------------------------------------------------------------------


def load_teacher(name: str | Path, device: str) -> "CrossEncoder":
    """A finished cross-encoder: a folder or a hub id."""
    from kilter.hosts.sentences import load_sentences

    return load_sentences("CrossEncoder", name, device).eval()


def reader_of(teacher: "CrossEncoder", part: "Part", name: str) -> "Callable[[Tensor], Tensor]":
    """From a teacher's logits to one number a pair, or to one a class in the order of the data's classes.

    Args:
        teacher: whose settings name its classes, if it was trained to tell any.
        part: the data.
        name: of the teacher, for errors.

    Raises:
        ValueError: it has another number of outputs, or tells other classes.
    """
    settings: Any = teacher.config
    there, classes = int(settings.num_labels), part.train.classes
    if there == part.outputs == 1:
        return lambda logits: logits.reshape(-1)
    if classes is None or there != len(classes):
        wanted = "one output, a score" if classes is None else f"{len(classes)} outputs, {', '.join(classes)}"
        raise ValueError(
            f"--teacher {name}: has {there} outputs, and the data ask for {wanted}; give a teacher of them"
        )
    order = _order({int(place): said for place, said in (settings.id2label or {}).items()}, classes, name)
    if part.kind == "multiclass":
        return lambda logits: logits[:, order]
    return lambda logits: logits[:, order[1]] - logits[:, order[0]]  # of two logits their difference says all


def _order(named: Mapping[int, str], classes: Sequence[str], name: str) -> list[int]:
    """Where the teacher has each class; as they stand where it has no names for them."""
    places = {said.strip().casefold(): place for place, said in named.items()}
    if all(one.casefold() in places for one in classes):
        return [places[one.casefold()] for one in classes]
    if all(said.upper() in (f"LABEL_{place}", str(place)) for place, said in named.items()):
        return [*range(len(classes))]
    raise ValueError(
        f"--teacher {name}: tells {', '.join(named.values())}, and the data {', '.join(classes)}; name the classes "
        "alike, or give another teacher"
    )


def scale_of(logits: Tensor, labels: Sequence[float], name: str) -> tuple[float, float]:
    """Slope and offset that bring a given teacher's scores onto the scale of the labels, by least squares.

    One head cannot follow both a label from 0 to 5 and a logit from -4 to 4.

    Raises:
        ValueError: the teacher's scores do not rise with the labels.

    Example:
        >>> scale_of(torch.tensor([-1.0, 0.0, 1.0]), [0.0, 2.5, 5.0], "mine")
        (2.5, 2.5)
    """
    t, y = logits.double(), torch.as_tensor(labels, dtype=torch.float64)
    variance = (t - t.mean()).square().mean()
    slope = float((t - t.mean()).mul(y).mean() / variance.clamp_min(1e-12))
    if slope <= 0:
        raise ValueError(
            f"--teacher {name}: its scores do not rise with the labels of the pairs to learn from (slope {slope:.3g}); "
            "is it a teacher of something else?"
        )
    return slope, float(y.mean() - slope * t.mean())


# What it says of each row ---------------------------------------------------------------------------------------------


@torch.no_grad()
def logits_of(teacher: "CrossEncoder", pairs: "LabelledPairs", batch_size: int = 64) -> Float[Tensor, "..."]:
    """Raw logits `(n,)` or `(n, classes)` in float32, in the order of the pairs.

    Raises:
        ValueError: one is not finite; the row is named.
    """
    both = [*zip(pairs.first, pairs.second, strict=True)]
    how: Any = {"convert_to_tensor": True, "show_progress_bar": False, "batch_size": batch_size}
    found = teacher.predict(both, activation_fn=nn.Identity(), **how).float().cpu()
    finite = found.reshape(len(both), -1).isfinite().all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"row {row}: the teacher's logits of {both[row][0][:60]!r} are not finite; use another teacher"
        )
    return found


def keep_rows(file: Path, pairs: "LabelledPairs", logits: Tensor) -> None:
    """Write the pairs with the teacher's logits beside each."""
    table = {**_texts(pairs), "label": [*pairs.labels], "teacher": logits.tolist()}
    write_rows(file, (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)))


def kept_rows(file: Path, pairs: "LabelledPairs") -> Columns:
    """The rows that `keep_rows` wrote, as columns.

    Raises:
        ValueError: they are not these pairs, in this order.
    """
    rows = read_rows(file)
    wanted = [*zip(pairs.first, pairs.second, pairs.labels, strict=True)]
    found = [(row["sentence1"], row["sentence2"], row["label"]) for row in rows]
    if found != wanted:
        apart = (at for at, both in enumerate(zip(found, wanted, strict=False)) if both[0] != both[1])
        row = next(apart, min(len(found), len(wanted)))
        raise ValueError(f"{file}, row {row}: the teacher's logits are of other pairs; remove the file and run again")
    return {name: [row[name] for row in rows] for name in ("sentence1", "sentence2", "label", "teacher")}


def _texts(pairs: "LabelledPairs") -> dict[str, list[str]]:
    return {"sentence1": [*pairs.first], "sentence2": [*pairs.second]}
