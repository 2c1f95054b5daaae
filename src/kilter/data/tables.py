"""The small tables that scikit-learn brings: what a linear model learns from in seconds, cut into domains if wanted.

The departure: columns are standardised, so that one step size does for every table.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.errors import extra, suggest

TABLES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


class Table(NamedTuple):
    """Features with mean 0 and variance 1 (a column that is constant: 0), what to predict, and the columns' names."""

    features: Float[Tensor, "rows columns"]
    targets: Float[Tensor, " rows"]
    names: tuple[str, ...]


def load_table(name: str) -> Table:
    """Read a table, one of `TABLES`; of those with classes the targets are their numbers.

    Raises:
        ValueError: There is no such table.
        ModuleNotFoundError: scikit-learn is missing; the extra that brings it is named.
    """
    if name not in TABLES:
        raise ValueError(f"scikit-learn brings no table {name!r} that is read here{suggest(name, TABLES)}")
    found = getattr(extra("sklearn.datasets"), f"load_{name}")()
    values = torch.tensor(found.data, dtype=torch.float32)
    spread = values.std(0, correction=0)
    features = (values - values.mean(0)) / torch.where(spread > 0, spread, 1)
    return Table(features, torch.tensor(found.target, dtype=torch.float32), tuple(map(str, found.feature_names)))


def quantile_domains(column: Float[Tensor, " rows"], count: int) -> Int[Tensor, " rows"]:
    """The domain of each row, 0 to count - 1, by its rank in a column: `count` domains whose sizes differ by one.

    Example:
        >>> quantile_domains(torch.tensor([3.0, 1.0, 2.0, 9.0]), 2)
        tensor([1, 0, 0, 1])
    """
    if not 0 < count <= len(column):
        raise ValueError(f"count={count} must be from 1 to the number of rows, {len(column)}")
    return column.argsort(stable=True).argsort() * count // len(column)
