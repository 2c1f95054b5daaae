"""Peak-First CTC: every frame imitates the one after it, so that tokens are emitted earlier.

Paper: Z. Tian et al., "Peak-First CTC: Reducing the Peak Latency of CTC Models by Applying Peak-First Regularization",
ICASSP 2023, arXiv 2211.03284.
Departure: no temperature, and a shift of one frame (our reading of the abstract).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import at_least, check_log_probs, check_values, floating, same_shape
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective


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
        TypeError, ValueError: shapes, dtypes or lengths that do not fit; on the CPU also log-probabilities that are
            positive, NaN or -inf for a whole frame.

    Example:
        >>> log_probs = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log()
        >>> peak_first(log_probs, torch.tensor([2]))
        tensor([0.3681])

    Reference: Tian et al., ICASSP 2023; no temperature and a shift of one frame (our reading of the abstract).
    """
    check_log_probs(log_probs, input_lengths, blank=0)
    check_values(log_probs, input_lengths)
    if teacher is not None:
        floating("teacher", teacher, "give log-probabilities")
        same_shape("teacher", teacher, log_probs.shape, "log_probs")
        check_values(teacher, input_lengths, "teacher")
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
        at_least("weight", weight, 0)
        self.weight = weight

    def forward(self, log_probs: Float[Tensor, "batch time vocab"], input_lengths: Int[Tensor, " batch"]) -> LossOutput:
        """Compute the term; see the class."""
        total = peak_first(log_probs, input_lengths)
        loss = self.weight * total.sum() / max(len(total), 1)
        return LossOutput(loss, {"peak_first": loss})
