"""The delay penalty: hesitating is paid for in training, so that the model does not learn it.

Paper: W. Kang et al., "Delay-penalized transducer for low-latency streaming ASR", ICASSP 2023, arXiv 2211.00490.
Departure: k2 and icefall's network-side form (`nnet_delay_penalty`), which works with any CTC loss.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import at_least, check_log_probs, check_targets, check_values, floating, share
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.ops.ctc_sum import ctc_sum


def delay_penalty(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    *,
    penalty: float,
    threshold: float = 0.99,
    blank: int = 0,
) -> Float[Tensor, "batch time vocab"]:
    r"""Give the blank a bonus that grows while the model hesitates, so that hesitating pays without being learnt.

    $$\log p'_t(\varnothing) = \log p_t(\varnothing) + \lambda\,(t - c_t), \qquad
      c_t = \max\{\tau \le t : p_\tau(\varnothing) \ge \theta \text{ or } \tau = 0\}$$

    The frames since the last sure blank are those in which a token is on its way; giving their blanks probability
    for nothing in training leaves the network less reason to raise it. The result is not normalised: sum it with
    `DelayPenalty`, not with `torch.nn.functional.ctc_loss`, whose gradient supposes a log-softmax.

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames of each utterance; frames beyond are left as they are.
        penalty: λ, nats per frame.
        threshold: θ, the probability of a sure blank.
        blank: index of the blank.

    Returns:
        A new tensor like `log_probs`, differentiable; the bonus is a constant.

    Raises:
        TypeError, ValueError: shapes, dtypes, lengths or blank that do not fit, a negative penalty, a threshold
            outside 0..1.

    Example:
        >>> log_probs = torch.tensor([[[0.5, 0.5], [0.995, 0.005], [0.5, 0.5], [0.5, 0.5]]]).log()
        >>> penalised = delay_penalty(log_probs, torch.tensor([4]), penalty=0.1)
        >>> (penalised - log_probs)[0, :, 0]
        tensor([0.0000, 0.0000, 0.1000, 0.2000])

    Reference: the network-side delay penalty of k2-fsa/icefall (`nnet_delay_penalty`), after Kang et al., 2023.
    """
    check_log_probs(log_probs, input_lengths, blank)
    check_values(log_probs, input_lengths)
    at_least("penalty", penalty, 0)
    share("threshold", threshold)
    frames = torch.arange(log_probs.shape[1], device=log_probs.device)
    valid = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    sure = (log_probs[..., blank].detach().exp() >= threshold) & valid
    waited = frames - torch.where(sure, frames, 0).cummax(-1).values if len(frames) else frames.expand_as(valid)
    bonus = torch.zeros_like(log_probs)
    bonus[..., blank] = penalty * (waited * valid).to(log_probs.dtype)
    return log_probs + bonus


class DelayPenalty(Objective):
    r"""CTC of `delay_penalty`; used instead of the CTC loss, in training only.

    $$\mathcal L = -\frac1B \sum_b \log \sum_{a \in \mathcal B^{-1}(y)} \prod_{t<L} p'_t(a_t)$$

    Args:
        penalty: λ, nats per frame (icefall: 0.1 inside its lattice).
        threshold: θ, the probability of a sure blank.
        blank: index of the blank.

    Shape:
        - `log_probs`: float `(B, T, V)`; `input_lengths`, `target_lengths`: int `(B,)`; `targets`: int `(B, U)`.
        - returns `LossOutput`: mean over the batch, not divided by the target's length, as part `delay_penalty`.

    Raises:
        TypeError, ValueError: see `delay_penalty`; targets with the blank, outside the vocabulary, or with more
            tokens than there are frames (the utterance is named).

    Example:
        >>> log_probs = torch.randn(2, 30, 8).log_softmax(-1)
        >>> targets, lengths = torch.tensor([[1, 2, 2], [3, 4, 0]]), torch.tensor([3, 2])
        >>> out = DelayPenalty(penalty=0.1)(log_probs, torch.tensor([30, 25]), targets, lengths)

    Reference: k2-fsa/icefall (`nnet_delay_penalty`); Kang et al., "Delay-penalized transducer", arXiv 2211.00490.
    """

    def __init__(self, *, penalty: float, threshold: float = 0.99, blank: int = 0) -> None:
        super().__init__()
        at_least("penalty", penalty, 0)
        share("threshold", threshold)
        self.penalty = penalty
        self.threshold = threshold
        self.blank = blank

    def forward(
        self,
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch tokens"],
        target_lengths: Int[Tensor, " batch"],
    ) -> LossOutput:
        """Compute the loss; see the class."""
        floating("log_probs", log_probs, "apply log_softmax to the logits")
        log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
        penalised = delay_penalty(
            log_probs, input_lengths, penalty=self.penalty, threshold=self.threshold, blank=self.blank
        )
        check_targets(input_lengths, targets, target_lengths, vocab=log_probs.shape[2], blank=self.blank)
        total = ctc_sum(penalised, input_lengths, targets, target_lengths, blank=self.blank)
        loss = total.sum() / max(len(total), 1)
        return LossOutput(loss, {"delay_penalty": loss})
