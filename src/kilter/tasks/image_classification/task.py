"""Images: a ViT learns classes at one resolution and is judged at larger ones, where it meets positions it never saw.

By default handwritten digits (MNIST), 28 pixels across, judged up to 84; or the user's own images and ViT.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

from kilter.lab.arms import Levers
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import NOT_NEGATIVE, above, at_least
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning
from kilter.models.names import check_model_name

if TYPE_CHECKING:
    from kilter.tasks.image_classification.sources import Split

_TRAINED_WITH = ("steps", "batch_size", "learning_rate", "device", "precision", "save_steps")
_ACROSS = (
    "Accuracy against resolution",
    "Trained at the smallest resolution, at the others without any further training: the same images, larger, so that "
    "there are more patches and positions that were never seen. The dotted line is the trained resolution; shades are "
    "intervals.",
)


def metric_of(resolution: int) -> str:
    """What the accuracy at a resolution is called.

    Example:
        >>> metric_of(42)
        'accuracy_42'
    """
    return f"accuracy_{resolution}"


def _metric(resolution: int) -> Metric:
    return Metric(f"Accuracy at {resolution} pixels", "%", "higher", 1, SHARE)


@dataclass(kw_only=True)
class ImageClassification(Tuning):
    """Options of every recipe on images."""

    model: str = "small"
    """what learns: small (a ViT of the sizes below), or a ViT for image classification, a folder or hub id"""
    train_data: Annotated[str | None, arg(name="train")] = None
    """your images: a folder with a folder for each class, or a hub data set"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """your images to judge on; by default every tenth of yours"""
    resolution: Annotated[int, at_least(1)] = 28
    """pixels across of the images that are learnt from"""
    resolutions: tuple[int, ...] = (28, 42, 56, 84)
    """pixels across of those that are judged on, each image at each of them"""
    images: Annotated[int, NOT_NEGATIVE] = 0
    """most images to learn from, spread over those there are; 0 for all"""
    test_images: Annotated[int, NOT_NEGATIVE] = 2000
    """most images to judge on; 0 for all"""
    patch: Annotated[int, at_least(1)] = 7
    """pixels across of a patch of the small ViT, each of which has a position"""
    width: Annotated[int, at_least(1)] = 64
    """width of the small ViT"""
    layers: Annotated[int, at_least(1)] = 3
    """its layers"""
    heads: Annotated[int, at_least(1)] = 4
    """its attention heads"""
    steps: Annotated[int, at_least(1)] = 1000
    """optimiser steps of every arm"""
    batch_size: Annotated[int, at_least(1)] = 64
    """images in a batch"""
    learning_rate: Annotated[float, above(0)] = 1e-3
    """of AdamW, after a tenth of the steps falling to 0 as a cosine"""
    save_steps: Annotated[int, at_least(1)] = 200
    """steps between checkpoints; what a kill can cost"""

    baseline: ClassVar[str] = "learnt"
    given: ClassVar[str] = "Learnt positions, interpolated"
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"module", "callbacks", "options"})
    """A module is put on the classifier before it learns, in place; callbacks are of the trainer and functions of the
    classifier too; other options are those of the training."""
    own_by: ClassVar[tuple[str, ...]] = ("model", "train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"model", "train_data", "eval_data", "resolutions", "test_images"})
    smoke: ClassVar[Mapping[str, Any]] = {
        "images": 64,
        "test_images": 20,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "steps": 4,
        "batch_size": 8,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = {metric_of(one): _metric(one) for one in (28, 42, 56, 84)}

    def prepare(self) -> None:
        """Check that the options fit each other; what is measured is measured at each resolution.

        Raises:
            ValueError: a resolution that is not made of whole patches, twice the same or none; heads that do not divide
                the width; a model that is none.
        """
        super().prepare()
        if self.eval_data and not self.train_data:
            raise ValueError("--eval needs --train: your images to learn from")
        if self.eval_data and self.eval_data == self.train_data:
            raise ValueError(f"--eval and --train are both {self.train_data}: judge on images that are not learnt from")
        if not self.resolutions or len({*self.resolutions}) < len(self.resolutions):
            raise ValueError(f"resolutions={self.resolutions}: give one or more, each once")
        if self.model == "small":
            _check_patches((self.resolution, *self.resolutions), self.patch)
            if self.width % self.heads:
                raise ValueError(f"width={self.width} cannot be divided into heads={self.heads}; make it a multiple")
        else:
            check_model_name(self.model, "an image classifier of transformers", known=("small",))
        self.metrics = {metric_of(one): _metric(one) for one in sorted(self.resolutions)}  # type: ignore[misc]

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """Handwritten digits, or the user's images."""
        from kilter.tasks.image_classification import sources

        if self.train_data is None:
            found = sources.digits()
        else:
            found = sources.own_images(self.train_data, self.eval_data, max(self.resolution, *self.resolutions))
        parts = {"train": found.train.some(self.images), "test": found.test.some(self.test_images)}
        self._split: Split = replace(found, **parts)
        return found.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the classifier of this arm, unless it is there."""
        levers = self.mixture(arm).levers()
        model = folder / "model"
        with one_at_a_time(model):
            if not (model / "config.json").exists():
                self.changed_by(levers)._fit(arm, levers, seed, model, advance)
        return model

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter.tasks.image_classification import networks

        torch.manual_seed(seed)
        model = self._fresh()
        model = model if levers.module is None else levers.module(model)
        work = folder.with_name("checkpoints")
        networks.train_classifier(
            model,
            replace(self._split.train, resolution=self.resolution, channels=model.config.num_channels),
            work,
            seed=seed,
            advance=advance,
            callbacks=levers.callbacks(model) if levers.callbacks is not None else (),
            groups=self.rates(model, self.learning_rate),
            warm_up_steps=self.steps // 10,
            **{name: getattr(self, name) for name in _TRAINED_WITH},
        )
        networks.save(model, folder, lambda part: self._write_card(part, arm))
        shutil.rmtree(work, ignore_errors=True)

    def rates(self, model: Any, rate: float) -> list[dict[str, Any]]:
        """Groups of parameters as optimisers take them, where some learn at a rate of their own."""
        return []

    def _fresh(self) -> Any:
        from kilter.tasks.image_classification import networks

        images = self._split.train
        if self.model == "small":
            same = ("resolution", "patch", "width", "layers", "heads")
            how: Any = {name: getattr(self, name) for name in same}
            return networks.small_vit(images.classes, channels=images.pixels.shape[1], **how)
        model = networks.own_model(self.model, images.classes)
        if (own := model.config.image_size) != self.resolution:
            raise ValueError(f"{self.model} was trained at {own} pixels across; give --resolution {own} with it")
        if (own := model.config.num_channels) != 3 and own != images.pixels.shape[1]:
            raise ValueError(
                f"{self.model} has {own} channel, and the images have {images.pixels.shape[1]}; take another model"
            )
        _check_patches(self.resolutions, model.config.patch_size)
        return model

    def _write_card(self, folder: Path, arm: str) -> None:
        from kilter.lab.card import write_model_card

        base = None if self.model == "small" else self.model
        write_model_card(folder, self, arm, self._split.provenance, base=base)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Whether each image's class is said, at each resolution."""
        from kilter.lab.totals import ratios
        from kilter.tasks.image_classification import networks

        classifier = networks.load(model, self.device)
        test = replace(self._split.test, channels=classifier.config.num_channels)
        said = {
            one: networks.logits(classifier, replace(test, resolution=one)).argmax(1).tolist()
            for one in self.resolutions
        }
        rows = [
            {
                "input": place,
                "label": label,
                "said": {str(one): said[one][place] for one in self.resolutions},
                "totals": {metric_of(one): [float(said[one][place] == label), 1.0] for one in self.resolutions},
            }
            for place, label in enumerate(test.labels.tolist())
        ]
        return Judged(ratios(rows), rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        seen = f"{self.steps:,} steps of {self.batch_size} images at {self.resolution} pixels across"
        return [
            f"Every arm learns in {seen}, for one seed from the same images in the same order. At larger resolutions "
            "images are enlarged bilinearly, so that nothing is to be seen in them that was not there before: what "
            "falls is what the positions cost.",
            *[summary["data"]["note"]] * bool(summary["data"]["note"]),
        ]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against resolution."""
        from kilter.lab.curves import metric_curves

        if len(self.resolutions) < 2:
            return []
        at = {float(one): metric_of(one) for one in sorted(self.resolutions)}
        drawn = metric_curves(summary, at, across="pixels across", up="accuracy, %", mark=float(self.resolution))
        return [Picture("resolutions", *_ACROSS, drawn)]


def _check_patches(resolutions: Sequence[int], patch: int) -> None:
    for one in resolutions:
        if one < patch or one % patch:
            below = one // patch * patch
            near = f"{below} or {below + patch}" if below else f"{patch}"
            raise ValueError(f"resolutions: {one} pixels are not made of whole patches of {patch}; take {near}")
