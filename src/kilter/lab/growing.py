"""JSON lines that grow by whole batches, and what they were made with, in hidden files beside them.

A batch is first written whole beside the file and then added to it: whenever the process is killed, the next one
finds whole lines, or can make them whole. A line that is cut short all the same was cut by something else, and is not
touched.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kilter.lab.files import json_line, read_json, write_json, write_whole

ELSEWHERE = "give --out another name"


def check_settings(out: Path, record: Path, command: str, made: Mapping[str, Any]) -> None:
    """Check that this very command made `out`, with these settings: only then is it its own to go on with.

    Raises:
        ValueError: it did not; every setting that differs is named.
    """
    if not record.exists():
        raise ValueError(f"{out}: was not made by kilter {command} (there is no {record.name}); {ELSEWHERE}")
    before = read_json(record)
    if changed := [
        f"{name} {before.get(name)!r}, now {value!r}" for name, value in made.items() if before.get(name) != value
    ]:
        raise ValueError(f"{out}: was made with {'; '.join(changed)}; {ELSEWHERE}, or remove what it holds")


class GrowingRows:
    """The rows of one `--out` file of a command.

    Args:
        out: the file.
        command: whose; it names the hidden files.
        made: the settings that decide what the rows are.
    """

    def __init__(self, out: Path, command: str, made: Mapping[str, Any]) -> None:
        self.out, self.command, self.made = out, command, dict(made)
        self._record = out.with_name(f".{out.name}.{command}.json")
        self._batch = self._record.with_suffix(".batch")

    def earlier(self) -> list[dict[str, Any]]:
        """What an earlier run left.

        Raises:
            ValueError: the file is a folder, another's, made with other settings, or holds a line that is no row.
        """
        if self.out.is_dir():
            raise ValueError(f"{self.out}: is a folder, kilter {self.command} writes one file; {ELSEWHERE}")
        if not (self.out.exists() and self.out.stat().st_size):
            self._record.unlink(missing_ok=True)
            self._batch.unlink(missing_ok=True)
            return []
        check_settings(self.out, self._record, self.command, self.made)
        if self._batch.exists():
            self._write(**read_json(self._batch))
        *lines, rest = self.out.read_bytes().split(b"\n")
        if rest:
            raise ValueError(
                f"{self.out}, line {len(lines) + 1}: is cut short ({rest[-40:]!r}), and not by a kill of kilter "
                f"{self.command}; remove that line and run again, or {ELSEWHERE}"
            )
        return [self._row(line, number) for number, line in enumerate(lines, start=1)]

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.out}, line {number}: not JSON ({error}); remove that line and run again, or {ELSEWHERE}"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{self.out}, line {number}: is no row of kilter {self.command}; {ELSEWHERE}")
        return row

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Bring one batch to the disk; before the first, what it is made with."""
        if not self._record.exists():
            write_json(self._record, self.made)
        batch = {"at": self.out.stat().st_size if self.out.exists() else 0, "rows": [json_line(row) for row in rows]}
        write_whole(self._batch, json.dumps(batch))
        self._write(**batch)

    def _write(self, at: int, rows: list[str]) -> None:
        with self.out.open("r+b" if self.out.exists() else "wb") as file:
            file.seek(min(at, self.out.stat().st_size))
            file.truncate()
            file.write("".join(rows).encode())
            file.flush()
            os.fsync(file.fileno())
        self._batch.unlink()

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Bring all rows, once they are there, into the order given."""
        text = "".join(map(json_line, rows))
        if text.encode() != self.out.read_bytes():
            write_whole(self.out, text)
