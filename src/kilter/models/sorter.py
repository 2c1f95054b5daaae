"""A model that puts records in order, as people keep it: a network for sets, and what it reads of a record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.tables import number, shown
from kilter.models.saved_modules import load_module, save_module
from kilter.models.set_encoders import DeepSets, SetTransformer
from kilter.seq2seq import PointerNetwork, ReadProcessWrite

_KINDS: dict[str, Any] = {one.__name__: one for one in (ReadProcessWrite, PointerNetwork, DeepSets, SetTransformer)}
_SAID = ("columns", "by", "mean", "spread")
"""What is kept beside the network."""


@dataclass
class Sorter:
    """Orders sets of records by what it has learnt.

    Attributes:
        network: a `ReadProcessWrite`, or another with its calls.
        columns: of a record, the numbers that are read.
        by: the column that it has learnt to sort by.
        mean: of each column, which is taken off.
        spread: of each column, by which the rest is divided.

    Example:
        >>> sorter = Sorter(ReadProcessWrite(2, 8, mask_visited=True), ("size", "age"), "age", (0.0, 0.0), (1.0, 1.0))
        >>> sorted(sorter.order([{"size": 1.0, "age": 3.0}, {"size": 2.0, "age": 1.0}]))
        [0, 1]
    """

    network: Any
    columns: tuple[str, ...]
    by: str
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    def order(self, records: Sequence[Mapping[str, Any]]) -> list[int]:
        """Places of the records in the order that the network writes; sure to be each once if it masks those visited.

        Args:
            records: a set, about as large as those that it learnt from; numbers, or texts of them as a csv has them.

        Raises:
            ValueError: there is no record, or one lacks a number that is read.
        """
        if not records:
            raise ValueError("records: there is none; give the records of a set")
        rows = []
        for place, record in enumerate(records):
            row = [number(record.get(name)) for name in self.columns]
            if None in row:
                name = self.columns[row.index(None)]
                raise ValueError(f"record {place}: column {name!r} must be a number, got {shown(record.get(name))}")
            rows.append(row)
        device = next(self.network.parameters()).device
        items = self.scaled(torch.tensor(rows, dtype=torch.float64))[None].to(device)
        return self.network.eval().decode(items)[0].tolist()

    def scaled(self, values: Float[Tensor, "*sets columns"]) -> Float[Tensor, "*sets columns"]:
        """Columns as the network reads them; what differs little beside its size, as times do, is still told apart."""
        mean, spread = (torch.tensor(one, dtype=torch.float64) for one in (self.mean, self.spread))
        return ((values.double() - mean) / spread).float()

    def save(self, folder: str | PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, each of which is whole or not there."""
        about = {name: getattr(self, name) for name in _SAID}
        network = {"kind": type(self.network).__name__, **self.network.config()}
        save_module(folder, self.network, architectures=["Sorter"], network=network, **about)

    @classmethod
    def load(cls, folder: str | PathLike[str], device: str = "cpu") -> "Sorter":
        """Read what `save` wrote.

        Raises:
            ValueError: the folder holds no such model that is whole.
        """

        def make(about: dict[str, Any]) -> Any:
            if missing := [name for name in _SAID if name not in about]:
                raise ValueError(f"nothing is said of {missing[0]}")
            options = {name: value for name, value in about["network"].items() if name != "kind"}
            return _KINDS[about["network"]["kind"]](**options)

        network, about = load_module(folder, "model of records", make)
        said: Any = {name: tuple(about[name]) for name in _SAID if name != "by"}
        return cls(network.to(device).eval(), by=about["by"], **said)
