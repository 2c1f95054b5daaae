"""Bayes-Risk CTC: every alignment is weighed by when its tokens end, so that early ones count for more.

Paper: J. Tian et al., "Bayes risk CTC: Controllable CTC alignment in sequence-to-sequence tasks", ICLR 2023,
arXiv 2210.07499. Departure: an utterance that has too few frames is an error, it is not dropped silently.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import at_least, check_log_probs, check_targets, check_values, one_of
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.ops.ctc_lattice import NEVER, at_tokens, backwards, ctc_lattice, entrance, leaving, sweep

Variant = Literal["end", "end_mean", "exp_rel"]


def bayes_risk_ctc(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    *,
    risk: float,
    variant: Variant = "end",
    blank: int = 0,
) -> Float[Tensor, " batch"]:
    r"""Negative log of the risk-weighted probability of each target.

    With $g(u,t)$ the probability of all alignments whose token u occupies frame t last (t from 1 to L):

    $$\texttt{end}: -\log \sum_t g(U,t)\, e^{-\lambda t / L} \qquad
      \texttt{end\_mean}: -\tfrac1U \sum_u \log \sum_t g(u,t)\, e^{-\lambda t / L}$$
    $$\texttt{exp\_rel}: -\tfrac1U \sum_u \log \sum_t g(u,t)\, e^{-\lambda (t - t^*_u) / L}, \quad
      t^*_u = \arg\max_t g(u,t)$$

    Risk 0 is CTC. An empty target has no token to come late and gives its CTC loss. Two passes over the frames, one
    for the loss and one for its gradient, each forwards and backwards at once and for all utterances and states, in
    the log domain and float64. The gradient is exact and made together with the loss; it has no second derivative.

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames L of each utterance.
        targets: token ids, padded with anything beyond `target_lengths`.
        target_lengths: valid tokens U of each target.
        risk: λ, how much dearer the last frame is than the first, in nats; at least 0.
        variant: `end` weighs the end of the last token (the published down-sampling recipe), `end_mean` that of every
            token, `exp_rel` that of every token against where it is now (the published early-emission recipe).
        blank: index of the blank.

    Returns:
        One loss per utterance, not divided by the target's length; infinite, with gradient 0, where a target's token
        has probability 0 on every way.

    Raises:
        TypeError: `log_probs` not floating point, lengths not integer.
        ValueError: shapes, lengths or blank that do not fit, a negative risk, an unknown variant; on the CPU also
            targets with the blank, outside the vocabulary, or longer than the frames allow (the utterance is named),
            and log-probabilities that are positive, NaN or -inf for a whole frame.

    Example:
        >>> log_probs = torch.full((1, 2, 2), 0.5).log()  # "a" as _a, a_ or aa
        >>> bayes_risk_ctc(log_probs, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]), risk=0.0).exp()
        tensor([1.3333])
        >>> bayes_risk_ctc(log_probs, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]), risk=2.0).exp()
        tensor([6.2642])

    Reference: Tian et al., ICLR 2023, equations 7 to 12.
    """
    at_least("risk", risk, 0)
    one_of("variant", variant, Variant)
    check_log_probs(log_probs, input_lengths, blank)
    check_targets(input_lengths, targets, target_lengths, vocab=log_probs.shape[2], blank=blank)
    check_values(log_probs, input_lengths)
    given = (tensor.to(log_probs.device, torch.long) for tensor in (input_lengths, targets, target_lengths))
    return _BayesRisk.apply(log_probs, *given, risk, variant, blank)


class _BayesRisk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, *rest: Any) -> Tensor:
        loss, occupation = _loss_and_occupation(log_probs.detach(), *rest, needs_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(occupation)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (occupation,) = ctx.saved_tensors
        return -grad_outputs[0][:, None, None] * occupation, *[None] * 6


def _loss_and_occupation(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    risk: float,
    variant: Variant,
    blank: int,
    *,
    needs_gradient: bool,
) -> tuple[Float[Tensor, " batch"], Tensor]:
    """The loss, and how much of it is each frame's of each token: minus the gradient."""
    batch, frames, _ = log_probs.shape
    spoken = length_mask(target_lengths, targets.shape[1])
    valid = length_mask(input_lengths, frames).mT[..., None]
    lattice = ctc_lattice(log_probs, input_lengths, targets, target_lengths, blank)
    emissions, skip = lattice.emissions[:, :batch], lattice.skip[:batch]

    alpha, beta = sweep(lattice, entrance(lattice))
    leave = leaving(lattice, beta)
    ends = (alpha[..., 1::2] + leave).masked_fill(~(valid & spoken), NEVER)  # log g(u, t)
    weight = _weight(ends, input_lengths, risk, variant)
    mass = (ends + weight).logsumexp(0)
    counted = spoken & ~length_mask(target_lengths - 1, targets.shape[1]) if variant == "end" else spoken
    share = counted.double() / counted.sum(-1, keepdim=True).clamp(min=1)
    loss = -torch.where(counted, mass * share, 0.0).sum(-1)
    silent = target_lengths == 0
    loss = torch.where(silent, -torch.where(valid, emissions, 0.0)[..., 0].sum(0), loss)
    wide = torch.promote_types(log_probs.dtype, torch.float32)
    if not needs_gradient:
        return loss.to(wide), log_probs.new_empty(0)

    # the same sweep again, summing the probability of paths times the reward of the tokens they have ended
    reward = weight + torch.where(counted & mass.isfinite(), share.log() - mass, NEVER)
    source = torch.full_like(lattice.emissions, NEVER)
    ended = (reward + alpha[..., 1::2])[:-1]
    source[1:, :batch, 2::2] = ended
    source[1:, :batch, 3::2] = ended[..., :-1] + skip[:, 3::2]
    source[:, batch:] = backwards(lattice, at_tokens(reward + leave))
    ahead, behind = sweep(lattice, source)
    paths = (torch.logaddexp(ahead + beta, alpha + behind) - emissions).masked_fill(emissions == NEVER, NEVER).exp()
    paths[..., 0] = torch.where(silent, 1.0, paths[..., 0])
    paths = torch.where(valid, paths, 0.0).transpose(0, 1).to(wide)
    occupation = torch.zeros_like(log_probs, dtype=wide)
    occupation.scatter_add_(2, lattice.states[:, None].expand_as(paths), paths)
    return loss.to(wide), occupation


def _weight(
    ends: Float[Tensor, "time batch tokens"], input_lengths: Int[Tensor, " batch"], risk: float, variant: Variant
) -> Float[Tensor, "time batch tokens"]:
    """Minus the risk of ending at each frame, in nats."""
    frame = torch.arange(1, len(ends) + 1, device=ends.device, dtype=ends.dtype)[:, None, None]
    if variant == "exp_rel" and len(ends):
        frame = frame - (1 + ends.argmax(0))
    return (-risk * frame / input_lengths.clamp(min=1)[:, None]).expand_as(ends)


class BayesRiskCTC(Objective):
    r"""Bayes-Risk CTC: CTC in which alignments whose tokens end early weigh more; used instead of the CTC loss.

    $$\mathcal L = -\frac1B \sum_b \log \sum_t g_b(U,t)\, e^{-\lambda t / L_b} \quad (\texttt{variant="end"})$$

    Args:
        risk: λ, how much dearer the last frame is than the first, in nats; 0 is CTC.
        variant: `end`, `end_mean` or `exp_rel`, see `bayes_risk_ctc`; for earlier tokens take `exp_rel`.
        blank: index of the blank.

    Shape:
        - `log_probs`: float `(B, T, V)`; `input_lengths`, `target_lengths`: int `(B,)`; `targets`: int `(B, U)`.
        - returns `LossOutput`: mean over the batch, not divided by the target's length, as part `bayes_risk_ctc`.

    Raises:
        TypeError, ValueError: see `bayes_risk_ctc`.

    Example:
        >>> log_probs = torch.randn(2, 30, 8).log_softmax(-1)
        >>> targets, lengths = torch.tensor([[1, 2, 2], [3, 4, 0]]), torch.tensor([3, 2])
        >>> out = BayesRiskCTC(risk=5.0, variant="exp_rel")(log_probs, torch.tensor([30, 25]), targets, lengths)

    Reference: Tian et al., ICLR 2023, arXiv 2210.07499.
    """

    def __init__(self, *, risk: float, variant: Variant = "end", blank: int = 0) -> None:
        super().__init__()
        at_least("risk", risk, 0)
        one_of("variant", variant, Variant)
        self.risk = risk
        self.variant: Variant = variant
        self.blank = blank

    def forward(
        self,
        log_probs: Float[Tensor, "batch time vocab"],
        input_lengths: Int[Tensor, " batch"],
        targets: Int[Tensor, "batch tokens"],
        target_lengths: Int[Tensor, " batch"],
    ) -> LossOutput:
        """Compute the loss; see the class."""
        options = {"risk": self.risk, "variant": self.variant, "blank": self.blank}
        total = bayes_risk_ctc(log_probs, input_lengths, targets, target_lengths, **options)
        loss = total.sum() / max(len(total), 1)
        return LossOutput(loss, {"bayes_risk_ctc": loss})
