"""Files that are either whole or not there."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kilter.core.files import write_whole

MAIN_PROCESS = int(os.environ.get("RANK", "0")) == 0
"""Under torchrun every process trains, and one writes."""


@contextmanager
def full_disk_said(folder: Path) -> Iterator[None]:
    """Turn the libraries' words for a full disk ("failed writing file" and the like) into the system's own error."""
    try:
        yield
    except Exception as error:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if isinstance(error, OSError) or shutil.disk_usage(there).free >= 1 << 20:
            raise
        raise OSError(errno.ENOSPC, "no space left; what was finished is kept, run again", str(folder)) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON that any reader takes: NaN and infinity become null."""
    write_whole(path, json_text(value))


def json_text(value: Any) -> str:
    """A value as the JSON of a file: indented, with every letter, NaN and infinity as null."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); remove it and run again") from error


def json_line(row: Any) -> str:
    """One line of JSON that any reader takes: NaN and infinity become null."""
    return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n"


def write_rows(path: Path, rows: Any) -> None:
    """Write JSON lines."""
    write_whole(path, "".join(map(json_line, rows)))


def read_rows(path: Path) -> list[Any]:
    """Read JSON lines."""
    lines = path.read_text(encoding="utf-8").split("\n")  # splitlines() would also split inside a row, at U+2028
    return [json.loads(line) for line in lines if line]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
