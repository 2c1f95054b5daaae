"""The most probable alignment of each target, and its score: the lattice of CTC with the maximum for the sum.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from kilter.core.masking import length_mask

_CHUNK = 1 << 15
"""States whose way back is held at once."""


def best_alignments(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    blank: int,
) -> tuple[Int[Tensor, "batch time"], Float[Tensor, " batch"]]:
    """The best alignment of each target, blank beyond each length, and its log-probability.

    The arguments are taken as checked, and targets hold ids beyond their lengths too: this is
    `kilter.speech.ctc_forced_align` without its checks. Where there is no alignment it is blanks only, its score -inf.
    """
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
