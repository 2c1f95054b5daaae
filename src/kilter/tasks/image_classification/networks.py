"""The classifiers of the task: a small ViT made here, or the user's own; trained and saved as transformers does.

Positions beyond the trained resolution are the model's business: interpolated where it has a table of its own.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForImageClassification, Trainer, ViTConfig, ViTForImageClassification

from kilter.hosts.loading import check_whole, reading
from kilter.hosts.position_models import saved_with_positions
from kilter.hosts.transformers import load as load_attached
from kilter.lab.files import full_disk_said
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.tasks.image_classification.sources import Images


def small_vit(
    classes: Sequence[str], *, resolution: int, patch: int, channels: int, width: int, layers: int, heads: int
) -> ViTForImageClassification:
    """A ViT before any training; narrow ones begin as strong as wide ones do."""
    names = dict(enumerate(classes))
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            image_size=resolution,
            patch_size=patch,
            num_channels=channels,
            initializer_range=0.02 * math.sqrt(768 / width),
            id2label=names,
            label2id={name: number for number, name in names.items()},
        )
    )


def own_model(name: str, classes: Sequence[str]) -> Any:
    """The user's classifier; its head is made anew where it has other classes.

    Raises:
        Unloadable: it is none, or not whole.
    """
    names = dict(enumerate(classes))
    asked: Any = {"id2label": names, "label2id": {label: number for number, label in names.items()}}
    with reading(name, "an image classifier of transformers"):
        model, report = AutoModelForImageClassification.from_pretrained(
            name, ignore_mismatched_sizes=True, output_loading_info=True, **asked
        )
    odd = [one for one in report["mismatched_keys"] if not one[0].startswith("classifier.")]
    check_whole(name, model, {**report, "mismatched_keys": odd}, new_head=True)
    return model


def train_classifier(
    model: Any,
    images: Images,
    folder: Path,
    *,
    seed: int,
    advance: Advance,
    callbacks: Sequence[Any] = (),
    groups: Sequence[dict[str, Any]] = (),
    **how: Any,
) -> None:
    """Train in place; a killed training goes on and ends with the same numbers.

    Args:
        model: changed in place.
        images: to learn from.
        folder: for what a killed training goes on from, until the caller removes it.
        seed: of the order and of dropout.
        advance: told of every step.
        callbacks: of the trainer.
        groups: of parameters as optimisers take them, where some learn at a rate of their own.
        how: of `kilter.lab.training.arguments`.
    """
    settings = arguments(folder, seed=seed, lr_scheduler_type="cosine", remove_unused_columns=False, **how)
    made_for: Any = {"train_dataset": images}
    if groups:
        made_for["optimizers"] = (torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0), None)
    fit(Trainer(model, settings, **made_for), advance, callbacks=callbacks)
    model.eval()


def save(model: Any, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save whole or not at all; `describe` writes the card into the folder."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        model.save_pretrained(part)
        describe(part)
    part.replace(folder)


def load(folder: Path, device: str) -> Any:
    """A classifier that was saved by an arm, with the positions that were attached to it."""
    attached = saved_with_positions(folder)
    model: Any = load_attached(folder) if attached else AutoModelForImageClassification.from_pretrained(folder)
    return model.to(device)


@torch.no_grad()
def logits(model: Any, images: Images, batch_size: int = 250) -> Float[Tensor, "images classes"]:
    """What a classifier says of each image, in eval mode, at the images' resolution."""
    model.eval()
    found = []
    for first in range(0, len(images), batch_size):
        batch = images.batch(slice(first, first + batch_size)).to(model.device)
        found.append(model(pixel_values=batch, interpolate_pos_encoding=True).logits.float().cpu())
    return torch.cat(found)
