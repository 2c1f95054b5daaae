"""Alignments of a CTC model: draw them, score them, collapse them.

An alignment gives every frame a token or the blank; merging repeats and dropping blanks spells the output.
Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from kilter.core.checks import check_log_probs, check_peaks, integer, one_of, positive, readable, whole, within
from kilter.core.masking import length_mask

Score = Literal["mean_logprob", "sum_logprob", "prob"]

LOG_FLOOR = -16.11809565095832
"""log(1e-7), the least log-probability a frame counts with, so that an impossible token costs much but not infinity."""

_CHUNK = 1 << 20
"""Probabilities held at once while sampling, whatever the batch."""


def sample_alignments(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    num_samples: int = 5,
    *,
    blank: int = 0,
    temperature: float = 1.0,
    generator: Generator | None = None,
) -> Int[Tensor, "samples batch time"]:
    r"""Draw alignments frame by frame, with replacement, without gradient.

    $$a^i_t \sim \mathrm{Categorical}(\mathrm{softmax}(\log p_t / \tau)), \qquad i = 1 \dots N$$

    One inverse-CDF look-up per draw over slices of frames of bounded size: extra memory is O(N·B·T), and a token of
    probability zero is never drawn. Consumes N·B·T draws of `generator`.

    Args:
        log_probs: log-softmax of the model's outputs; any float dtype, any strides.
        input_lengths: valid frames of each utterance.
        num_samples: N, alignments drawn for each utterance.
        blank: index that fills the frames beyond each length.
        temperature: τ; below 1 sharpens, above 1 flattens.
        generator: source of randomness, on the device of `log_probs`; None is torch's global one.

    Returns:
        Token ids, blank beyond each length.

    Raises:
        TypeError: `log_probs` not floating point, `input_lengths` not integer.
        ValueError: shapes, lengths, blank or settings out of range; on the CPU also log-probabilities that are
            positive, NaN or -inf for a whole frame (not checked on accelerators: it would cost a synchronisation).

    Example:
        >>> log_probs = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]).mul(50).log_softmax(-1)
        >>> sample_alignments(log_probs, torch.tensor([1]), num_samples=2)
        tensor([[[1, 0]],
        <BLANKLINE>
                [[1, 0]]])

    Reference: plain sampling of Align With Purpose (Segev et al., ICLR 2024), section 3.
    """
    check_log_probs(log_probs, input_lengths, blank)
    whole("num_samples", num_samples, 0)
    positive("temperature", temperature)
    batch, frames, vocab = log_probs.shape
    valid = length_mask(input_lengths.to(log_probs.device), frames)
    step = max(1, _CHUNK // max(1, batch * vocab))
    with torch.no_grad():
        drawn = [
            _draw(log_probs[:, t : t + step], valid[:, t : t + step], t, num_samples, temperature, generator)
            for t in range(0, max(frames, 1), step)
        ]
        samples = torch.cat(drawn, 1).permute(2, 0, 1).contiguous()
        return torch.where(valid, samples, blank)


def _draw(
    log_probs: Float[Tensor, "batch time vocab"],
    valid: Bool[Tensor, "batch time"],
    first: int,
    num_samples: int,
    temperature: float,
    generator: Generator | None,
) -> Int[Tensor, "batch time samples"]:
    logits = log_probs.to(_accumulate(log_probs))
    peak = logits.amax(-1, keepdim=True)
    if readable(peak):
        check_peaks(peak.squeeze(-1), valid, first)
    weights = logits.exp() if temperature == 1 else logits.sub(peak).div_(temperature).exp_()
    cdf = weights.contiguous().cumsum_(-1)
    total = cdf[..., -1:]
    uniform = torch.rand((*valid.shape, num_samples), dtype=cdf.dtype, device=cdf.device, generator=generator)
    # in (0, total], so the first index whose cdf reaches it exists and has probability
    threshold = torch.addcmul(total, uniform, total, value=-1)
    return torch.searchsorted(cdf, threshold).clamp_(max=log_probs.shape[-1] - 1)


def frame_scores(
    log_probs: Float[Tensor, "batch time vocab"],
    alignments: Int[Tensor, "samples batch time"],
    valid: Bool[Tensor, "batch time"],
    names: Sequence[str] = ("alignments",),
) -> Float[Tensor, "samples batch time"]:
    """Log-probability of each frame's token, at least log(1e-7); float32 or wider; anything where not `valid`.

    `names` are what the alignments are called, where they are equally many of each.

    Raises:
        TypeError: alignments that are not integers.
        ValueError: alignments of another batch or length than `log_probs`, or (on the CPU) with ids outside V.
    """
    integer("alignments", alignments, "hold token ids")
    batch, frames, vocab = log_probs.shape
    if alignments.shape[1:] != (batch, frames):
        got = ", ".join(map(str, alignments.shape[1:]))
        raise ValueError(f"alignments must be (samples, {batch}, {frames}), got (samples, {got})")
    alignments = alignments.long() * valid  # ids in the padding may be anything
    try:
        picked = log_probs.gather(2, alignments.permute(1, 2, 0)).permute(2, 0, 1)
    except RuntimeError as error:
        if "out of bounds" not in str(error):
            raise
        n, i, t = ((alignments < 0) | (alignments >= vocab)).nonzero()[0].tolist()
        raise ValueError(
            f"utterance {i}: {names[n * len(names) // len(alignments)]} hold token {int(alignments[n, i, t])}, outside "
            f"the vocabulary 0..{vocab - 1} of log_probs; check the property, or where the alignments come from"
        ) from None
    return picked.to(_accumulate(log_probs)).clamp(min=LOG_FLOOR)


def reduce_frames(
    frame_values: Float[Tensor, "*samples batch time"], input_lengths: Int[Tensor, " batch"], score: Score
) -> Float[Tensor, "*samples batch"]:
    """Sum over frames, then the mean, the sum or the probability that `score` asks for."""
    one_of("score", score, Score)
    total = frame_values.sum(-1)
    if score == "mean_logprob":
        return total / input_lengths.to(total.device).clamp(min=1)
    return total.exp() if score == "prob" else total


def score_alignments(
    log_probs: Float[Tensor, "batch time vocab"],
    alignments: Int[Tensor, "samples batch time"],
    input_lengths: Int[Tensor, " batch"],
    *,
    score: Score = "mean_logprob",
) -> Float[Tensor, "samples batch"]:
    r"""How probable each alignment is; differentiable.

    $$s(a) = \tfrac{1}{L} \sum_{t<L} \log p_t(a_t) \quad\text{(or the sum, or } e^{\text{sum}}\text{)}$$

    A frame counts with at least log(1e-7) (the authors add 1e-7 inside the log, which is the same below p ≈ 1e-7
    and biases every frame above it; a floor leaves the gradient at exactly 1/L).

    Args:
        log_probs: log-softmax of the model's outputs.
        alignments: token ids; frames beyond each length are ignored.
        input_lengths: valid frames of each utterance.
        score: `mean_logprob` per valid frame, `sum_logprob`, or `prob` (underflows beyond some hundred frames).

    Returns:
        One score per sample and utterance.

    Raises:
        TypeError: `log_probs` not floating point, `alignments` or `input_lengths` not integer.
        ValueError: shapes that do not fit, token ids outside the vocabulary, an unknown `score`; on the CPU also
            log-probabilities of the alignments' tokens that are positive or NaN.

    Example:
        >>> log_probs = torch.tensor([[[0.25, 0.75], [0.5, 0.5]]]).log()
        >>> score_alignments(log_probs, torch.tensor([[[1, 0]]]), torch.tensor([2]), score="prob")
        tensor([[0.3750]])

    Reference: Align With Purpose (Segev et al., ICLR 2024), scores of the published code and of the text.
    """
    check_log_probs(log_probs, input_lengths, blank=0)
    padding = ~length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    scores = frame_scores(log_probs, alignments, ~padding).masked_fill(padding, 0.0)
    if readable(scores) and len(scores):
        check_peaks(scores.detach().amax(0), ~padding)
    return reduce_frames(scores, input_lengths, score)


def token_starts(
    alignments: Int[Tensor, "*lead time"], valid: Bool[Tensor, "*#lead time"], blank: int
) -> Bool[Tensor, "*lead time"]:
    """True at the first frame of each run of a token that is not blank."""
    starts = alignments != blank
    starts[..., 1:] &= alignments[..., 1:] != alignments[..., :-1]
    return starts & valid


def collapse(alignments: Int[Tensor, "*lead time"], input_lengths: Int[Tensor, " ..."], blank: int = 0) -> list[Any]:
    """Merge repeats and drop blanks: the collapse map of CTC.

    Args:
        alignments: token ids `(…, T)`, e.g. `(B, T)` or `(N, B, T)`.
        input_lengths: valid frames, broadcast over the leading axes: `(B,)` for the two shapes above.
        blank: index of the blank.

    Returns:
        Tokens of each alignment, as lists nested like the leading axes.

    Raises:
        TypeError: `alignments` or `input_lengths` not integer.
        ValueError: lengths that are not those of the last leading axes, or (on the CPU) outside 0..T.

    Example:
        >>> collapse(torch.tensor([[0, 3, 3, 0, 3, 5]]), torch.tensor([6]))
        [[3, 3, 5]]
    """
    integer("alignments", alignments, "hold token ids")
    integer("input_lengths", input_lengths)
    whole("blank", blank, 0)
    *lead, frames = alignments.shape or (0,)
    rows = zip(reversed(input_lengths.shape), reversed(lead), strict=False)
    if input_lengths.ndim >= max(1, alignments.ndim) or any(given not in (1, size) for given, size in rows):
        raise ValueError(
            f"alignments must be (…, batch, time) and input_lengths (batch,), got shapes {tuple(alignments.shape)} and "
            f"{tuple(input_lengths.shape)}"
        )
    within("input_lengths", input_lengths, 0, frames, f"but alignments has {frames} frames", axis=-1)
    valid = torch.arange(frames, device=alignments.device) < input_lengths.to(alignments.device)[..., None]
    starts = token_starts(alignments, valid.expand(alignments.shape), blank)
    tokens = iter(alignments[starts].tolist())

    def nest(counts: Any) -> Any:
        if isinstance(counts, list):
            return [nest(count) for count in counts]
        return [next(tokens) for _ in range(counts)]

    return nest(starts.sum(-1).tolist())


def _accumulate(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
