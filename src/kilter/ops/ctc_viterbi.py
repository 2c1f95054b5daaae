"""The most probable alignment of each target, and its score: the lattice of CTC with the maximum for the sum.

What does not fit at once is gone through in blocks of frames: forward, keeping the scores between blocks, then
backward, making each block's scores anew. The path is the same.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006.
"""

from math import isqrt

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from kilter.core.masking import length_mask

_CHUNK = 1 << 15
"""States whose way back is held at once."""

_WHOLE = 1 << 26
"""Scores that are held at once; a larger lattice is gone through in blocks."""

_LONG = 1 << 15
"""Frames beyond which a sum of log-probabilities needs float64."""


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
        columns = F.pad(states, (2, 0))
        block = frames if frames * columns.numel() <= _WHOLE else isqrt(frames - 1) + 1
        spans = [(max(0, stop - block - 1), min(stop, frames)) for stop in range(block, frames + block, block)]
        # held once: blocks made anew, with what is kept between them, would leave holes in memory that none fits into
        held = jump.new_empty(max(stop - start for start, stop in spans), *columns.shape)
        before = jump.new_empty(len(spans), *columns.shape)
        lattice, ends = held, torch.zeros_like(columns, dtype=jump.dtype)
        for place, (start, stop) in enumerate(spans):  # a block's first frame is the last of the block before it
            lattice = _forward(log_probs[:, start:stop], columns, jump, before[place - 1] if place else None, held)
            last = input_lengths - 1 - start
            here = lattice[last.clamp(0, len(lattice) - 1), torch.arange(batch, device=last.device)]
            ends = here.where((last >= 0)[:, None], ends)
            before[place] = lattice[-1]
        state, score = _last_states(ends, input_lengths, target_lengths)
        path = states.new_empty(batch, frames)
        for place in range(len(spans) - 1, -1, -1):
            start, stop = spans[place]
            if stop < frames:
                lattice = _forward(log_probs[:, start:stop], columns, jump, before[place - 1] if place else None, held)
            path[:, start:stop] = _trace(lattice, jump, state, input_lengths - start)
            state = path[:, start]
        path = states.gather(1, path)
    possible = length_mask(input_lengths, frames) & (score > -torch.inf)[:, None]
    return path.where(possible, blank), score.clone()


def _forward(
    log_probs: Float[Tensor, "batch time vocab"],
    columns: Int[Tensor, "batch padded"],
    jump: Float[Tensor, "batch states"],
    before: Float[Tensor, "batch padded"] | None,
    held: Float[Tensor, "block batch padded"],
) -> Float[Tensor, "time batch padded"]:
    """Score of the best way to each state, after two columns of -inf that stand for the states before the first.

    The first frame's are `before`, where it is not the first of all. They are written into `held`.
    """
    frames = log_probs.shape[1]
    lattice = held[:frames]
    torch.gather(log_probs.to(jump.dtype).transpose(0, 1), 2, columns.expand(frames, -1, -1), out=lattice)
    lattice[..., :2] = -torch.inf
    if before is None:
        lattice[0, :, 4:] = -torch.inf  # an alignment starts in the first blank or the first token
    else:
        lattice[0] = before
    stay, step, skip = lattice[..., 2:].unbind(), lattice[..., 1:-1].unbind(), lattice[..., :-2].unbind()
    best, jumped = torch.empty_like(jump), torch.empty_like(jump)
    for t in range(1, len(lattice)):
        torch.maximum(stay[t - 1], step[t - 1], out=best)
        torch.add(skip[t - 1], jump, out=jumped)
        stay[t].add_(torch.maximum(best, jumped, out=best))
    return lattice


def _last_states(
    ends: Float[Tensor, "batch padded"],
    input_lengths: Int[Tensor, " batch"],
    target_lengths: Int[Tensor, " batch"],
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Where the best alignment ends, in the last blank or the last token, and its score; 0 without frames."""
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
    if jump.numel() > _CHUNK:
        return _trace_one(lattice, jump, state, input_lengths)
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


def _trace_one(
    lattice: Float[Tensor, "time batch padded"],
    jump: Float[Tensor, "batch states"],
    state: Int[Tensor, " batch"],
    input_lengths: Int[Tensor, " batch"],
) -> Int[Tensor, "batch time"]:
    """The same where there are many states: only those on the way are looked at."""
    path = [state]
    back = torch.arange(2, -1, -1, device=state.device)  # columns of the state itself and of the two before it
    for t in range(len(lattice) - 1, 0, -1):
        stay, step, skip = lattice[t - 1].gather(1, state[:, None] + back).unbind(1)
        two = skip + jump.gather(1, state[:, None])[:, 0] > torch.maximum(stay, step)
        state = state - (t < input_lengths) * (((step > stay) | two).long() + two.long())
        path.append(state)
    return torch.stack(path[::-1], 1)


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
    least = torch.float64 if log_probs.shape[1] > _LONG and log_probs.device.type != "mps" else torch.float32
    return torch.promote_types(log_probs.dtype, least)
