"""What took long to make, in a file of JSON lines that a killed run goes on with, and the settings it was made with."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class KeptRows:
    """Rows by their `id`; a file that was made with other settings is refused.

    A line that a kill left unfinished is removed, and so made anew.

    Args:
        file: JSON lines; the settings go into `<file>.settings.json` beside it.
        settings: Plain values that decide what the rows are.

    Raises:
        ValueError: The file was made with other settings, or a line of it is no row; both are named.
    """

    def __init__(self, file: Path, settings: Mapping[str, Any]) -> None:
        self.file = file
        self.rows: dict[str, dict[str, Any]] = {}
        told = json.loads(json.dumps(settings))
        beside = file.with_suffix(".settings.json")
        if not (file.exists() and beside.exists()):
            file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
            file.write_bytes(b"")
            return
        before = json.loads(beside.read_text(encoding="utf-8"))
        for key, value in told.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{file} was made with {key}={before.get(key)!r}, and now it is {value!r}; remove it, or go back"
                )
        content = file.read_bytes()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            os.truncate(file, whole)
        for number, line in enumerate(content[:whole].decode("utf-8").split("\n")[:-1], 1):
            try:
                row = json.loads(line)
                self.rows[row["id"]] = row
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{file}, line {number}: no row with an id ({error}); remove that line") from error

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows to the disk at once."""
        rows = [dict(row) for row in rows]
        with self.file.open("ab") as handle:
            handle.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
            handle.flush()
            os.fsync(handle.fileno())
        self.rows |= {row["id"]: row for row in rows}
