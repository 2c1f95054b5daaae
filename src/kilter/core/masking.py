"""Ragged batches: lengths to masks, lists to padded tensors."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def length_mask(lengths: Int[Tensor, " batch"], size: int) -> Bool[Tensor, "batch size"]:
    """True where a position is inside its sequence.

    Example:
        >>> length_mask(torch.tensor([1, 3]), 3)
        tensor([[ True, False, False],
                [ True,  True,  True]])
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "rows longest"], Int[Tensor, " rows"]]:
    """Lists of ids as one tensor, filled up with 0, and their lengths.

    Example:
        >>> padded([[3, 4], [5]])
        (tensor([[3, 4],
                [5, 0]]), tensor([2, 1]))
    """
    lengths = [len(row) for row in rows]
    longest = max(lengths, default=0)
    filled = [[*row, *[0] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long).view(len(rows), longest), torch.tensor(lengths, dtype=torch.long)
