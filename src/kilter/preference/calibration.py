"""How often a text wins against the base model's own on its prompt: a reward that no scale and no prompt changes.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
Departure: powers of the win probability without bias (`power`).
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from kilter.core.checks import first, readable, shaped, whole

_FEW = 16
"""Rewards of a prompt up to which comparing them with all references costs less than sorting those."""

_AT_ONCE = 1_000_000
"""Comparisons that are held in memory."""


@torch.no_grad()
def calibrate(
    rewards: Num[Tensor, "batch samples"] | Num[Tensor, " batch"],
    reference: Num[Tensor, "batch references"],
    *,
    power: int = 1,
    presorted: bool = False,
) -> Float[Tensor, "batch samples"] | Float[Tensor, " batch"]:
    r"""The share of the base model's rewards on a prompt that a reward beats; ties count ½.

    $$\hat C(x, y) = \frac{1}{K} \sum_k \Big( [r(x, y) > r(x, z_k)] + \tfrac12 [r(x, y) = r(x, z_k)] \Big)$$

    Of K drawn from the base it is unbiased, with a variance of C(1−C)/K, and uniform for y of the base. Its powers are
    not unbiased: `power=m` is the mean over all m of the K, different ones, of the product of their terms, which is.

    Args:
        rewards: r(x, y), one or several for each prompt. NaN stays NaN.
        reference: r(x, z), of answers that the base model drew to the same prompt; NaN is one that is missing.
        power: m, of Cᵐ.
        presorted: whether each row of `reference` rises already, with NaN last; spares sorting them.

    Returns:
        Ĉᵐ shaped like `rewards`, within 0..1, at least float32, without a graph.

    Raises:
        TypeError: no tensors, booleans or complex numbers, `power` that is no whole number.
        ValueError: other shapes, `power` below 1; on the CPU also a row with fewer than `power` references, or one that
            is not sorted where `presorted` says so.

    Example:
        >>> base = torch.tensor([[0.1, 0.5, 0.5, 0.9]])
        >>> calibrate(torch.tensor([[0.0, 0.5, 0.7, 1.0]]), base)
        tensor([[0.0000, 0.5000, 0.7500, 1.0000]])
        >>> calibrate(torch.tensor([0.7]), base, power=2)  # 3 of 6 pairs are beaten twice
        tensor([0.5000])

    Reference: Balashankar et al., ICML 2025.
    """
    _check(rewards, reference, power)
    dtype = torch.promote_types(rewards.dtype, reference.dtype)
    known = torch.isnan(reference).logical_not_().sum(-1, keepdim=True)
    if readable(reference) and (at := first(known < power)):
        raise ValueError(
            f"row {at[0]}: reference has {int(known[tuple(at)])} rewards that are not NaN, and needs {power}; "
            "draw more of the base model, or leave the prompt out"
        )
    levels, asked = reference.to(dtype).contiguous(), rewards.to(dtype)
    asked = (asked[:, None] if asked.ndim == 1 else asked).contiguous()
    if presorted and readable(levels) and (at := first(~(levels[:, :-1] <= levels[:, 1:]) & ~levels[:, 1:].isnan())):
        raise ValueError(f"row {at[0]}: reference falls after place {at[1]}, or is NaN there; leave presorted out")
    if asked.shape[1] <= _FEW and not presorted:
        below, upto = _compared(asked, levels)
    else:
        below, upto = _searched(asked, levels if presorted else levels.sort(-1).values, known)
    out = torch.promote_types(rewards.dtype if rewards.is_floating_point() else torch.float32, torch.float32)
    found = (below + upto).to(out) / (2 * known) if power == 1 else _of_subsets(below, upto - below, known, power)
    return found.to(out).masked_fill(torch.isnan(asked), torch.nan).view(rewards.shape)


def _compared(asked: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """How many of a row are below each, and how many are not above it; each with each."""
    slices = max(1, _AT_ONCE // max(1, asked.shape[1] * levels.shape[1]))
    pairs = [(a[:, :, None], b[:, None]) for a, b in zip(asked.split(slices), levels.split(slices), strict=True)]
    below, upto = ([how(a, b).sum(-1) for a, b in pairs] for how in (torch.gt, torch.ge))
    return torch.cat(below), torch.cat(upto)


def _searched(asked: Tensor, levels: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The same in sorted rows, by one search; where a tie ends is looked up."""
    if levels.is_floating_point():
        levels = levels.masked_fill(torch.isnan(levels), torch.inf)
    ends = torch.searchsorted(levels, levels, right=True).minimum(known)
    below = torch.searchsorted(levels, asked)
    at = below.clamp(max=levels.shape[1] - 1)
    return below, torch.where(levels.gather(1, at) == asked, ends.gather(1, at), below)


def _of_subsets(less: Tensor, equal: Tensor, known: Tensor, power: int) -> Float[Tensor, "batch samples"]:
    """Mean over all subsets of that size of the product of 1 for each that is less, and ½ for each that is equal."""
    found = torch.zeros_like(less, dtype=torch.float64)
    for ties in range(power + 1):  # in logarithms: of hundreds the counts themselves overflow
        ways = _log_choose(less, power - ties) + _log_choose(equal, ties) - _log_choose(known, power)
        found = found + (ways - ties * math.log(2)).exp()
    return found


def _log_choose(count: Tensor, size: int) -> Tensor:
    """Of how many subsets of that size there are; -inf where there are none."""
    count = count.double()
    return torch.lgamma(count + 1) - torch.lgamma(count + 1 - size) - math.lgamma(size + 1)


def _check(rewards: Any, reference: Any, power: Any) -> None:
    for name, tensor in (("rewards", rewards), ("reference", reference)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name} must hold numbers, got {tensor.dtype}; use .float()")
    if rewards.ndim not in (1, 2):
        raise ValueError(f"rewards must be (batch) or (batch, samples), got shape {tuple(rewards.shape)}")
    shaped("reference", reference, "batch, references")
    if len(reference) != len(rewards):
        raise ValueError(f"reference has {len(reference)} rows, rewards {len(rewards)}; give one for each prompt")
    whole("power", power, 1)
