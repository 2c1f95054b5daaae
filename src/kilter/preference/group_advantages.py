"""Advantages within a group of samples and one reference answer: how far each reward is above the group's mean.

Where all rewards are the same there is no advantage, and not the rounding of one over `eps`.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import at_least, finite, first, floating, one_of, one_per_row, readable, shaped

Std = Literal["population", "sample"]

_ROUNDING = 8
"""How many steps of the floating point format rewards may be apart and count as the same."""


def group_advantages(
    rewards: Float[Tensor, "batch samples"],
    reference_rewards: Float[Tensor, " batch"] | None = None,
    *,
    reference_in_stats: bool = True,
    std: Std = "population",
    eps: float | int = 1e-4,
) -> tuple[Float[Tensor, "batch samples"], Float[Tensor, " batch"]]:
    r"""How much better each sample, and the reference, is than its group, in standard deviations of the group.

    $$A_i = \frac{R_i - \mu}{\sigma + \epsilon}, \qquad A_y = \frac{R_y - \mu}{\sigma + \epsilon}$$

    μ and σ are over the G samples and the reference: then the reference is learnt from where every sample fails
    ($A_i = -1/\sqrt G$, $A_y = \sqrt G$), and all advantages of a group sum to 0. Over the samples alone, the samples'
    advantages do, and a group whose samples have one reward teaches nothing.

    Args:
        rewards: R of each sample; NaN is one without a score, which is left out of μ and σ.
        reference_rewards: R of the reference; None is 0, as of a judge that compares each sample with it.
        reference_in_stats: μ and σ are over the reference too.
        std: σ of the "population", or Bessel's, of a "sample", which trl has.
        eps: ε.

    Returns:
        Advantages of samples and of references, without a graph, in at least float32: 0 of a sample without a score,
        and of a group without spread.

    Raises:
        TypeError: rewards that are not floating point.
        ValueError: shapes that do not fit, no samples, one sample where std="sample" and the reference does not count,
            an option out of range; on the CPU also an infinite reward, and one of a reference that is NaN.

    Example:
        >>> group_advantages(torch.tensor([[-1.0, -1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -1.0]]), eps=0)
        (tensor([[-0.5000, -0.5000, -0.5000, -0.5000],
                [ 0.7500,  0.7500,  0.7500, -1.7500]]), tensor([ 2.0000, -0.5000]))

    Reference: Wang et al., "Learning to Align, Aligning to Learn", 2025, eq. 4. Departures: the paper does not say what
    the statistics are over, nor what happens where σ is 0.
    """
    one_of("std", std, Std)
    at_least("eps", eps, 0)
    floating("rewards", rewards)
    shaped("rewards", rewards, "batch, samples", "give the rewards of each prompt's samples in a row")
    _check_values(rewards)
    samples = rewards.shape[1]
    if not samples:
        raise ValueError("rewards has no samples of any prompt; give the rewards of each prompt's samples in a row")
    if samples == 1 and std == "sample" and not reference_in_stats:
        raise ValueError(
            "rewards has one sample of each prompt, which has no standard deviation with std='sample' and without the "
            "reference; give more samples, or reference_in_stats=True"
        )
    wide = torch.promote_types(rewards.dtype, torch.float32)
    if reference_rewards is None:
        reference = rewards.new_zeros(len(rewards), dtype=wide)
    else:
        floating("reference_rewards", reference_rewards)
        one_per_row("reference_rewards", reference_rewards, len(rewards), "rewards", "give one for each row")
        finite("reference_rewards", reference_rewards, mend="give each reference a reward, or leave the row out")
        reference = reference_rewards.detach().to(wide)
    everyone = torch.cat([rewards.detach().to(wide), reference[:, None]], 1)
    counted = everyone if reference_in_stats else everyone[:, :-1]
    advantages = _standardised(everyone, counted, std == "sample", eps)
    return advantages[:, :-1], advantages[:, -1]


def _check_values(rewards: Tensor) -> None:
    if readable(rewards) and (at := first(rewards.isinf())):
        raise ValueError(f"row {at[0]}: rewards is infinite at sample {at[1]}; give numbers, NaN where there is none")


def _standardised(everyone: Tensor, counted: Tensor, bessel: bool, eps: float | int) -> Tensor:
    """Values less the mean, over the deviation, of `counted` (rows, some)."""
    known = ~counted.isnan()
    number = known.sum(1, keepdim=True)
    top = counted.nan_to_num(nan=-torch.inf).amax(1, keepdim=True)
    bottom = counted.nan_to_num(nan=torch.inf).amin(1, keepdim=True)
    largest = torch.maximum(top.abs(), bottom.abs())
    flat = (number < 2) | (top - bottom <= _ROUNDING * torch.finfo(counted.dtype).eps * largest)
    unit = (top - bottom).masked_fill(flat, 1)
    # in units of the spread: of large rewards a sum is rounded to more than that, and of tiny ones squares are 0
    everyone, counted = (everyone - bottom) / unit, (counted - bottom) / unit
    mean = counted.nan_to_num(nan=0).sum(1, keepdim=True) / number.clamp(min=1)
    squares = (counted - mean).nan_to_num(nan=0).square().sum(1, keepdim=True)
    deviation = (squares / (number - int(bessel)).clamp(min=1)).sqrt()
    advantages = (everyone - mean) / (deviation + eps / unit)
    return advantages.masked_fill(flat | everyone.isnan(), 0)
