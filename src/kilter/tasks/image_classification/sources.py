"""Where images come from: handwritten digits, or the user's own, a folder for each class or a data set of the hub.

Images are kept once, as bytes, and brought to a resolution when a batch is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from kilter.data.hub import HUB_ID, load_hub
from kilter.lab.recipe import Provenance

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""What is taken for an image in a folder."""
_HELD_OUT = 10
"""Without --eval every tenth of the user's images is judged on."""


@dataclass(frozen=True)
class Images:
    """Square images of one size and the class of each; a data set whose items are what a classifier takes."""

    pixels: UInt8[Tensor, "images channels side side"]
    labels: Int64[Tensor, " images"]
    classes: tuple[str, ...]
    resolution: int = 0
    """pixels across of the items; 0 for those of the images"""
    channels: int = 0
    """of the items, grey ones repeated; 0 for those of the images"""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        """One of them."""
        return self.__getitems__([place])[0]

    def __getitems__(self, places: list[int]) -> list[dict[str, Tensor]]:
        """Several of them at once, which torch's loader asks for where it can."""
        both = zip(self.batch(torch.tensor(places)), self.labels[places], strict=True)
        return [{"pixel_values": image, "labels": label} for image, label in both]

    def batch(self, places: slice | Int64[Tensor, " batch"]) -> Float[Tensor, "batch channels resolution resolution"]:
        """Some of them at the resolution, from -1 to 1."""
        found = at_resolution(self.pixels[places].float() / 127.5 - 1, self.resolution or self.pixels.shape[-1])
        return found.expand(-1, self.channels or -1, -1, -1) if found.shape[1] == 1 else found

    def some(self, most: int) -> "Images":
        """At most so many, spread over all there are; 0 for all."""
        places = torch.linspace(0, len(self) - 1, most).long() if 0 < most < len(self) else torch.arange(len(self))
        return replace(self, pixels=self.pixels[places], labels=self.labels[places])


@dataclass(frozen=True)
class Split:
    """What is learnt from, what is judged on, and where both are from."""

    train: Images
    test: Images
    provenance: Provenance


def at_resolution(
    images: Float[Tensor, "batch channels height width"], pixels: int
) -> Float[Tensor, "batch channels pixels pixels"]:
    """Images of another size, bilinear; what gets smaller is smoothed first.

    Example:
        >>> at_resolution(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), 4)[0, 0, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    if images.shape[-2:] == (pixels, pixels):
        return images
    smaller = pixels < images.shape[-1]
    return torch.nn.functional.interpolate(images, (pixels, pixels), mode="bilinear", antialias=smaller)


def digits() -> Split:
    """MNIST: handwritten digits, 28 pixels across."""
    from kilter.data.mnist import locate_mnist, mnist

    found = locate_mnist()
    (seen, names), (new, named) = (mnist(part, folder=found.path) for part in ("train", "test"))
    classes = tuple(map(str, range(10)))
    parts = Images(seen[:, None], names, classes), Images(new[:, None], named, classes)
    return Split(*parts, Provenance(**found.credit()))


def own_images(train: str, judged_on: str | None, side: int) -> Split:
    """The user's images, judged on others of theirs or on every tenth of them.

    Args:
        train: a folder with a folder of images for each class, or a hub data set.
        judged_on: the same, to judge on.
        side: pixels across at which they are kept.

    Raises:
        ValueError: no such folder or data set, one without images or with one class, or a class that is judged and not
            learnt.
    """
    learnt, classes = _read(train, side)
    if len(classes) < 2:
        raise ValueError(f"{train}: has images of {len(classes)} class; give a folder for each of two or more")
    if judged_on is None:
        held = torch.arange(len(learnt)) % _HELD_OUT == _HELD_OUT - 1
        if not held.any():
            raise ValueError(f"{train}: {len(learnt)} images are too few to hold some out; give more, or --eval")
        parts = [replace(learnt, pixels=learnt.pixels[some], labels=learnt.labels[some]) for some in (~held, held)]
    else:
        judged, others = _read(judged_on, side)
        if unknown := [one for one in others if one not in classes]:
            raise ValueError(f"{judged_on}: class {unknown[0]} is not among those of --train: {', '.join(classes)}")
        numbers = torch.tensor([classes.index(one) for one in others])
        parts = [learnt, replace(judged, labels=numbers[judged.labels], classes=classes)]
    digest = sha256(b"".join(one.numpy().tobytes() for part in parts for one in (part.pixels, part.labels)))
    title = f"your images: {len(parts[0]):,} to learn from, {len(parts[1]):,} to judge on, {len(classes)} classes"
    source = ", ".join(filter(None, (train, judged_on)))
    return Split(*parts, Provenance(title, source=source, digest=digest.hexdigest()[:16]))


def _read(source: str, side: int) -> tuple[Images, tuple[str, ...]]:
    """Images in an order that mixes the classes, and the names of these."""
    found = list(_in_folder(Path(source)) if Path(source).is_dir() else _on_hub(source))
    if not found:
        raise ValueError(f"{source}: holds no images; give a folder for each class with {', '.join(SUFFIXES[:3])}, …")
    classes = tuple(sorted({name for name, _ in found}))
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    labels = torch.tensor([classes.index(found[place][0]) for place in order])
    pixels = torch.stack([_pixels(found[place][1], side) for place in order])
    return Images(pixels, labels, classes), classes


def _in_folder(folder: Path) -> Iterator[tuple[str, Any]]:
    """Each file's class, which is its folder's name, and the file."""
    for file in sorted(folder.glob("*/*")):
        if file.suffix.lower() in SUFFIXES:
            yield file.parent.name, file


def _on_hub(source: str) -> Iterator[tuple[str, Any]]:
    asked = HUB_ID.fullmatch(source)
    if asked is None:
        raise ValueError(f"{source}: no such folder, and no hub data set like org/name")
    rows = load_hub(asked["name"], asked["config"], asked["split"] or "train")
    kinds = {name: type(kind).__name__ for name, kind in rows.features.items()}
    columns = [
        next((name for name, kind in kinds.items() if kind == wanted), None) for wanted in ("Image", "ClassLabel")
    ]
    if None in columns:
        raise ValueError(f"{source}: needs a column of images and one of class labels, and has {_said(kinds)}")
    image, label = columns
    for row in rows:
        yield rows.features[label].int2str(row[label]), row[image]


def _said(kinds: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())


def _pixels(image: Any, side: int) -> UInt8[Tensor, "3 side side"]:
    """A file or an image of PIL as three colours, `side` across whatever its shape."""
    from PIL import Image, UnidentifiedImageError

    try:
        found = Image.open(image) if isinstance(image, Path) else image
        raw = bytearray(found.convert("RGB").resize((side, side), Image.Resampling.BILINEAR).tobytes())
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{image}: is no image that can be read ({error}); remove it") from error
    return torch.frombuffer(raw, dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1)
