"""Where each token of a known text is: the best CTC alignment of every utterance.

References: A. Graves et al., "Connectionist temporal classification", ICML 2006 (the lattice); L. Kürzinger et al.,
"CTC-Segmentation of Large Corpora for German End-to-end Speech Recognition", SPECOM 2020 (what it is good for).
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import check_log_probs, check_targets, readable
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import check_peaks

_CHUNK = 1 << 15
"""States whose way back is held at once."""


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
    memory is B·T·(2U+3) numbers of float32 (float64 for float64).

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
    _, frames, vocab = log_probs.shape
    check_targets(input_lengths, targets, target_lengths, vocab=vocab, blank=blank)
    device = log_probs.device
    input_lengths, target_lengths = input_lengths.to(device, torch.long), target_lengths.to(device, torch.long)
    valid = length_mask(input_lengths, frames)
    if frames and readable(log_probs):
        check_peaks(log_probs.amax(-1), valid)
    inside = length_mask(target_lengths, targets.shape[1])
    path, score = best_alignments(
        log_probs, input_lengths, targets.to(device).long().where(inside, blank), target_lengths, blank
    )
    if readable(score) and (score == -torch.inf).any():
        i = int((score == -torch.inf).nonzero()[0])
        raise ValueError(
            f"utterance {i}: targets have probability zero: log_probs is -inf where they need it; check that model "
            "and targets share one vocabulary, or leave the utterance out"
        )
    return path


def best_alignments(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    blank: int,
) -> tuple[Int[Tensor, "batch time"], Float[Tensor, " batch"]]:
    """`ctc_forced_align` without its checks, for targets filled with ids; with the score of each alignment."""
    batch, frames, _ = log_probs.shape
    if not frames:
        score = torch.zeros(batch, device=log_probs.device).masked_fill(target_lengths > 0, -torch.inf)
        return targets.new_empty(batch, 0), score
    states = targets.new_full((batch, 2 * targets.shape[1] + 1), blank)  # a blank before, between and after tokens
    states[:, 1::2] = targets
    with torch.inference_mode():  # a loop of the smallest operations: what they cost is their call
        jump = torch.full(states.shape, -torch.inf, dtype=_accumulate(log_probs), device=log_probs.device)
        jump[:, 3::2].masked_fill_(targets[:, 1:] != targets[:, :-1], 0.0)  # over a blank between two unlike tokens
        lattice = _forward(log_probs, states, jump)
        state, score = _last_states(lattice, input_lengths, target_lengths)
        path = states.gather(1, _trace(lattice, jump, state, input_lengths))
    possible = length_mask(input_lengths, frames) & (score > -torch.inf)[:, None]
    return path.where(possible, blank), score.clone()


def _forward(
    log_probs: Float[Tensor, "batch time vocab"],
    states: Int[Tensor, "batch states"],
    jump: Float[Tensor, "batch states"],
) -> Float[Tensor, "time batch padded"]:
    """Score of the best way to each state, after two columns of -inf that stand for the states before the first."""
    columns = F.pad(states, (2, 0)).expand(log_probs.shape[1], -1, -1)
    lattice = log_probs.transpose(0, 1).gather(2, columns).to(jump.dtype)
    lattice[..., :2] = -torch.inf
    lattice[0, :, 4:] = -torch.inf  # an alignment starts in the first blank or the first token
    stay, step, skip = lattice[..., 2:].unbind(), lattice[..., 1:-1].unbind(), lattice[..., :-2].unbind()
    best, jumped = torch.empty_like(jump), torch.empty_like(jump)
    for t in range(1, len(lattice)):
        torch.maximum(stay[t - 1], step[t - 1], out=best)
        torch.add(skip[t - 1], jump, out=jumped)
        stay[t].add_(torch.maximum(best, jumped, out=best))
    return lattice


def _last_states(
    lattice: Float[Tensor, "time batch padded"],
    input_lengths: Int[Tensor, " batch"],
    target_lengths: Int[Tensor, " batch"],
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Where the best alignment ends, in the last blank or the last token, and its score; 0 without frames."""
    utterance = torch.arange(len(input_lengths), device=lattice.device)
    ends = lattice[(input_lengths - 1).clamp(min=0), utterance]
    blank_end = 2 * target_lengths
    score, token = torch.stack([ends.gather(1, (blank_end + 2 - i)[:, None])[:, 0] for i in (0, 1)]).max(0)
    empty = input_lengths == 0
    nothing = torch.zeros_like(score).masked_fill(target_lengths > 0, -torch.inf)
    return blank_end - token, nothing.where(empty, score)


def _trace(
    lattice: Float[Tensor, "time batch padded"],
    jump: Float[Tensor, "batch states"],
    state: Int[Tensor, " batch"],
    input_lengths: Int[Tensor, " batch"],
) -> Int[Tensor, "batch time"]:
    """State of each frame, from the last back."""
    frames, (batch, states) = len(lattice), jump.shape
    first = torch.arange(0, batch * states, states, device=state.device)  # of each utterance, in a flattened frame
    path = state.new_empty(frames, batch)
    path[-1] = state + first
    here = path.unbind()
    inside = length_mask(input_lengths, frames).T[..., None].byte()
    block = max(1, _CHUNK // max(1, jump.numel()))
    for end in range(frames, 1, -block):
        start = max(1, end - block)
        before = _before(lattice[start - 1 : end - 1], jump, inside[start:end]).unbind()
        for t in range(end - 1, start - 1, -1):
            torch.take(before[t - start], here[t], out=here[t - 1])
    return (path - first).T


def _before(
    lattice: Float[Tensor, "time batch padded"],
    jump: Float[Tensor, "batch states"],
    inside: UInt8[Tensor, "time batch 1"],
) -> Int[Tensor, "time batch states"]:
    """Place in a flattened frame of the state each state is best reached from; its own beyond the length."""
    stay, step, skip = lattice[..., 2:], lattice[..., 1:-1], lattice[..., :-2] + jump
    two = skip > torch.maximum(stay, step)
    moves = ((step > stay) | two).view(torch.uint8) + two.view(torch.uint8)
    return torch.arange(jump.numel(), device=jump.device).view(jump.shape) - moves.mul_(inside)


def _accumulate(log_probs: Tensor) -> torch.dtype:
    return torch.promote_types(log_probs.dtype, torch.float32)
