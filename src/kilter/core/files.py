"""A file that is either whole or not there; standard library only."""

import os
from pathlib import Path


def write_whole(path: Path, data: str | bytes) -> None:
    """Write through a temporary neighbour, so that a kill or a full disk never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as handle:
            # the name of a file need not be UTF-8; so it can be read back from JSON
            handle.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
