"""Which column of a data set of sentence-transformers feeds which argument of an objective. Torch only.

The library tokenises every column but one, and tells columns by their order; the one that is left, the label, holds
numbers, or a list of numbers in each row.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kilter.core.errors import suggest
from kilter.core.glossary import INPUTS
from kilter.core.objective import Objective

_MATRIX = "Float (batch, outputs)"
"""What takes all numbers of a label column's rows that others leave."""
_NUMBERS = ("Int (batch,)", "Float (batch,)", _MATRIX)
_NAME = "kilter_column"
"""Under which key a tokenised column carries its name."""


class Columns:
    """What an objective's `forward` asks of a data set.

    Args:
        objective: whose arguments are asked for by the names of `kilter.core.glossary`; others that have no default are
            taken for vectors.
        labels: see `as_st_loss`.

    Attributes:
        vectors: arguments that text columns feed, in the order of `forward`.
        labels: arguments that the label column feeds.
        required: arguments without which it cannot be called.
        stacked: the one of `vectors` takes all text columns.
    """

    def __init__(self, objective: Objective, labels: str | tuple[str, ...] | None = None) -> None:
        self.owner = type(objective).__name__
        parameters = inspect.signature(objective.forward).parameters
        self.required = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
        self.labels = self._labels(labels, parameters)
        vectors = [name for name in parameters if name not in self.labels and self._is_vector(name)]
        self.stacked = any(_kind(name).startswith("Float (views, batch, dim)") for name in vectors)
        self.vectors = tuple(vectors)
        strange = self.required - {*vectors, *self.labels}
        if strange or not vectors or (self.stacked and len(vectors) > 1):
            names = ", ".join(sorted(strange or parameters))
            raise TypeError(
                f"{self.owner} asks for {names}; sentence-transformers has vectors of texts, one matrix for each "
                "column or all of them stacked as views, and numbers of each row, one integer unless labels names them"
            )

    def _labels(self, labels: str | tuple[str, ...] | None, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        if labels is None:
            return tuple(name for name in parameters if _kind(name).startswith(_NUMBERS))
        names = (labels,) if isinstance(labels, str) else tuple(labels)
        for name in names:
            if name not in parameters:
                raise ValueError(f"labels: {self.owner} takes no {name!r}{suggest(name, parameters)}")
        if len({*names}) < len(names):
            raise ValueError(f"labels: each argument once, got {', '.join(names)}")
        return names

    def _is_vector(self, name: str) -> bool:
        known = _kind(name)
        return known.startswith(("Float (batch, dim)", "Float (views, batch, dim)")) or (
            not known and name in self.required
        )

    def names(self, columns: Sequence[dict[str, Any]], labelled: bool) -> list[str]:
        """Take from tokenised columns the names they carry; those of `vectors` in order where they carry none.

        Raises:
            ValueError: columns more than there are arguments, or too few.
        """
        found = [features.pop(_NAME, None) for features in columns]
        if self.stacked:
            names = [*self.vectors] * bool(columns)
        else:
            names = [*self.vectors[: len(columns)]] if None in found else found
        missing = self.required - {*names} - ({*self.labels} if labelled else set())
        if missing or (len(names) != len(columns) and not self.stacked):
            what = f"no {', '.join(sorted(missing))}" if missing else f"{len(columns)} text columns"
            numbers = f", and {', '.join(self.labels)} (numbers in a column label)" if self.labels else ""
            every = "stacked as " if self.stacked else ""
            raise ValueError(
                f"the data has {what}; {self.owner} takes text columns {every}{', '.join(self.vectors)}{numbers}"
            )
        return names

    def arguments(
        self, names: Sequence[str], vectors: Sequence[Tensor], labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The objective's arguments by name.

        Raises:
            ValueError: rows of the label column hold more numbers than `labels` names, or fewer.
        """
        given = dict(zip(names, [torch.stack([*vectors])] if self.stacked else vectors, strict=True))
        if labels is None or not self.labels:
            return given
        table = labels.flatten(1) if labels.ndim > 1 else labels[:, None]
        matrix = [name for name in self.labels if _kind(name).startswith(_MATRIX)][:1]
        left = table.shape[1] - len(self.labels) + 1  # numbers of the one that takes several
        if left < 1 or (left > 1 and not matrix):
            raise ValueError(
                f"rows of the label column hold {table.shape[1]} numbers; they feed {', '.join(self.labels)} of "
                f"{self.owner}, so {len(self.labels)} {'or more ' * len(matrix)}are needed"
            )
        widths = [left if name in matrix else 1 for name in self.labels]
        columns = zip(self.labels, table.split(widths, 1), strict=True)
        return given | {name: _typed(name, column if name in matrix else column[:, 0]) for name, column in columns}


def check_labels(rows: Any, names: Iterable[str]) -> None:
    """Refuse label columns of texts, which a host would only stumble over when it makes them tensors.

    Args:
        rows: a data set of `datasets`, or several by name; None and those that do not know their columns are not told.
        names: what label columns are called.

    Raises:
        ValueError: a label column holds texts, or lists of them.
    """
    for one in rows.values() if isinstance(rows, Mapping) else [rows]:
        for name, kind in (getattr(one, "features", None) or {}).items():
            while (inner := getattr(kind, "feature", None)) is not None:
                kind = inner
            if name in names and "string" in str(getattr(kind, "dtype", "")):
                raise ValueError(
                    f"column {name!r} holds texts; it must hold numbers: give each text one (of languages, "
                    "ContextPrediction.numbers does), or call the column something else if it is to be encoded"
                )


def _kind(name: str) -> str:
    return INPUTS.get(name, "")


def _flat(values: Iterable[Any]) -> list[Any]:
    """Numbers of several columns of a row, some of which hold a list."""
    return [number for value in values for number in (value if isinstance(value, list | tuple) else [value])]


def _typed(name: str, column: Tensor) -> Tensor:
    """A list of integers and floats arrives as floats; what is to be whole becomes so again."""
    if _kind(name).startswith("Int"):
        if column.is_floating_point() and bool((broken := column != column.round()).any()):
            row = int(broken.nonzero()[0])
            raise ValueError(f"row {row} of the label column has {float(column[row]):g} for {name}, an integer")
        return column.long()
    return column.float() if _kind(name).startswith("Float") else column


class ByName:
    """A collator that picks an objective's columns by name, says which is which, and leaves the rest to the host's."""

    def __init__(self, collator: Any, columns: Columns) -> None:
        self.collator = collator
        self.columns = columns

    @property
    def valid_label_columns(self) -> list[str]:
        """What the host's batch samplers ask for."""
        return [*self.columns.labels] or ["label"]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Tokenise; each column carries its name."""
        there = [*rows[0]] if rows else []
        labels = [name for name in self.columns.labels if name in there]
        texts = self._texts(there)
        have = {*labels, *(self.columns.vectors if self.columns.stacked and texts else texts)}
        if missing := self.columns.required - have:
            raise ValueError(
                f"the data lacks the columns {', '.join(sorted(missing))}; it has {', '.join(there)}: rename them"
            )
        if labels and len(labels) < len(self.columns.labels):
            absent = ", ".join(name for name in self.columns.labels if name not in labels)
            raise ValueError(f"the data lacks the columns {absent}, which labels names beside {', '.join(labels)}")
        kept = [name for name in ("dataset_name", *texts) if name in there]
        picked = [{name: row[name] for name in kept} for row in rows]
        for old, new in zip(rows, picked, strict=True):
            if labels:
                new["label"] = _flat(old[name] for name in labels) if len(labels) > 1 else old[labels[0]]
        return self.collator(picked) | {f"{name}_{_NAME}": name for name in texts}

    def _texts(self, there: Iterable[str]) -> list[str]:
        if self.columns.stacked:
            return [name for name in there if name not in ("dataset_name", "label", *self.columns.labels)]
        return [name for name in self.columns.vectors if name in there]
