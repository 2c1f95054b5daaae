"""Vectors that are to be stored: taken as they are, checked piece by piece, brought to length 1; for `pair_search`."""

import warnings
from typing import Any

import torch
from torch import Tensor

from kilter.core.checks import floating, shaped

LOOK = "look where the encoder is given an empty text or overflows"

_PIECE = 1 << 22
"""Numbers that are looked at at once."""


def matrix(name: str, value: Any) -> Tensor:
    """As a tensor that shares the memory of what was given.

    Raises:
        TypeError: it is no tensor or array of floating point numbers.
        ValueError: it is no matrix.
    """
    if not isinstance(value, Tensor):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of arrays that are read-only, as all are to us
                value = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a tensor or an array (rows, dim), got {type(value).__name__}") from error
    floating(name, value)
    shaped(name, value, "rows, dim", "give one row for each text")
    return value.detach()


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    return x.split(max(1, _PIECE // x.shape[1]))


def longest_of(x: Tensor) -> float:
    """Length of the longest vector.

    Raises:
        ValueError: there is NaN or infinity; the row is named.
    """
    lengths = torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in _pieces(x)])
    for row in (~lengths.isfinite()).nonzero().flatten().tolist()[:1]:
        what = "NaN" if lengths[row].isnan() else "infinite"
        raise ValueError(f"row {row}: vectors is {what}; {LOOK}")
    return float(lengths.max())


def unit(name: str, x: Tensor) -> Tensor:
    """Of length 1.

    Raises:
        ValueError: a vector is zero; the row is named.
    """
    found = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part, whole_part in zip(_pieces(x), _pieces(found), strict=True):
        lengths = torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
        for row in (lengths == 0).nonzero().flatten().tolist()[:1]:
            raise ValueError(f"row {row}: {name} is zero, which has no direction; leave its text out, or cosine=False")
        whole_part.copy_(part / lengths[:, None])
    return found
