"""Other ways to earlier CTC tokens, to be compared with Align With Purpose on the same task.

Papers: Peak-First CTC (Tian et al., ICASSP 2023, arXiv 2211.03284); the delay penalty of k2 and icefall (Kang et al.,
ICASSP 2023, arXiv 2211.00490) in its network-side form, which works with any CTC loss.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, check_targets
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.ops.ctc_paths import check_values
from kilter.ops.ctc_sum import ctc_sum


def peak_first(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    teacher: Float[Tensor, "batch time vocab"] | None = None,
) -> Float[Tensor, " batch"]:
    r"""How much each frame's distribution differs from its right neighbour's, summed over frames.

    $$\sum_{t=0}^{L-2} \mathrm{KL}\bigl(\mathrm{sg}[P_{t+1}] \,\|\, P_t\bigr)$$

    The right neighbour is a constant (sg), so frames learn from what comes later and peaks move to the left.

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames L of each utterance.
        teacher: log-probabilities whose right neighbours are imitated, e.g. of a running mean of the model, without
            gradient; None is `log_probs` itself, held constant.

    Returns:
        One sum, in nats, per utterance; 0 for fewer than two frames.

    Raises:
        TypeError, ValueError: shapes, dtypes or lengths that do not fit.

    Example:
        >>> log_probs = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log()
        >>> peak_first(log_probs, torch.tensor([2]))
        tensor([0.3681])

    Reference: Tian et al., ICASSP 2023; no temperature and a shift of one frame (our reading of the abstract).
    """
    check_log_probs(log_probs, input_lengths, blank=0)
    check_values(log_probs, input_lengths)
    if teacher is not None and teacher.shape != log_probs.shape:
        raise ValueError(f"teacher must be shaped like log_probs {tuple(log_probs.shape)}, got {tuple(teacher.shape)}")
    log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    pairs = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])[:, 1:]
    left, right = log_probs[:, :-1], (log_probs.detach() if teacher is None else teacher)[:, 1:]
    counts = pairs[..., None] & (right > -torch.inf)  # a token that cannot come has nothing to teach
    gap = torch.where(counts, right, 0.0) - torch.where(counts, left, 0.0)
    return (torch.where(counts, right, -torch.inf).exp() * gap).sum((1, 2))


class PeakFirst(Objective):
    r"""Peak-First regularisation: every frame imitates the one after it; a term to add to CTC.

    $$\mathcal L = \mathcal L_{\text{CTC}} + \lambda \sum_{t=0}^{L-2} \mathrm{KL}(\mathrm{sg}[P_{t+1}] \| P_t)$$

    Needs no samples and no references, and moves the whole posterior rather than one alignment. Too large a weight
    makes a model fire before it knows the word.

    Args:
        weight: λ. The sum is over frames, so a weight of 0.003 to 0.01 is already strong.

    Shape:
        - `log_probs`: float `(B, T, V)`; `input_lengths`: int `(B,)`.
        - returns `LossOutput`: the weighted mean over the batch as part `peak_first`.

    Raises:
        TypeError, ValueError: see `peak_first`; a negative weight.

    Example:
        >>> log_probs = torch.randn(2, 30, 8).log_softmax(-1)
        >>> out = PeakFirst(weight=0.01)(log_probs, torch.tensor([30, 25]))
        >>> list(out.parts)
        ['peak_first']

    Reference: Tian et al., "Peak-First CTC", ICASSP 2023, arXiv 2211.03284.
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        if not 0 <= weight < torch.inf:
            raise ValueError(f"weight must be at least 0 and finite, got {weight}")
        self.weight = weight

    def forward(self, log_probs: Float[Tensor, "batch time vocab"], input_lengths: Int[Tensor, " batch"]) -> LossOutput:
        """Compute the term; see the class."""
        total = peak_first(log_probs, input_lengths)
        loss = self.weight * total.sum() / max(len(total), 1)
        return LossOutput(loss, {"peak_first": loss})


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
    _check_penalty(penalty, threshold)
    frames = torch.arange(log_probs.shape[1], device=log_probs.device)
    valid = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    sure = (log_probs[..., blank].detach().exp() >= threshold) & valid
    waited = frames - torch.where(sure, frames, 0).cummax(-1).values if len(frames) else frames.expand_as(valid)
    bonus = torch.zeros_like(log_probs)
    bonus[..., blank] = penalty * (waited * valid).to(log_probs.dtype)
    return log_probs + bonus


def _check_penalty(penalty: float, threshold: float) -> None:
    if not 0 <= penalty < torch.inf or not 0 <= threshold <= 1:
        raise ValueError(f"penalty must be at least 0 and threshold within 0..1, got {penalty} and {threshold}")


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
        _check_penalty(penalty, threshold)
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
        log_probs = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
        penalised = delay_penalty(
            log_probs, input_lengths, penalty=self.penalty, threshold=self.threshold, blank=self.blank
        )
        check_targets(input_lengths, targets, target_lengths, vocab=log_probs.shape[2], blank=self.blank)
        total = ctc_sum(penalised, input_lengths, targets, target_lengths, blank=self.blank)
        loss = total.sum() / max(len(total), 1)
        return LossOutput(loss, {"delay_penalty": loss})
