"""Rewards of rows, kept in a file of JSON lines that a killed call goes on with. Standard library only.

The first line says what they were made with; each other is one row, brought to the disk before the next is begun.
"""

import json
import os
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from kilter.core.files import write_whole

_MEND = "give cache another name, or remove the file"


class RewardCache:
    """Rows that are done.

    Args:
        file: where; None keeps nothing.
        made: the settings that decide what the rewards are.
    """

    def __init__(self, file: str | PathLike[str] | None, made: Mapping[str, Any]) -> None:
        self.file = None if file is None else Path(file)
        self.made = dict(made)

    def read(self) -> dict[str, list[float | None]]:
        """Rewards by row, of what an earlier call left; a line that a kill cut short is taken away.

        Raises:
            ValueError: the file is a folder or another's, or was made with other settings.
        """
        if self.file is None:
            return {}
        if self.file.is_dir():
            raise ValueError(f"cache: {self.file} is a folder; name a file")
        if not self.file.exists() or not self.file.stat().st_size:
            write_whole(self.file, json.dumps(self.made) + "\n")
            return {}
        whole, _, cut = self.file.read_bytes().rpartition(b"\n")
        first, *lines = whole.split(b"\n")
        before = self._parsed(first, 1)
        if changed := [
            f"{name} {before.get(name)!r}, now {value!r}"
            for name, value in self.made.items()
            if before.get(name) != value
        ]:
            raise ValueError(f"cache: {self.file} was made with {'; '.join(changed)}; {_MEND}")
        if cut:
            os.truncate(self.file, self.file.stat().st_size - len(cut))
        return dict(self._row(line, number) for number, line in enumerate(lines, start=2))

    def _row(self, line: bytes, number: int) -> tuple[str, list[float | None]]:
        found = self._parsed(line, number)
        row, rewards = found.get("row"), found.get("rewards")
        fits = isinstance(rewards, list) and len(rewards) == self.made["num_ref"] and all(map(_is_reward, rewards))
        if not isinstance(row, str) or not isinstance(rewards, list) or not fits:
            raise ValueError(f"cache: {self.file}, line {number}: holds no rewards of a row; {_MEND}")
        return row, rewards

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ValueError(f"cache: {self.file}, line {number}: not JSON ({error}); {_MEND}") from error
        if not isinstance(found, dict):
            raise ValueError(f"cache: {self.file}, line {number}: holds no rewards; {_MEND}")
        return found

    def add(self, row: str, rewards: Sequence[float | None]) -> None:
        """Bring one row to the disk."""
        if self.file is None:
            return
        line = json.dumps({"row": row, "rewards": list(rewards)}) + "\n"
        with self.file.open("ab") as handle:
            handle.write(line.encode())
            handle.flush()
            os.fsync(handle.fileno())


def _is_reward(value: Any) -> bool:
    return value is None or isinstance(value, int | float)
