"""Which file of a model is at fault, looked for once a host could not load it. Little beyond the standard library."""

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

_POINTER = b"version https://git-lfs"
_READ = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin", "*.gguf", "*.json", "*.model", "vocab*", "merges*")
"""What hosts read of a folder: weights, their index, settings and vocabularies."""
_MOST = 50_000_000
"""Bytes of a JSON file that is read to see whether it is one."""


def fault_in(folder: Path) -> str:
    """The first file that is not what its name says, with the mend; empty where all look whole.

    Looks at the folder and at those in it, as sentence-transformers have them. Of weights in two formats only the one
    that hosts prefer counts.
    """
    for file in _files(folder):
        if said := _fault(file):
            return f"{file}: {said}"
    return ""


def _files(folder: Path) -> Iterator[Path]:
    for place in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        found = sorted({file for pattern in _READ for file in place.glob(pattern) if not file.is_dir()})
        safe = any(file.suffix == ".safetensors" for file in found)
        yield from (file for file in found if not (safe and file.suffix == ".bin"))


def _fault(file: Path) -> str:
    if not file.exists():
        return "a link to what is not there; fetch the file again"
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(64)
    if start.startswith(_POINTER):
        return "a Git LFS pointer, not the file itself; run `git lfs pull` in its folder, or download the file"
    again = "fetch the file again"
    if not size:
        return f"an empty file; {again}"
    said = ""
    if file.suffix == ".safetensors":
        said = _safetensors(file, size)
    elif file.suffix == ".bin" and not zipfile.is_zipfile(file):
        old = start.startswith(b"\x80")
        said = _old_torch(file) if old else "cut short" if start.startswith(b"PK") else "no weights of torch"
    elif file.suffix == ".gguf":
        said = _gguf(file) if start.startswith(b"GGUF") else "no GGUF"
    elif file.suffix == ".json" and size < _MOST:
        said = _json(file)
    return f"{said}; {again}" if said else ""


def _safetensors(file: Path, size: int) -> str:
    """Of a file that begins with the length of a JSON header, which says where each tensor begins and ends."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > size - 8:
            return "cut short" if length < _MOST else "no safetensors"
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return "no safetensors"
    whole = 8 + length + max(ends, default=0)
    return "" if size == whole else f"cut short, {size} of {whole} bytes" if size < whole else "damaged"


def _old_torch(file: Path) -> str:
    """Of a file as torch wrote them before it took to zip archives; only reading it to the end tells."""
    import torch

    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of torch or of what it reads with, by where the bytes end
        return f"cut short or damaged ({error!s:.80})"
    return ""


def _gguf(file: Path) -> str:
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError:
        return ""
    try:
        GGUFReader(file)
    except (ValueError, IndexError, KeyError, struct.error) as error:  # what numpy says where the bytes end
        return f"cut short or damaged ({error!s:.80})"
    return ""


def _json(file: Path) -> str:
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        return f"no JSON ({error})"
    shards = found.get("weight_map") if isinstance(found, dict) else None
    gone = sorted({name for name in (shards or {}).values() if not (file.parent / name).exists()})
    return f"names weights that are not there ({', '.join(gone[:3])}{', …' * (len(gone) > 3)})" if gone else ""
