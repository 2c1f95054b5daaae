"""Where each token of a known text is: the best CTC alignment of every utterance.

References: A. Graves et al., "Connectionist temporal classification", ICML 2006 (the lattice); L. Kürzinger et al.,
"CTC-Segmentation of Large Corpora for German End-to-end Speech Recognition", SPECOM 2020 (what it is good for).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, check_targets, check_values, first, readable
from kilter.core.masking import length_mask
from kilter.ops.ctc_viterbi import best_alignments


@torch.no_grad()
def ctc_forced_align(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    *,
    blank: int = 0,
) -> Int[Tensor, "batch time"]:
    r"""Most probable alignment that spells the target (Viterbi), e.g. to read off when each token is said.

    $$\hat a = \arg\max_{a:\, \mathcal B(a) = y} \sum_{t<L} \log p_t(a_t)$$

    Without gradient. Among alignments of one probability it is the one that, read from the end, ends in the blank
    and stays where it is as long as it can: the last token as early as possible, then the one before it. Extra
    memory is B·T·(2U+3) numbers, and where these are more than 2²⁶, about 2√T·B·(2U+3) for twice the time. They are of
    float32 (float64 for float64, and beyond 32,768 frames).

    Args:
        log_probs: log-softmax of the model's outputs; any float dtype, any strides.
        input_lengths: valid frames of each utterance.
        targets: token ids without blanks; anything beyond each length.
        target_lengths: tokens of each target; 0 gives an alignment of blanks.
        blank: index of the blank.

    Returns:
        Token id of each frame, blank included, blank beyond each length; int64. On an accelerator, where values are
        not checked, an utterance that cannot be aligned comes back as blanks only.

    Raises:
        TypeError: `log_probs` not floating point, lengths not integer.
        ValueError: shapes or blank out of range; on the CPU also lengths out of range, targets with the blank or ids
            outside the vocabulary, that need more frames than there are or have probability zero, and
            log-probabilities that are positive, NaN or -inf for a whole frame.

    Example:
        >>> log_probs = torch.eye(3)[[0, 2, 2, 0, 1]].mul(9).log_softmax(-1)[None]
        >>> ctc_forced_align(log_probs, torch.tensor([5]), torch.tensor([[2, 1]]), torch.tensor([2]))
        tensor([[0, 2, 2, 0, 1]])

    Reference: Graves et al., ICML 2006, section 4.1, with the maximum for the sum.
    """
    check_log_probs(log_probs, input_lengths, blank)
    check_targets(input_lengths, targets, target_lengths, vocab=log_probs.shape[2], blank=blank)
    check_values(log_probs, input_lengths)
    device = log_probs.device
    input_lengths, target_lengths = input_lengths.to(device, torch.long), target_lengths.to(device, torch.long)
    inside = length_mask(target_lengths, targets.shape[1])
    targets = targets.to(device, torch.long).where(inside, blank)
    path, score = best_alignments(log_probs, input_lengths, targets, target_lengths, blank)
    if readable(score) and (at := first(score == -torch.inf)):
        raise ValueError(
            f"utterance {at[0]}: targets have probability zero: log_probs is -inf where they need it; check that model "
            "and targets share one vocabulary, or leave the utterance out"
        )
    return path
