"""Sums over the alignments of CTC targets, from both ends at once, for all utterances and states, in the log domain.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006, section 4.1. The backward pass is the
forward pass over frames and states in reverse, so that both are one loop over the frames.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from kilter.core.masking import length_mask

NEVER = -torch.inf


class CTCLattice(NamedTuple):
    """Blank and token by turns: the states of every utterance, and as further rows the same read backwards.

    Attributes:
        emissions: log-probability of each state's token, in float64; 0 beyond the frames.
        skip: 0 where a token may follow the token before it without a blank between, else -inf.
        states: token ids, the blank beyond each target.
        frame: each utterance's frames from its last to its first.
        state: its states from the last to the first.
        input_lengths: valid frames.
        target_lengths: valid tokens.
    """

    emissions: Float[Tensor, "time rows states"]
    skip: Float[Tensor, "rows states"]
    states: Int[Tensor, "batch states"]
    frame: Int[Tensor, "time batch"]
    state: Int[Tensor, "batch states"]
    input_lengths: Int[Tensor, " batch"]
    target_lengths: Int[Tensor, " batch"]


def ctc_lattice(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    blank: int,
) -> CTCLattice:
    """What the alignments of each target are made of; the arguments are taken as checked (`check_targets`)."""
    (batch, frames, _), count = log_probs.shape, 2 * targets.shape[1] + 1
    states = torch.full((batch, count), blank, device=log_probs.device)
    states[:, 1::2] = torch.where(length_mask(target_lengths, targets.shape[1]), targets, blank)
    position = torch.arange(count, device=states.device)
    state = (2 * target_lengths[:, None] - position).clamp(min=0)
    frame = (input_lengths - 1 - torch.arange(frames, device=states.device)[:, None]).clamp(min=0)
    emissions = log_probs.gather(2, states[:, None].expand(-1, frames, -1)).transpose(0, 1).double()
    emissions = torch.where(length_mask(input_lengths, frames).mT[..., None], emissions, 0.0)
    rows = torch.cat([states, states.gather(1, state)])
    differs = pad(rows[:, 2:] != rows[:, :-2], (2, 0))[:, :count] & (position % 2 == 1)
    skip = torch.where(differs, 0.0, NEVER).double()
    lattice = CTCLattice(emissions, skip, states, frame, state, input_lengths, target_lengths)
    return lattice._replace(emissions=torch.cat([emissions, backwards(lattice, emissions)], 1))


def entrance(lattice: CTCLattice) -> Float[Tensor, "1 rows states"]:
    """Where alignments begin: in the first blank or the first token."""
    start = torch.full_like(lattice.emissions[:1], NEVER)
    start[..., 0] = 0.0
    start[..., 1:2] = torch.where(lattice.target_lengths.repeat(2) > 0, 0.0, NEVER)[:, None]
    return start


def sweep(
    lattice: CTCLattice, source: Float[Tensor, "frames rows states"]
) -> tuple[Float[Tensor, "time batch states"], Float[Tensor, "time batch states"]]:
    """Mass of the ways from `source` to each state, and from each state to the end; -inf beyond the target.

    The log-mass in a state after a frame is that of what stays, steps, skips, and enters there from `source`, times
    the state's emission. `source` has as many frames as enter, and its further rows are for the way back.
    """
    frames, rows, states = lattice.emissions.shape
    mass = source.new_full((frames + 1, rows, states + 2), NEVER)
    stay, step, skipping = mass[..., 2:].unbind(), mass[..., 1:-1].unbind(), mass[..., :-2].unbind()
    emissions, entering = lattice.emissions.unbind(), source.unbind()
    skipped = torch.empty_like(lattice.skip)
    for t in range(frames):
        now = torch.logaddexp(stay[t], step[t], out=stay[t + 1])
        torch.logaddexp(now, torch.add(skipping[t], lattice.skip, out=skipped), out=now)
        if t < len(entering):
            torch.logaddexp(now, entering[t], out=now)
        now += emissions[t]
    ahead, behind = mass[1:, :, 2:].tensor_split([len(lattice.states)], 1)
    beyond = ~length_mask(2 * lattice.target_lengths + 1, states)
    return ahead, backwards(lattice, behind).masked_fill(beyond, NEVER)


def backwards(lattice: CTCLattice, values: Float[Tensor, "time batch states"]) -> Float[Tensor, "time batch states"]:
    """Frames and states of each utterance in reverse; its own inverse. Beyond its lengths stands anything."""
    turned = values.gather(0, lattice.frame[..., None].expand_as(values))
    return turned.gather(2, lattice.state.expand_as(values))


def leaving(lattice: CTCLattice, behind: Float[Tensor, "time batch states"]) -> Float[Tensor, "time batch tokens"]:
    """Mass of what may follow once a token has had its last frame: the next blank, the next token, or the end."""
    after = torch.full_like(behind, NEVER)
    after[:-1] = behind[1:]
    following = after[..., 2::2]
    if following.shape[2] > 1:
        skip = lattice.skip[: len(lattice.states), 3::2]
        following[..., :-1] = torch.logaddexp(following[..., :-1], after[..., 3::2] + skip)
    last = (torch.arange(len(behind), device=behind.device)[:, None] == lattice.input_lengths - 1)[..., None]
    final = ~length_mask(lattice.target_lengths - 1, following.shape[2])
    return torch.where(last, torch.where(final, 0.0, NEVER), following)


def at_tokens(values: Float[Tensor, "time batch tokens"]) -> Float[Tensor, "time batch states"]:
    """Spread over the states, -inf at blanks."""
    time, batch, tokens = values.shape
    spread = values.new_full((time, batch, 2 * tokens + 1), NEVER)
    spread[..., 1::2] = values
    return spread
