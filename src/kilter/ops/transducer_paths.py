"""Alignments of a transducer (RNN-T) with a given target: how probable they are together, drawn, and scored.

Reference: A. Graves, "Sequence transduction with recurrent neural networks", 2012, arXiv 1211.3711.
Departure: the recursion runs over tokens, each over all frames at once, instead of over the nodes of the lattice.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn.functional import pad

from kilter.core.checks import check_transducer, first, integer, readable, whole
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import LOG_FLOOR

_LEAST = -1e4
"""Stands for log 0 in sums over paths: less than any path a model believes in, and its rounding error is small."""

_NEVER = -1e9
"""Log-score of emitting a token outside the utterance, below any number of impossible steps inside it."""


class Lattice(NamedTuple):
    r"""What the target's alignments are made of: two log-probabilities at each node (frame t, u tokens emitted).

    From (0, 0) the blank leads to (t+1, u), the next token to (t, u+1), and the last blank leaves (T-1, U). Such an
    alignment is written as the frames in which its tokens are emitted, `(samples, batch, tokens)`.

    Attributes:
        blanks: log-probability of the blank; float32 at least, 0 beyond the lengths.
        tokens: log-probability of target u+1; the entries at u = U mean nothing.
        input_lengths: valid frames T, on the device of the rest.
        target_lengths: valid tokens U.
    """

    blanks: Float[Tensor, "batch time states"]
    tokens: Float[Tensor, "batch time states"]
    input_lengths: Int[Tensor, " batch"]
    target_lengths: Int[Tensor, " batch"]


def transducer_lattice(
    log_probs: Float[Tensor, "batch time states vocab"],
    input_lengths: Int[Tensor, " batch"],
    targets: Int[Tensor, "batch tokens"],
    target_lengths: Int[Tensor, " batch"],
    *,
    blank: int = 0,
) -> Lattice:
    """Read off what the target needs of the joint network's outputs; one gather, differentiable.

    Args:
        log_probs: log-softmax of the joint network's outputs, after 0 to U tokens of the target (U+1 states).
        input_lengths: valid frames of each utterance.
        targets: token ids; anything beyond `target_lengths`.
        target_lengths: valid tokens of each target; there may be more of them than frames.
        blank: index of the blank.

    Raises:
        TypeError: `log_probs` not floating point, targets or lengths not integer.
        ValueError: shapes, lengths, blank or targets out of range, tokens but no frame; on the CPU also a step whose
            log-probability is positive or NaN (not checked on accelerators: it would cost a synchronisation).

    Example:
        >>> log_probs = torch.tensor([0.25, 0.75]).log().expand(1, 4, 2, 2)
        >>> transducer_lattice(log_probs, torch.tensor([4]), torch.tensor([[1]]), torch.tensor([1])).tokens.shape
        torch.Size([1, 4, 2])
    """
    check_transducer(log_probs, input_lengths, targets, target_lengths, blank)
    device, frames = log_probs.device, log_probs.shape[1]
    input_lengths, target_lengths = input_lengths.to(device, torch.long), target_lengths.to(device, torch.long)
    inside = length_mask(target_lengths, targets.shape[1])
    following = pad(targets.to(device, torch.long).masked_fill(~inside, blank), (0, 1), value=blank)
    # one gather for both, so that backward writes a single (B, T, U+1, V) gradient
    steps = torch.stack([torch.full_like(following, blank), following], -1)[:, None].expand(-1, frames, -1, -1)
    picked = log_probs.gather(3, steps).to(torch.promote_types(log_probs.dtype, torch.float32))
    valid = length_mask(input_lengths, frames)[:, :, None] & pad(inside, (1, 0), value=True)[:, None]
    if readable(picked):
        _check_steps(picked, valid)
    blanks, tokens = torch.where(valid[..., None], picked, 0.0).unbind(-1)
    return Lattice(blanks, tokens, input_lengths, target_lengths)


def transducer_log_likelihood(lattice: Lattice) -> Float[Tensor, " batch"]:
    r"""Log-probability of each target over all its alignments; differentiable: minus it is the RNN-T loss.

    $$\log P(y \mid x) = S_0(0) + \sum_{t<T} \log p(\varnothing \mid t, U), \qquad S_U = 0$$
    $$S_u(t) = \log \sum_{s \ge t} e^{S_{u+1}(s) + D_u(s)}, \qquad
      D_u(s) = \log p(y_{u+1} \mid s, u) + \sum_{r<s} \log \frac{p(\varnothing \mid r, u)}{p(\varnothing \mid r, u+1)}$$

    An alignment that emits its tokens at frames t₁ ≤ … ≤ t_U has the log-probability Σ_u D_u(t_{u+1}) plus the blanks
    at u = U, so one cumulative sum over frames for each token is the whole recursion: S_u(t) is the backward variable
    of Graves times the blanks before t.

    Returns:
        One log-probability per utterance. A step of probability 0 counts as e^-10000.

    Example:
        >>> # one token in any of four frames, 1/4 against 3/4 for the blank
        >>> log_probs = torch.tensor([0.75, 0.25]).log().expand(1, 4, 2, 2)
        >>> lattice = transducer_lattice(log_probs, torch.tensor([4]), torch.tensor([[1]]), torch.tensor([1]))
        >>> transducer_log_likelihood(lattice).exp().item(), 4 * 0.25 * 0.75**4
        (0.316406, 0.31640625)

    Reference: Graves 2012, section 2.4.
    """
    last = lattice.target_lengths[:, None, None].expand(-1, lattice.blanks.shape[1], -1)
    ending = lattice.blanks.gather(2, last).clamp(min=_LEAST).sum((1, 2))
    return _onward(lattice)[0][:, -1:].sum(-1) + ending


def sample_transducer_alignments(
    lattice: Lattice, num_samples: int = 5, *, generator: Generator | None = None
) -> Int[Tensor, "samples batch tokens"]:
    r"""Draw alignments of each target from their exact posterior, without gradient.

    $$P(t_{u+1} \ge s \mid t_u, x, y) = e^{S_u(s) - S_u(t_u)}, \qquad s \ge t_u$$

    with S of `transducer_log_likelihood`: ancestral sampling with the blanks up to the next token taken in one go. One
    look-up in S_u per token, all samples at once. Consumes N·B·U draws of `generator`.

    Args:
        lattice: see `transducer_lattice`.
        num_samples: N, alignments drawn for each utterance.
        generator: source of randomness, on the device of the lattice; None is torch's global one.

    Returns:
        Frames of emission, nondecreasing; the utterance's last frame beyond each target.

    Raises:
        TypeError, ValueError: `num_samples` that is no whole number from 0.

    Example:
        >>> log_probs = torch.tensor([[[9.0, 0.0], [9.0, 0.0]], [[0.0, 9.0], [9.0, 0.0]]]).log_softmax(-1)[None]
        >>> lattice = transducer_lattice(log_probs, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]))
        >>> sample_transducer_alignments(lattice, 3, generator=torch.Generator().manual_seed(0)).flatten()
        tensor([1, 1, 1])
    """
    whole("num_samples", num_samples, 0)
    batch, frames, states = lattice.blanks.shape
    shape = (states - 1, batch, num_samples)
    uniform = torch.rand(shape, dtype=lattice.blanks.dtype, device=lattice.blanks.device, generator=generator)
    if not frames * uniform.numel():
        return lattice.target_lengths.new_zeros(num_samples, batch, states - 1)
    with torch.no_grad():
        at = torch.full(shape[1:], frames - 1, device=uniform.device)  # counted from the last frame, as S is
        drawn = []
        for onward, log_uniform in zip(_onward(lattice), uniform.neg().log1p(), strict=False):
            # 1 - uniform is in (0, 1], so the first frame from behind that reaches it has probability
            threshold = onward.gather(1, at) + log_uniform
            at = torch.minimum(torch.searchsorted(onward, threshold), at)
            drawn.append(at)
        return frames - 1 - torch.stack(drawn).permute(2, 1, 0)


def _onward(lattice: Lattice) -> list[Float[Tensor, "batch time"]]:
    """S_0 … S_U of `transducer_log_likelihood`, over frames from the last to the first."""
    blanks, tokens = lattice.blanks.clamp(min=_LEAST), lattice.tokens.clamp(min=_LEAST)
    gain = blanks[..., :-1] - blanks[..., 1:]
    scores = tokens[..., :-1] + gain.cumsum(1) - gain
    batch, frames, count = scores.shape
    target = length_mask(lattice.target_lengths, count)[:, None]
    inside = length_mask(lattice.input_lengths, frames)[..., None]
    final = torch.arange(frames, device=scores.device) == (lattice.input_lengths - 1).clamp(min=0)[:, None]
    # tokens beyond a target are all emitted in its last frame, which leaves S = 0
    scores = scores.where(target & inside, torch.where(final[..., None] & ~target, 0.0, _NEVER))
    onward = [scores.new_zeros(batch, frames)]
    for score in reversed(scores.flip(1).permute(2, 0, 1).contiguous().unbind()):
        onward.append((onward[-1] + score).logcumsumexp(-1))
    return onward[::-1]


def path_nodes(lattice: Lattice, alignments: Int[Tensor, "samples batch tokens"]) -> Int[Tensor, "samples batch steps"]:
    """Where a path takes each of its T + U steps: the state of each frame's blank, then the frame of each token.

    The other coordinate is the place in the row; -1 stands beyond the lengths.
    """
    frames = lattice.blanks.shape[1]
    beyond = ~length_mask(lattice.target_lengths, alignments.shape[-1])
    times = alignments.long().masked_fill(beyond, frames)
    grid = torch.arange(frames, device=times.device).expand(*times.shape[:2], -1).contiguous()
    states = torch.searchsorted(times.contiguous(), grid, right=True)
    states = states.masked_fill(~length_mask(lattice.input_lengths, frames), -1)
    return torch.cat([states, times.masked_fill(beyond, -1)], -1)


def node_scores(lattice: Lattice, nodes: Int[Tensor, "samples batch steps"]) -> Float[Tensor, "samples batch steps"]:
    """Log-probability of each step of `path_nodes`, at least log(1e-7); 0 beyond the lengths."""
    frames = lattice.blanks.shape[1]
    if not frames:
        return lattice.tokens.sum() + torch.zeros(nodes.shape, device=nodes.device)
    states, times = nodes.clamp(min=0).tensor_split([frames], -1)
    blanks = lattice.blanks.gather(2, states.permute(1, 2, 0)).permute(2, 0, 1)
    tokens = lattice.tokens.gather(1, times.transpose(0, 1)).transpose(0, 1)
    return torch.cat([blanks, tokens], -1).clamp(min=LOG_FLOOR).masked_fill(nodes < 0, 0.0)


def path_lengths(lattice: Lattice) -> Int[Tensor, " batch"]:
    """Steps of every alignment of an utterance, T + U; 1 where there are none, to divide by."""
    return (lattice.input_lengths + lattice.target_lengths).clamp(min=1)


def score_transducer_alignments(
    lattice: Lattice, alignments: Int[Tensor, "samples batch tokens"]
) -> Float[Tensor, "samples batch"]:
    r"""How probable each alignment is: mean log-probability of its T + U steps; differentiable.

    $$s(a) = \tfrac{1}{T+U} \Bigl(\sum_{t<T} \log p(\varnothing \mid t, u_t)
      + \sum_{u<U} \log p(y_{u+1} \mid t_{u+1}, u)\Bigr), \qquad u_t = |\{i : t_i \le t\}|$$

    A step counts with at least log(1e-7), as in `score_alignments` of CTC.

    Raises:
        TypeError, ValueError: alignments that are not frames of emission, see `check_emissions`.

    Example:
        >>> log_probs = torch.tensor([0.75, 0.25]).log().expand(1, 4, 2, 2)
        >>> lattice = transducer_lattice(log_probs, torch.tensor([4]), torch.tensor([[1]]), torch.tensor([1]))
        >>> score_transducer_alignments(lattice, torch.tensor([[[2]]])).mul(5).exp().item(), 0.25 * 0.75**4
        (0.0791016, 0.0791015625)
    """
    check_emissions(lattice, alignments)
    return node_scores(lattice, path_nodes(lattice, alignments)).sum(-1) / path_lengths(lattice)


def check_emissions(lattice: Lattice, alignments: Tensor, name: str = "alignments") -> None:
    """Check that `alignments` are frames `(samples, batch, tokens)`, on the CPU also in order and in the utterance."""
    integer(name, alignments, "hold frames of emission")
    batch, _, states = lattice.blanks.shape
    if alignments.ndim != 3 or alignments.shape[1:] != (batch, states - 1):
        raise ValueError(f"{name} must be (samples, {batch}, {states - 1}), got {tuple(alignments.shape)}")
    if readable(alignments):
        wrong = (alignments < pad(alignments, (1, 0))[..., :-1]) | (alignments >= lattice.input_lengths[:, None])
        if at := first(wrong & length_mask(lattice.target_lengths, states - 1)):
            n, i, u = at
            raise ValueError(
                f"utterance {i}: {name} emit token {u} in frame {int(alignments[n, i, u])}, before the token it "
                f"follows or outside the {int(lattice.input_lengths[i])} frames"
            )


def _check_steps(picked: Float[Tensor, "batch time states two"], valid: Bool[Tensor, "batch time states"]) -> None:
    # half precision rounds log-softmax near probability one
    if at := first(valid & ~(picked <= 1e-3).all(-1)):
        i, t, u = at
        worst = picked[i, t, u].amax().item()
        what = "NaN" if worst != worst else f"a positive value ({worst:.3g})"
        raise ValueError(
            f"utterance {i}, frame {t}, state {u}: log_probs holds {what}; give log_softmax(logits, dim=-1) in float32"
        )
