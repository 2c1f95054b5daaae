"""Bayes-Risk CTC: every alignment is weighed by when its tokens end, so that early ones count for more.

Paper: J. Tian et al., "Bayes risk CTC: Controllable CTC alignment in sequence-to-sequence tasks", ICLR 2023,
arXiv 2210.07499. Departure: an utterance that has too few frames is an error, it is not dropped silently.
"""

from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, check_targets
from kilter.core.masking import length_mask
from kilter.core.objective import LossOutput, Objective
from kilter.ops.ctc_paths import check_values

Variant = Literal["end", "end_mean", "exp_rel"]

_NEVER = -torch.inf


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
    check_log_probs(log_probs, input_lengths, blank)
    _check_options(risk, variant)
    check_targets(input_lengths, targets, target_lengths, vocab=log_probs.shape[2], blank=blank)
    check_values(log_probs, input_lengths)
    given = (tensor.to(log_probs.device, torch.long) for tensor in (input_lengths, targets, target_lengths))
    return _BayesRisk.apply(log_probs, *given, risk, variant, blank)


def _check_options(risk: float, variant: str) -> None:
    if not 0 <= risk < torch.inf:
        raise ValueError(f"risk must be at least 0 and finite, got {risk}")
    if variant not in get_args(Variant):
        raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {variant!r}")


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


class _Lattice(NamedTuple):
    """Blank and token by turns: the states of every utterance, and as further rows the same read backwards."""

    emissions: Float[Tensor, "time rows states"]
    skip: Float[Tensor, "rows states"]
    """0 where a token may follow the token before it without a blank between, else -inf."""
    frame: Int[Tensor, "time batch"]
    """Each utterance's frames from its last to its first."""
    state: Int[Tensor, "batch states"]
    """Its states from the last to the first."""


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
    states = torch.full((batch, 2 * targets.shape[1] + 1), blank, device=log_probs.device)
    states[:, 1::2] = torch.where(spoken, targets, blank)
    valid = length_mask(input_lengths, frames).mT[..., None]
    lattice = _lattice(log_probs, states, valid, input_lengths, target_lengths)
    emissions, skip = lattice.emissions[:, :batch], lattice.skip[:batch]

    start = torch.full_like(lattice.emissions[:1], _NEVER)
    start[..., 0] = 0.0
    start[..., 1:2] = torch.where(target_lengths.repeat(2) > 0, 0.0, _NEVER)[:, None]
    alpha, beta = _both_ways(_sweep(lattice, start), lattice, target_lengths)
    leave = _leave(beta, skip, input_lengths, target_lengths)
    ends = (alpha[..., 1::2] + leave).masked_fill(~(valid & spoken), _NEVER)  # log g(u, t)
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
    reward = weight + torch.where(counted & mass.isfinite(), share.log() - mass, _NEVER)
    source = torch.full_like(lattice.emissions, _NEVER)
    ended = (reward + alpha[..., 1::2])[:-1]
    source[1:, :batch, 2::2] = ended
    source[1:, :batch, 3::2] = ended[..., :-1] + skip[:, 3::2]
    source[:, batch:] = _backwards(_at_tokens(reward + leave), lattice)
    ahead, behind = _both_ways(_sweep(lattice, source), lattice, target_lengths)
    paths = (torch.logaddexp(ahead + beta, alpha + behind) - emissions).masked_fill(emissions == _NEVER, _NEVER).exp()
    paths[..., 0] = torch.where(silent, 1.0, paths[..., 0])
    paths = torch.where(valid, paths, 0.0).transpose(0, 1).to(wide)
    occupation = torch.zeros_like(log_probs, dtype=wide)
    occupation.scatter_add_(2, states[:, None].expand_as(paths), paths)
    return loss.to(wide), occupation


def _lattice(
    log_probs: Float[Tensor, "batch time vocab"],
    states: Int[Tensor, "batch states"],
    valid: Bool[Tensor, "time batch 1"],
    input_lengths: Int[Tensor, " batch"],
    target_lengths: Int[Tensor, " batch"],
) -> _Lattice:
    frames, count = log_probs.shape[1], states.shape[1]
    position = torch.arange(count, device=states.device)
    state = (2 * target_lengths[:, None] - position).clamp(min=0)
    frame = (input_lengths - 1 - torch.arange(frames, device=states.device)[:, None]).clamp(min=0)
    emissions = log_probs.gather(2, states[:, None].expand(-1, frames, -1)).transpose(0, 1).double()
    emissions = torch.where(valid, emissions, 0.0)
    rows = torch.cat([states, states.gather(1, state)])
    differs = torch.nn.functional.pad(rows[:, 2:] != rows[:, :-2], (2, 0))[:, :count] & (position % 2 == 1)
    skip = torch.where(differs, 0.0, _NEVER).double()
    lattice = _Lattice(emissions, skip, frame, state)
    return lattice._replace(emissions=torch.cat([emissions, _backwards(emissions, lattice)], 1))


def _sweep(lattice: _Lattice, source: Float[Tensor, "frames rows states"]) -> Float[Tensor, "time rows states"]:
    """Log-mass in each state after each frame: of what stays, steps, skips, and enters from `source`."""
    frames, rows, states = lattice.emissions.shape
    mass = source.new_full((frames + 1, rows, states + 2), _NEVER)
    stay, step, skipping = mass[..., 2:].unbind(), mass[..., 1:-1].unbind(), mass[..., :-2].unbind()
    emissions, entering = lattice.emissions.unbind(), source.unbind()
    skipped = torch.empty_like(lattice.skip)
    for t in range(frames):
        now = torch.logaddexp(stay[t], step[t], out=stay[t + 1])
        torch.logaddexp(now, torch.add(skipping[t], lattice.skip, out=skipped), out=now)
        if t < len(entering):
            torch.logaddexp(now, entering[t], out=now)
        now += emissions[t]
    return mass[1:, :, 2:]


def _backwards(values: Float[Tensor, "time batch states"], lattice: _Lattice) -> Float[Tensor, "time batch states"]:
    """Frames and states of each utterance in reverse; its own inverse. Beyond its lengths stands anything."""
    turned = values.gather(0, lattice.frame[..., None].expand_as(values))
    return turned.gather(2, lattice.state.expand_as(values))


def _both_ways(
    mass: Float[Tensor, "time rows states"], lattice: _Lattice, target_lengths: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, "time batch states"], Float[Tensor, "time batch states"]]:
    """Mass of the ways to each state from the start, and from it to the end; -inf in states beyond the target."""
    batch = len(target_lengths)
    beyond = ~length_mask(2 * target_lengths + 1, mass.shape[2])
    return mass[:, :batch], _backwards(mass[:, batch:], lattice).masked_fill(beyond, _NEVER)


def _leave(
    beta: Float[Tensor, "time batch states"],
    skip: Float[Tensor, "batch states"],
    input_lengths: Int[Tensor, " batch"],
    target_lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "time batch tokens"]:
    """Mass of what may follow once a token has had its last frame: the next blank, the next token, or the end."""
    after = torch.full_like(beta, _NEVER)
    after[:-1] = beta[1:]
    following = after[..., 2::2]
    if following.shape[2] > 1:
        following[..., :-1] = torch.logaddexp(following[..., :-1], after[..., 3::2] + skip[:, 3::2])
    last = (torch.arange(len(beta), device=beta.device)[:, None] == input_lengths - 1)[..., None]
    final = ~length_mask(target_lengths - 1, following.shape[2])
    return torch.where(last, torch.where(final, 0.0, _NEVER), following)


def _weight(
    ends: Float[Tensor, "time batch tokens"], input_lengths: Int[Tensor, " batch"], risk: float, variant: Variant
) -> Float[Tensor, "time batch tokens"]:
    """Minus the risk of ending at each frame, in nats."""
    frame = torch.arange(1, len(ends) + 1, device=ends.device, dtype=ends.dtype)[:, None, None]
    if variant == "exp_rel" and len(ends):
        frame = frame - (1 + ends.argmax(0))
    return (-risk * frame / input_lengths.clamp(min=1)[:, None]).expand_as(ends)


def _at_tokens(values: Float[Tensor, "time batch tokens"]) -> Float[Tensor, "time batch states"]:
    """Spread over the states, -inf at blanks."""
    time, batch, tokens = values.shape
    spread = values.new_full((time, batch, 2 * tokens + 1), _NEVER)
    spread[..., 1::2] = values
    return spread


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
        _check_options(risk, variant)
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
        total = bayes_risk_ctc(
            log_probs,
            input_lengths,
            targets,
            target_lengths,
            risk=self.risk,
            variant=self.variant,
            blank=self.blank,
        )
        loss = total.sum() / max(len(total), 1)
        return LossOutput(loss, {"bayes_risk_ctc": loss})
