"""From CTC log-probabilities to tokens with their times.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006 (best-path decoding).
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, readable
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import check_peaks, token_starts


@dataclass(frozen=True)
class Hypothesis:
    """One decoded utterance.

    Attributes:
        tokens: token ids.
        score: log-probability; of the best path for `ctc_greedy`.
        times: first frame of each token's run, 0-based.
    """

    tokens: list[int]
    score: float
    times: list[int]


def ctc_greedy(
    log_probs: Float[Tensor, "batch time vocab"], input_lengths: Int[Tensor, " batch"], *, blank: int = 0
) -> list[Hypothesis]:
    r"""Best path: the most probable token of each frame, collapsed.

    $$\hat a_t = \arg\max_v \log p_t(v), \qquad \text{score} = \sum_{t<L} \log p_t(\hat a_t)$$

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames of each utterance.
        blank: index of the blank.

    Returns:
        One hypothesis per utterance.

    Raises:
        TypeError: `log_probs` not floating point, `input_lengths` not integer.
        ValueError: shapes, lengths or blank out of range; on the CPU also log-probabilities that are positive, NaN
            or -inf for a whole frame.

    Example:
        >>> import torch
        >>> log_probs = torch.eye(3)[[0, 2, 2, 0, 1]].mul(9).log_softmax(-1)[None]
        >>> ctc_greedy(log_probs, torch.tensor([5]))[0].tokens
        [2, 1]

    Reference: Graves et al., ICML 2006, section 3.2.
    """
    check_log_probs(log_probs, input_lengths, blank)
    if not log_probs.shape[1]:
        return [Hypothesis([], 0.0, []) for _ in input_lengths]
    valid = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    best, path = log_probs.detach().float().max(-1)
    if readable(best):
        check_peaks(best, valid)
    scores = best.masked_fill(~valid, 0.0).sum(-1).tolist()
    starts = token_starts(path, valid, blank)
    counts = starts.sum(-1).tolist()
    tokens = path[starts].split(counts)
    times = starts.nonzero()[:, 1].split(counts)
    return [Hypothesis(t.tolist(), s, f.tolist()) for t, s, f in zip(tokens, scores, times, strict=True)]
