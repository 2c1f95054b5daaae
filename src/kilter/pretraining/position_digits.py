"""Positions written as digits, which is how a sequential position encoder reads them.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from kilter.core.checks import first, integer, readable, whole


def position_digits(
    positions: Int[Tensor, "..."], num_digits: int, *, base: int = 10, axes: int = 1
) -> Int[Tensor, "... digits"]:
    r"""Digits of positions, the highest first, filled up with zeros on the left.

    $$p = \sum_{t=0}^{D-1} d_t\, b^{D-1-t}$$

    Of a position on a grid, the digits of its axes stand one after another, rows before columns.

    Args:
        positions: whole numbers from 0, of any shape; with more than one axis the last dimension holds one number for
            each.
        num_digits: D, digits of an axis.
        base: b, from 2.
        axes: numbers of a position.

    Shape:
        - `positions`: int `(…,)`, or `(…, axes)` for more than one.
        - returns long `(…, axes · num_digits)`.

    Raises:
        TypeError: positions that are not integers: what lies between two positions has no digits.
        ValueError: an option out of range, another number of axes; on the CPU also a negative position, or one with
            more digits than `num_digits` (elsewhere its highest digit is then outside 0..b-1, so that no look-up
            takes it for another).

    Example:
        >>> position_digits(torch.tensor([123, 7]), 5)
        tensor([[0, 0, 1, 2, 3],
                [0, 0, 0, 0, 7]])
        >>> position_digits(torch.tensor([12, 7]), 2, axes=2)
        tensor([1, 2, 0, 7])

    Reference: Li et al., 2025.
    """
    whole("num_digits", num_digits, 1)
    whole("base", base, 2)
    whole("axes", axes, 1)
    check_positions(positions, num_digits, base, axes)
    powers = torch.tensor([base**place for place in reversed(range(num_digits))], device=positions.device)
    rest = positions.long()[..., None].div(powers, rounding_mode="floor")
    digits = torch.cat([rest[..., :1], rest[..., 1:].remainder(base)], -1)
    return digits if axes == 1 else digits.flatten(-2)


def check_positions(positions: Tensor, num_digits: int, base: int, axes: int, *, option: str = "num_digits") -> None:
    """Check that every position can be written with so many digits; `option` is what the caller can make larger.

    Raises:
        TypeError, ValueError: see `position_digits`.
    """
    integer("positions", positions, "be whole numbers", "round them: what lies between positions has no digits")
    if axes > 1 and (not positions.ndim or positions.shape[-1] != axes):
        raise ValueError(
            f"positions must be (…, {axes}), one number for each of axes={axes}, got shape {tuple(positions.shape)}"
        )
    if base**num_digits > torch.iinfo(torch.int64).max:
        raise ValueError(f"num_digits={num_digits} digits of base {base} are more than 64 bits hold; lower num_digits")
    if not readable(positions):
        return
    positions = positions.reshape(positions.shape or (1,))
    if at := first(positions < 0):
        raise ValueError(
            f"positions[{_text(at)}] is {int(positions[tuple(at)])}{_axis(at, axes)}, but positions count from 0; "
            "shift them, or mask what is padding"
        )
    largest = base**num_digits - 1
    if largest <= torch.iinfo(positions.dtype).max and (at := first(positions > largest)):
        raise ValueError(
            f"positions[{_text(at)}] is {int(positions[tuple(at)])}{_axis(at, axes)}, which has more than "
            f"{num_digits} digits of base {base}; the largest is {largest}: give a larger {option}"
        )


def _text(at: list[int]) -> str:
    return ", ".join(map(str, at))


def _axis(at: list[int], axes: int) -> str:
    return f" on axis {at[-1]}" if axes > 1 else ""


def digits_needed(max_position: int, base: int = 10) -> int:
    """Digits of the largest position below `max_position`.

    Example:
        >>> digits_needed(20_000), digits_needed(10_000), digits_needed(100)
        (5, 4, 2)
    """
    digits = 1
    while base**digits < max_position:
        digits += 1
    return digits
