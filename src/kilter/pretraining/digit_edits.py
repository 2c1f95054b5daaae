"""Positions whose digits look like another's: a digit more or less, two swapped, one replaced.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277: hard negatives.
"""

import torch
from jaxtyping import Int
from torch import Generator, Tensor


def edited(
    positions: Int[Tensor, "... axes"], digits: int, *, base: int = 10, generator: Generator | None = None
) -> Int[Tensor, "... axes"]:
    """Each position after one to three random edits of its digits, written without zeros in front.

    The digits of several axes are edited as one text, which is then cut at random. An edit for which there is no room
    is left out: a text has no more digits than `digits` for each axis, and keeps one for each.

    Args:
        positions: whole numbers from 0.
        digits: most digits of an axis.
        base: of the digits.
        generator: of the draws.

    Returns:
        Positions of the same shape; with several axes some may have more than `digits` digits after the cut.

    Example:
        >>> edited(torch.tensor([[1234]] * 4), 4, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1])
    """
    axes = positions.shape[-1]
    powers = torch.tensor([base**place for place in range(axes * digits + 1)], device=positions.device)
    value, length = _joined(positions, powers)
    edits = _draw(1, 4, value, generator)
    for turn in range(3):
        new, size = _edit(value, length, powers, base, generator)
        done = (turn < edits) & (size <= axes * digits) & (size >= axes)
        value, length = torch.where(done, new, value), torch.where(done, size, length)
    return _cut(value, length, axes, powers, generator)


def _joined(positions: Int[Tensor, "... axes"], powers: Tensor) -> tuple[Tensor, Tensor]:
    """Digits of all axes in one number, and how many they are."""
    value = length = torch.zeros_like(positions[..., 0])
    for one in positions.unbind(-1):
        size = (one[..., None] >= powers[1:]).sum(-1) + 1
        value, length = value * powers[size] + one, length + size
    return value, length


def _edit(
    value: Tensor, length: Tensor, powers: Tensor, base: int, generator: Generator | None
) -> tuple[Tensor, Tensor]:
    """One edit of each number, and how many digits it has then; places are counted from the right."""
    kind = _draw(0, 4, value, generator)
    place = _draw(0, length + (kind == 0), value, generator)
    other = _draw(0, length, value, generator)
    digit = _draw(0, base, value, generator)
    power, power_of_other = powers[place], powers[other]
    high, low = value.div(power, rounding_mode="floor"), value.remainder(power)
    here, there = high.remainder(base), value.div(power_of_other, rounding_mode="floor").remainder(base)
    rest = high.div(base, rounding_mode="floor") * power + low
    inserted = (high * base + digit) * power + low
    swapped = value + (there - here) * power + (here - there) * power_of_other
    replaced = value + (digit - here) * power
    choices = torch.stack([inserted, rest, swapped, replaced], -1)
    return choices.gather(-1, kind[..., None])[..., 0], length + (kind == 0).long() - (kind == 1).long()


def _cut(
    value: Tensor, length: Tensor, axes: int, powers: Tensor, generator: Generator | None
) -> Int[Tensor, "... axes"]:
    """Numbers cut into one for each axis, each of a digit at least."""
    parts: list[Tensor] = []
    for left in range(axes - 1, 0, -1):  # behind the cut there must be a digit for each axis that is left
        place = _draw(left, length, value, generator)
        parts.append(value.div(powers[place], rounding_mode="floor"))
        value, length = value.remainder(powers[place]), place
    return torch.stack([*parts, value], -1)


def _draw(low: int, high: int | Tensor, like: Tensor, generator: Generator | None) -> Tensor:
    """Whole numbers from `low` and below `high`, which may differ from place to place."""
    share = torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float64)
    return low + (share * (high - low)).long()
