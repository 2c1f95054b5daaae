"""How likely sampled answers and their references are, per token, and whose each sample is; checked."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import (
    finite,
    first,
    floating,
    integer,
    one_per_row,
    readable,
    same_shape,
    shaped,
    within,
)


class Likelihoods(NamedTuple):
    """Mean log-likelihoods and advantages of samples and references, and whose each sample is."""

    samples: Float[Tensor, " batch"]
    advantages: Float[Tensor, " batch"]
    reference: Float[Tensor, " prompts"]
    reference_advantages: Float[Tensor, " prompts"]
    group: Int[Tensor, " batch"]


def likelihoods(
    sample_log_probs: Tensor,
    sample_mask: Tensor,
    advantages: Tensor,
    reference_log_probs: Tensor,
    reference_mask: Tensor,
    reference_advantages: Tensor,
    group: Tensor | None,
) -> Likelihoods:
    """What a loss of samples and references needs, checked; arguments as of `group_relative_alignment`."""
    samples = mean_log_prob("sample_log_probs", sample_log_probs, "sample_mask", sample_mask)
    reference = mean_log_prob("reference_log_probs", reference_log_probs, "reference_mask", reference_mask)
    for name, given, of, like in (
        ("advantages", advantages, samples, "sample_log_probs"),
        ("reference_advantages", reference_advantages, reference, "reference_log_probs"),
    ):
        floating(name, given, "give what group_advantages returns")
        one_per_row(name, given, len(of), like, "give one for each row; advantages.flatten()")
        finite(name, given, mend="give what group_advantages returns")
    return Likelihoods(
        samples,
        advantages.detach().to(samples.dtype),
        reference,
        reference_advantages.detach().to(samples.dtype),
        _groups(group, len(samples), reference),
    )


def _groups(group: Tensor | None, rows: int, reference: Tensor) -> Tensor:
    """Which reference is each row's."""
    prompts = len(reference)
    if group is not None:
        integer("group", group, "hold integers", "number the references")
        one_per_row("group", group, rows, "sample_log_probs", "give the number of each row's reference")
        within("group", group, 0, prompts - 1, f"but reference_log_probs has {prompts} rows", row="row")
        return group.long()
    if rows % prompts if prompts else rows:
        raise ValueError(
            f"group is needed: sample_log_probs has {rows} rows and reference_log_probs {prompts}, which are not as "
            "many samples for each; say whose each row is"
        )
    return torch.arange(prompts, device=reference.device).repeat_interleave(rows // max(prompts, 1))


def mean_log_prob(name: str, log_probs: Tensor, mask_name: str, mask: Tensor) -> Tensor:
    """Mean of each row's log-probabilities, in at least float32; 0 where it has none."""
    floating(name, log_probs, "give log-probabilities of tokens")
    shaped(name, log_probs, "rows, tokens", "give the log-probability of each token, not of the vocabulary")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        integer(mask_name, mask, "be boolean, or 0 and 1", "use .bool()")
    same_shape(mask_name, mask, log_probs.shape, name)
    if mask.dtype != torch.bool:
        if readable(mask) and (at := first((mask != 0) & (mask != 1))):
            raise ValueError(f"row {at[0]}: {mask_name} is {int(mask[tuple(at)])}; give 0 and 1, or use .bool()")
        mask = mask.bool()
    inside = log_probs.masked_fill(~mask, 0).to(torch.promote_types(log_probs.dtype, torch.float32))
    finite(name, inside, mend="lower the learning rate, or mask what is no token")
    return inside.sum(1) / mask.sum(1).clamp(min=1)
