"""SeqPE on images: seen at higher resolutions than those learnt from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Term
from kilter.lab.options import at_least
from kilter.lab.recipe import Picture
from kilter.recipes.seqpe.maps import similarity_maps
from kilter.recipes.seqpe.options import METHOD, WITHOUT, Apply, PositionOptions, check_digits, rivals_of
from kilter.tasks.image_classification import ImageClassification

_IMAGES = ("learnt", "sinusoidal", "none", *METHOD, "seqpe+scalar")


@dataclass(kw_only=True)
class SeqPEImages(PositionOptions, ImageClassification):
    """Let a ViT see images of a higher resolution than those it was trained on.

    A small transformer that reads the digits of a patch's row and column makes its vector, so that there is one for any
    patch; two terms of the loss teach it that near patches are alike, and that far out all is as it is in the corner.

    Without --train it learns handwritten digits at 28 pixels and is judged at up to 84. With --train it learns from
    images of your own, a folder for each class, and leaves the ViT in arms/seqpe/seed-0/model: load it with
    kilter.hosts.transformers.load.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, three seeds;
    images: the same as full, recorded under a name of its own beside the texts;
    published: the paper's sizes, for a machine with accelerators;
    own (by default with --train or --model): learnt positions against SeqPE.
    """

    task: str = "images"
    """texts or images"""
    max_position: Annotated[int, at_least(2)] = 100
    """rows and columns that are trained (published: 100)"""
    apply: Apply = "attn_mul"
    """where positions enter (published: attn_mul)"""
    qk_map: Literal["single", "multi", "none"] = "multi"
    """the map to queries and keys: one for all layers, one for each (published), or none"""

    paper = cards()["seqpe"]
    _FULL: ClassVar[Mapping[str, Any]] = {"arms": _IMAGES, "steps": 2000, "seeds": 3, "jobs": 2}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("learnt", "none", "seqpe"), **ImageClassification.smoke},
        "demo": {
            "arms": ("learnt", "none", "seqpe"),
            "encoder_rate": 1e-3,
            "steps": 300,
            "test_images": 500,
            "jobs": 2,
        },
        "full": _FULL,
        "images": _FULL,  # under this name it is kept as evidence beside that of the texts
        "published": {  # the paper's own settings where they are settings, for a machine with accelerators
            "arms": _IMAGES,
            "resolution": 224,
            "resolutions": (224, 320, 384, 448, 512, 640, 672),
            "patch": 16,
            "width": 384,
            "layers": 12,
            "heads": 6,
            "steps": 500_000,
            "batch_size": 1024,
            "learning_rate": 6e-4,
            "save_steps": 5000,
        },
        "own": {"arms": ("learnt", "seqpe")},  # what --train and --model mean
    }

    def prepare(self) -> None:
        """Check that there are digits for the largest image."""
        super().prepare()
        check_digits(self.max_position, max(self.resolutions) // self.patch, "patches across", "--resolutions")

    def brings(self) -> Mapping[str, Term]:
        """SeqPE and its rivals."""
        rivals: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "sinusoidal": ("Sinusoidal, rows and columns", lambda own: own.SinusoidalPositions(axes=2)),
            "none": ("No positions", lambda own: own.NoPositions(axes=2)),
        }
        return {**rivals_of(rivals), **self._terms(2, scalar=", attn_scalar", add=", attn_add")}

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what SeqPE and each part of it are worth at the trained resolution and at the largest."""
        others = (*(arm for arm in _IMAGES if arm not in METHOD), *WITHOUT)
        at = dict.fromkeys((self.resolution, max(self.resolutions)))
        return self.with_claims(Claim(f"accuracy_{one}", "higher", arm, "seqpe") for one in at for arm in others)

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """How much smaller this is than the paper."""
        if self.own_data():
            return super().notes(summary)
        return [
            *super().notes(summary),
            "The paper trains ViT-S on ImageNet at 224 pixels for 400 epochs and judges at up to 672; RoPE for images, "
            "which it compares with too, is not among the arms.",
        ]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against resolution, and how alike positions are."""
        side = range(max(self.resolutions) // self.patch)
        grid = [(row, column) for row in side for column in side]
        return [*super().pictures(summary, run), *similarity_maps(summary, run, grid, "patch, row by row")]
