"""Where sets come from: numbers drawn here, records of a table of scikit-learn, or the user's own.

An item is a record as its numbers, that by which sets are ordered among them; a set is drawn anew for each use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.errors import suggest
from kilter.core.sources import check_reread
from kilter.core.tables import number, shown
from kilter.data.tables import load_table
from kilter.data.text_rows import read_rows
from kilter.lab.recipe import Provenance

NUMBERS = Provenance("numbers drawn here", licence="none needed", digest="1")
"""No stand-in for anything: the paper sorts numbers that it draws."""
NUMBER = "number"
"""What the only column of these is called."""
TARGET = "target"
"""What the column is called that a table of scikit-learn is made to foretell."""
_SOME = 1000
"""Records of which the sets of one draw are made."""
_HELD_OUT = 5
"""Without others to judge on, every fifth record is."""


@dataclass(frozen=True)
class Records:
    """Records as numbers, of which sets are drawn; without rows, numbers between 0 and 1."""

    columns: tuple[str, ...]
    by: str
    rows: Float[Tensor, "rows columns"] | None = None

    def draw(
        self, count: int, size: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count size columns"], Float[Tensor, "count size"]]:
        """Sets of different records, and of each record the number by which it is ordered."""
        if self.rows is None:
            found = torch.rand(count, size, 1, generator=generator)
        else:  # of a long table the sets of a batch are from some of the records, so that a draw stays cheap
            some = torch.randperm(len(self.rows), generator=generator)[: max(_SOME, size)]
            places = torch.rand(count, len(some), generator=generator).argsort(1)[:, :size]
            found = self.rows[some[places]]
        return found, found[..., self.columns.index(self.by)]

    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and spread of each column, as the network is to see it; drawn numbers are seen as they are."""
        if self.rows is None:
            return (0.0,), (1.0,)
        mean = self.rows.mean(0)
        most = (self.rows - mean).abs().amax(0)
        most = torch.where(most > 0, most, 1)  # so that no square is too large or too small
        spread = most * ((self.rows - mean) / most).std(0, correction=0)
        return tuple(mean.tolist()), tuple(torch.where(spread > 0, spread, 1).tolist())


@dataclass(frozen=True)
class Split:
    """Records to learn from, others to judge on, and where both are from."""

    train: Records
    test: Records
    provenance: Provenance


def numbers() -> Split:
    """Numbers between 0 and 1, as the paper sorts them."""
    drawn = Records((NUMBER,), NUMBER)
    return Split(drawn, drawn, NUMBERS)


def table(name: str, by: str | None, least: int) -> Split:
    """A table of scikit-learn.

    Args:
        name: one of `kilter.data.tables.TABLES`.
        by: the column by which records are ordered; by default what the table is made to foretell.
        least: records of the largest set.

    Raises:
        ValueError: there is no such table or column, or there are too few records.
    """
    found = load_table(name)
    columns = (*found.names, TARGET)
    rows = torch.cat([found.features, found.targets[:, None]], 1).double()
    _check_column(by := TARGET if by is None else by, columns, f"table {name}")
    train, test = _held_out(rows, least, f"table {name}")
    title = f"{name}, a table of scikit-learn: {len(rows):,} records of {len(columns)} numbers"
    credit = Provenance(title, licence="BSD-3-Clause", digest=_digest(rows), page="https://scikit-learn.org")
    return Split(Records(columns, by, train), Records(columns, by, test), credit)


def own(train: str, judged_on: str | None, by: str, asked: Sequence[str], least: int) -> Split:
    """The user's records.

    Args:
        train: a csv, JSON lines, another table or a hub id, see `kilter.data.text_rows.read_rows`.
        judged_on: the same, to judge on; by default every fifth record of `train`.
        by: the column by which records are ordered.
        asked: the columns to be read beside it; without any all whose every value is a number.
        least: records of the largest set.

    Raises:
        ValueError: no such source or column, a value that is no number in a column that was asked for, whose row is
            named, one number in all of `by`, or too few records.
    """
    names = [option for option, source in (("train", train), ("eval", judged_on)) if source is not None]
    for option, source in zip(names, (train, judged_on), strict=False):
        check_reread("records", **{option: source})
    seen = _read(train, by)
    wanted = (*dict.fromkeys((*asked, by)),) if asked else None
    known = _names(seen)
    columns = wanted or tuple(name for name in known if name == by or _all_numbers(seen, name))
    rows = _numbers(seen, columns, train)
    if judged_on is None:
        learnt, judged = _held_out(rows, least, train)
    else:
        learnt, judged = rows, _numbers(_read(judged_on, by), columns, judged_on)
        for source, part in ((train, learnt), (judged_on, judged)):
            _check_enough(part, least, source)
    for source, part in ((train, learnt), (judged_on or train, judged)):
        _check_differ(part[:, columns.index(by)], by, source)
    left = [name for name in known if name not in columns]
    why = "" if asked else ", for not all of their values are numbers"
    note = f"Columns that are not read{why}: {', '.join(map(str, left))}." if left else ""
    title = f"your records: {len(learnt):,} to learn from, {len(judged):,} to judge on, {len(columns)} columns"
    source = ", ".join(filter(None, (train, judged_on)))
    credit = Provenance(title, source=source, digest=_digest(learnt, judged), note=note)
    return Split(Records(columns, by, learnt), Records(columns, by, judged), credit)


Row = tuple[str, Mapping[str, Any]]


def _read(source: str, by: str) -> list[Row]:
    rows: list[Row] = [*read_rows(source, {by: (by,)}, what="records")]
    _check_column(by, _names(rows), source)
    return rows


def _names(rows: Sequence[Row]) -> list[str]:
    """Columns that any row has."""
    return [*dict.fromkeys(name for _, row in rows for name in row)]


def _numbers(rows: Sequence[Row], columns: Sequence[str], source: str) -> Float[Tensor, "rows columns"]:
    for name in columns:
        _check_column(name, _names(rows), source)
    found = []
    for where, row in rows:
        values = [number(row.get(name)) for name in columns]
        if None in values:
            name = columns[values.index(None)]
            raise ValueError(f"{where}: column {name!r} must be a number, got {shown(row.get(name))}; mend the row")
        found.append(values)
    return torch.tensor(found, dtype=torch.float64)  # times and numbers of a register are too long for float32


def _all_numbers(rows: Sequence[Row], name: str) -> bool:
    return all(number(row.get(name)) is not None for _, row in rows)


def _check_column(name: str, columns: Sequence[str], source: str) -> None:
    if name not in columns:
        raise ValueError(f"{source}: there is no column {name!r}{suggest(name, map(str, columns))}")


def _held_out(
    rows: Float[Tensor, "rows columns"], least: int, source: str
) -> tuple[Float[Tensor, "kept columns"], Float[Tensor, "held columns"]]:
    held = torch.arange(len(rows)) % _HELD_OUT == _HELD_OUT - 1
    for part in (rows[~held], rows[held]):
        _check_enough(part, least, source)
    return rows[~held], rows[held]


def _check_enough(rows: Float[Tensor, "rows columns"], least: int, source: str) -> None:
    if len(rows) < least:
        raise ValueError(
            f"{source}: has {len(rows)} records for sets of {least}, learnt from or judged on; give more, or lower "
            "--sizes"
        )


def _check_differ(keys: Float[Tensor, " rows"], by: str, source: str) -> None:
    if bool((keys == keys[0]).all()):
        raise ValueError(
            f"{source}: column {by!r} is {keys[0]:g} in every record learnt from or judged on; order by one that "
            "differs"
        )


def _digest(*parts: Tensor) -> str:
    return sha256(b"".join(one.numpy().tobytes() for one in parts)).hexdigest()[:16]
