"""The vocabulary: one question about one tensor each, to be put together at the head of a function.

Dtype first, then shape, then values: each supposes what comes before it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def readable(*tensors: Tensor) -> bool:
    """Whether reading values of `tensors` costs neither a device synchronisation nor a graph break."""
    return all(tensor.device.type == "cpu" for tensor in tensors) and not torch.compiler.is_compiling()


def first(wrong: Tensor) -> list[int] | None:
    """Where a mask is true for the first time; None if nowhere.

    Example:
        >>> first(torch.tensor([[False, False], [False, True]]))
        [1, 1]
    """
    return wrong.nonzero()[0].tolist() if wrong.any() else None


# Dtypes ------------------------------------------------------------------------------------------------------------


def floating(name: str, tensor: Any, mend: str = "use .float()") -> None:
    """Check that `tensor` is a floating point tensor."""
    _tensor(name, tensor)
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}; {mend}")


def integer(name: str, tensor: Any, must: str = "be integers", mend: str = "use .long()") -> None:
    """Check that `tensor` is a tensor of integers; booleans are none. `must` says what they stand for.

    Example:
        >>> integer("document", torch.zeros(2), "hold integers", "number the documents")
        Traceback (most recent call last):
        TypeError: document must hold integers, got torch.float32; number the documents
    """
    _tensor(name, tensor)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must {must}, got {tensor.dtype}; {mend}")


def _tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")


# Shapes ------------------------------------------------------------------------------------------------------------


def shaped(name: str, tensor: Tensor, axes: str, mend: str = "") -> None:
    """Check that `tensor` has the axes named, such as `"batch, time"`."""
    if tensor.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} must be ({axes}), got shape {tuple(tensor.shape)}{_then(mend)}")


def same_shape(name: str, tensor: Tensor, shape: Sequence[int], of: str, mend: str = "") -> None:
    """Check that `tensor` has the `shape` of what is called `of`."""
    if tensor.shape != tuple(shape):
        raise ValueError(f"{name} must be shaped like {of} {tuple(shape)}, got {tuple(tensor.shape)}{_then(mend)}")


def one_per_row(name: str, tensor: Tensor, rows: int, of: str, mend: str = "") -> None:
    """Check that `tensor` is `(rows,)`, one number for each row of what is called `of`."""
    if tensor.shape != (rows,):
        raise ValueError(
            f"{name} must have shape ({rows},) like the batch of {of}, got {tuple(tensor.shape)}{_then(mend)}"
        )


def _then(mend: str) -> str:
    return f"; {mend}" if mend else ""


# Values, where they can be read ------------------------------------------------------------------------------------


def within(name: str, tensor: Tensor, low: int, high: int, but: str, *, row: str = "utterance", axis: int = 0) -> None:
    """Check that all values lie in `low`..`high`; rows are counted along `axis`, and `but` says what there is.

    Example:
        >>> within("input_lengths", torch.tensor([3, 5]), 0, 4, "but log_probs has 4 frames")
        Traceback (most recent call last):
        ValueError: utterance 1: input_lengths is 5, but log_probs has 4 frames
    """
    if readable(tensor) and (at := first((tensor < low) | (tensor > high))):
        raise ValueError(f"{row} {at[axis]}: {name} is {int(tensor[tuple(at)])}, {but}")


def finite(name: str, tensor: Tensor, *, row: str = "row", mend: str) -> None:
    """Check that no value is NaN or infinite; rows are counted along the first axis."""
    if not readable(tensor) or tensor.detach().sum().isfinite():  # one pass; a sum may overflow, so look twice
        return
    if at := first(~tensor.isfinite()):
        what = "NaN" if tensor[tuple(at)].isnan() else "infinite"
        raise ValueError(f"{row} {at[0]}: {name} is {what}; {mend}")


# Ragged batches ----------------------------------------------------------------------------------------------------


def lengths_fit(name: str, lengths: Any, rows: int, size: int, of: str, unit: str) -> None:
    """Check that `lengths` are integers `(rows,)` within 0..`size`, the number of `unit` in what is called `of`."""
    integer(name, lengths, f"be integers ({unit}, not fractions)")
    one_per_row(name, lengths, rows, of)
    within(name, lengths, 0, size, f"but {of} has {size} {unit}")


def mask_fits(name: str, mask: Any, shape: Sequence[int], of: str) -> None:
    """Check that `mask` holds booleans and has the `shape` of what is called `of`.

    Example:
        >>> mask_fits("mask", torch.ones(2, 3), (2, 3), "anchor")
        Traceback (most recent call last):
        TypeError: mask must be boolean, got torch.float32; use .bool()
    """
    _tensor(name, mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be boolean, got {mask.dtype}; use .bool()")
    same_shape(name, mask, shape, of)
