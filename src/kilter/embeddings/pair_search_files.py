"""The folder of an index of vectors: safetensors, which is memory-mapped, texts as JSON lines, and JSON that says what.

Each file is whole or not there, and `index.json`, the last, names the vectors that it belongs to.
"""

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from kilter.core.files import write_whole

KIND, VERSION = "pair-search", 1
ENCODER, HEAD = "encoder", "head"
_INDEX, _VECTORS, _TEXTS = "index.json", "vectors.safetensors", "texts.jsonl"
_AGAIN = "build the index again"
_HOLDS: dict[str, Any] = {
    "count": int,
    "width": int,
    "longest": float,
    "cosine": bool,
    "output": (int, NoneType),
    "encoder": (str, NoneType),
    "head": (str, NoneType),
    "texts": bool,
}


class Texts(Sequence[str]):
    """Texts that stay in their file until they are asked for.

    Args:
        file: JSON lines.
        starts: `(n + 1,)` where each line begins, and where the last ends.
    """

    def __init__(self, file: Path, starts: Tensor) -> None:
        self.file, self.starts = file, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"there are {len(self)} texts, and none of number {row}")
        start, end = (int(self.starts[row % len(self) + more]) for more in (0, 1))
        with self.file.open("rb") as opened:
            opened.seek(start)
            return json.loads(opened.read(end - start))


def write(folder: Path, vectors: Tensor, texts: Sequence[str] | None, about: Mapping[str, Any]) -> None:
    """Write what `read` reads; what is beside it stays."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors, stamp = {"vectors": vectors.contiguous()}, uuid.uuid4().hex
    if texts is not None:
        tensors["starts"] = _whole(folder / _TEXTS, lambda part: _write_lines(part, texts))
    _whole(folder / _VECTORS, lambda part: save_file(tensors, part, metadata={"stamp": stamp}))
    said = {"kind": KIND, "version": VERSION, **about, "texts": texts is not None, "stamp": stamp}
    write_whole(folder / _INDEX, json.dumps(said, indent=2, ensure_ascii=False) + "\n")
    if texts is None:
        (folder / _TEXTS).unlink(missing_ok=True)  # of an index that was there before


def read(folder: Path) -> tuple[dict[str, Any], Tensor, Texts | None]:
    """What the index says of itself, its vectors, mapped and not read, and its texts.

    Raises:
        FileNotFoundError: there is no index, or a file of it is missing.
        ValueError: the index is of another kind or a later version, or a file is not whole or another index's.
    """
    about = about_index(folder)
    if about.get("kind") != KIND:
        raise ValueError(
            f"{folder}: is an index of kind {about.get('kind')!r}, not {KIND!r}; open it with its own class"
        )
    if about.get("version") != VERSION:
        raise ValueError(f"{folder}: is of version {about.get('version')}, this kilter reads {VERSION}; {_AGAIN}")
    for name, kind in _HOLDS.items():
        if not isinstance(about.get(name, ...), kind):
            raise ValueError(
                f"{folder / _INDEX}: {name!r} is missing or of another kind, {about.get(name)!r}; {_AGAIN}"
            )
    tensors, stamp = _mapped(folder / _VECTORS)
    if stamp != about.get("stamp"):
        raise ValueError(f"{folder / _INDEX}: belongs to another {_VECTORS} than is beside it; {_AGAIN}")
    vectors = tensors.get("vectors", torch.empty(0, 0))
    if tuple(vectors.shape) != (shape := (about.get("count"), about.get("width"))):
        raise ValueError(f"{folder / _VECTORS}: has {tuple(vectors.shape)} vectors, {_INDEX} says {shape}; {_AGAIN}")
    if not about["texts"]:
        return about, vectors, None
    file, starts = folder / _TEXTS, tensors.pop("starts")
    if file.stat().st_size != (whole := int(starts[-1])):
        raise ValueError(f"{file}: has {file.stat().st_size} of {whole} bytes; it was cut short or edited; {_AGAIN}")
    return about, vectors, Texts(file, starts)


def about_index(folder: Path) -> dict[str, Any]:
    """What an index of any kind says of itself.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON object.
    """
    file = folder / _INDEX
    if not file.is_file():
        raise FileNotFoundError(f"{folder}: holds no index of kilter, which has a file {_INDEX}")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON, or cut short ({error}); {_AGAIN}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: must hold a JSON object; {_AGAIN}")
    return found


def _mapped(file: Path) -> tuple[dict[str, Tensor], str]:
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise FileNotFoundError(f"{file}: is missing; {_AGAIN}")
    try:
        with safe_open(file, "pt") as opened:
            stamp = (opened.metadata() or {}).get("stamp", "")
            return {name: opened.get_tensor(name) for name in opened.keys()}, stamp  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{file}: is cut short or damaged ({error}); {_AGAIN}") from error


def _write_lines(part: Path, texts: Sequence[str]) -> Tensor:
    """Where the lines begin, and where the last ends."""
    starts = [0]
    with part.open("wb") as opened:
        for text in texts:
            line = json.dumps(text, ensure_ascii=False) + "\n"
            starts.append(starts[-1] + opened.write(line.encode("utf-8", "backslashreplace")))
    return torch.tensor(starts)


def _whole(file: Path, fill: Callable[[Path], Any]) -> Any:
    """Whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        found = fill(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return found
