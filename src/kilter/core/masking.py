"""Ragged batches: lengths to masks."""

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
