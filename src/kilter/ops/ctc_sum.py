"""The CTC sum of any scores, with its true gradient.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006; the recursion is torch's.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import check_log_probs, check_tokens, first, frames_needed, readable
from kilter.core.masking import length_mask

_LEAST = -1e4
"""What a score of -inf counts with: nothing, but a number, so that its gradient is 0 and not NaN."""


def ctc_sum(
    scores: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "texts tokens"],
    target_lengths: Int[Tensor, " texts"],
    *,
    blank: int,
) -> Float[Tensor, " texts"]:
    """Negative log of the sum, over the alignments of each target, of exp(their summed scores).

    torch's CTC differentiates as if its input were always a log-softmax; here the normaliser of each frame is taken
    out and put back, so the gradient is that of the value for scores of any kind.

    Args:
        scores: log-probabilities, or what else adds up over frames.
        input_lengths: valid frames of each utterance.
        targets: token ids of one target for each utterance, or of equally many for each, one utterance's after
            another's.
        target_lengths: their lengths.
        blank: index of the blank.

    Returns:
        One value per target; infinity, with gradient 0, where a target needs more frames than there are. A score of
        -inf counts with -10,000.

    Raises:
        TypeError: `scores` not floating point, targets or lengths not integer.
        ValueError: shapes, lengths or blank that do not fit; on the CPU also scores that are NaN or infinity, and
            targets with the blank or an id outside the vocabulary.

    Example:
        >>> scores = torch.tensor([[[0.1, 0.6, 0.3]]]).log()
        >>> ctc_sum(scores, torch.tensor([1]), torch.tensor([[1], [2]]), torch.tensor([1, 1]), blank=0).neg().exp()
        tensor([0.6000, 0.3000])
    """
    check_log_probs(scores, input_lengths, blank, "scores")
    check_tokens(targets, target_lengths, vocab=scores.shape[2], blank=blank)
    count = len(targets) // max(len(scores), 1)
    if count * len(scores) != len(targets):
        raise ValueError(f"targets has {len(targets)} rows for {len(scores)} utterances; give equally many for each")
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    lengths, target_lengths = (n.to(scores.device).long() for n in (input_lengths, target_lengths))
    inside = length_mask(target_lengths, targets.shape[1])
    targets = torch.where(inside, targets.to(scores.device), 0 if blank else 1)
    fits = frames_needed(targets, target_lengths) <= lengths.repeat_interleave(count)
    if not scores.shape[1] or not len(targets):
        return scores.sum() + torch.where(fits, 0.0, torch.inf)
    valid = length_mask(lengths, scores.shape[1])
    scores = torch.where(valid[..., None], scores, 0.0).clamp(min=_LEAST)
    normaliser = torch.where(valid, scores.logsumexp(-1), 0.0)
    if readable(normaliser) and (at := first(~(normaliser < torch.inf))):
        raise ValueError(f"utterance {at[0]}, frame {at[1]}: scores holds NaN or infinity; look at what they come from")
    lost = F.ctc_loss(
        scores.log_softmax(-1).transpose(0, 1).repeat_interleave(count, 1),
        targets,
        lengths.repeat_interleave(count),
        torch.where(fits, target_lengths, 0),
        blank,
        "none",
    )
    return torch.where(fits, lost - normaliser.sum(-1).repeat_interleave(count), torch.inf)
