"""The steps of CLAPS from decoder states to others, without checks: all are constants, in at least float32.

Where the output layer is linear, slopes are written down, (p - y)W and (q - p)W; else autograd finds them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import first, readable, same_shape
from kilter.ops.info_nce import info_nce
from kilter.seq2seq.state_steps import (
    Linear,
    Output,
    Project,
    length_of,
    linear_of,
    slope_of,
    stepped,
    unless_still,
    wide,
)

_TOKENS = 256
"""Whose probabilities are held at once: what a cache and a matrix product are both content with."""


class Correction(NamedTuple):
    """How states that moved are brought back to the predictions they left."""

    moved: Float[Tensor, "batch tokens dim"]
    step: float | int
    steps: int


class Nearby(NamedTuple):
    """New states, those that were asked for."""

    imposter: Float[Tensor, "batch tokens dim"] | None
    distant: Float[Tensor, "batch tokens dim"] | None


def away(
    hidden: Float[Tensor, "batch tokens dim"],
    source: Float[Tensor, "batch out"],
    mask: Bool[Tensor, "batch tokens"] | None,
    project: Project,
    *,
    step: float | int,
    temperature: float | int,
    relative: bool = False,
) -> Float[Tensor, "batch tokens dim"]:
    """One step of each token by which its sentence leaves its source: the first of a distant target."""
    if not callable(project):
        raise TypeError(f"project must be a function of states and mask, got {type(project).__name__}")
    kind, hidden, source = hidden.dtype, wide(hidden), source.detach()
    padding = None if mask is None else ~mask[..., None]

    def loss(states: Tensor) -> Tensor:
        vectors = project(states.to(kind), mask)
        same_shape("project(hidden, mask)", vectors, source.shape, "source_vectors")
        return info_nce(source, vectors, temperature=temperature).sum()

    slope = slope_of(loss, hidden if padding is None else hidden.masked_fill(padding, 0))
    slope = slope if padding is None else slope.masked_fill(padding, 0)
    return stepped(hidden, slope, length_of(hidden, step, relative))


def nearby(
    hidden: Float[Tensor, "batch tokens dim"],
    mask: Bool[Tensor, "batch tokens"],
    output: Output,
    *,
    logits: Float[Tensor, "batch tokens vocab"] | None = None,
    labels: Int[Tensor, "batch tokens"] | None = None,
    step: float | int = 0.0,
    correction: Correction | None = None,
    relative: bool = False,
) -> Nearby:
    """Imposters where there are `labels`, distant targets where there is a `correction`.

    Args:
        hidden: states.
        mask: True at the tokens that may move.
        output: from states to logits.
        logits: what `output` makes of `hidden`, where that is known.
        labels: what the tokens are to predict.
        step: length of the imposter's step.
        correction: what has moved already.
        relative: steps are in lengths of `hidden`'s states.
    """
    if not callable(output):
        raise TypeError(f"output must be an nn.Linear or a function from states to logits, got {type(output).__name__}")
    linear = linear_of(output)
    if linear is None:
        return _by_autograd(hidden, mask, output, labels, step, correction, relative)
    with torch.no_grad():
        return _by_matrix(wide(hidden), mask, linear, logits, labels, step, correction, relative)


# A linear output layer: token by token -------------------------------------------------------------------------------


def _by_matrix(
    hidden: Tensor,
    mask: Tensor,
    linear: Linear,
    logits: Tensor | None,
    labels: Tensor | None,
    step: float | int,
    correction: Correction | None,
    relative: bool,
) -> Nearby:
    """A few tokens at a time, so that little more than the logits that the model made itself is held."""
    vocab, dim = linear.matrix.shape
    _check_width(hidden, dim)
    if labels is not None:
        _check_vocabulary(labels, mask, vocab)
    dtype = linear.matrix.dtype if logits is None else logits.dtype  # products as the model makes them
    matrix, bias = linear.matrix.to(dtype), None if linear.bias is None else linear.bias.to(dtype)
    flat, ids = hidden.reshape(-1, dim), None if labels is None else labels.flatten()
    known = None if logits is None else logits.detach().reshape(-1, vocab)
    wrong = None if ids is None else flat.clone()
    far = None if correction is None else correction.moved.reshape(-1, dim).clone()
    every = mask.flatten().nonzero().squeeze(1)
    for some in every.split(_TOKENS):
        here = flat[some]
        said = F.linear(here.to(dtype), matrix, bias) if known is None else known[some]
        own = said.to(here.dtype).softmax(-1)
        if far is not None and correction is not None:
            there, length = far[some], length_of(here, correction.step, relative)
            for _ in range(correction.steps):
                change = F.linear(there.to(dtype), matrix, bias).to(here.dtype).softmax(-1).sub_(own)
                slope = (change.to(dtype) @ matrix).to(here.dtype)
                there = stepped(there, unless_still(slope, there, here), -length)
            far[some] = there
        if wrong is not None and ids is not None:
            own.scatter_add_(1, ids[some, None].long(), own.new_full((len(some), 1), -1))
            slope = (own.to(dtype) @ matrix).to(here.dtype)
            wrong[some] = stepped(here, slope, length_of(here, step, relative))
    return Nearby(*(None if found is None else found.view(hidden.shape) for found in (wrong, far)))


# Any other ------------------------------------------------------------------------------------------------------------


def _by_autograd(
    hidden: Tensor,
    mask: Tensor,
    output: Output,
    labels: Tensor | None,
    step: float | int,
    correction: Correction | None,
    relative: bool,
) -> Nearby:
    """The whole batch at once, as what is called may look at more than a token."""
    kind, hidden, padding = hidden.dtype, wide(hidden), ~mask[..., None]
    kept = hidden.masked_fill(padding, 0)
    wrong = far = None

    def predicted(states: Tensor) -> Tensor:
        logits = output(states.to(kind))
        same_shape("output(hidden)", logits[..., 0], states.shape[:2], "the tokens of hidden")
        return logits.to(states.dtype).log_softmax(-1)[mask]

    if labels is not None:

        def surprise(states: Tensor) -> Tensor:
            said = predicted(states)
            _check_vocabulary(labels, mask, said.shape[-1])
            return -said.gather(1, labels[mask][:, None].long()).sum()

        wrong = stepped(hidden, slope_of(surprise, kept).masked_fill(padding, 0), length_of(hidden, step, relative))
    if correction is not None:
        with torch.no_grad():
            own = predicted(kept)

        def divergence(states: Tensor) -> Tensor:
            return F.kl_div(predicted(states), own, reduction="sum", log_target=True)

        far, length = correction.moved, length_of(hidden, correction.step, relative)
        for _ in range(correction.steps):
            slope = slope_of(divergence, far.masked_fill(padding, 0))
            far = stepped(far, unless_still(slope, far, hidden).masked_fill(padding, 0), -length)
    return Nearby(wrong, far)


def _check_width(hidden: Tensor, dim: int) -> None:
    if hidden.shape[-1] != dim:
        raise ValueError(f"output takes states {dim} wide, hidden is {hidden.shape[-1]} wide; give its own states")


def _check_vocabulary(labels: Tensor, mask: Tensor, vocab: int) -> None:
    if readable(labels) and (at := first(mask & ((labels < 0) | (labels >= vocab)))):
        raise ValueError(
            f"row {at[0]}: labels holds {int(labels[tuple(at)])}, outside the vocabulary 0..{vocab - 1} of output; "
            "look at the tokenizer, and put the ignored label at padding"
        )


@torch.no_grad()
def divergences(
    hidden: Float[Tensor, "batch tokens dim"],
    others: tuple[Float[Tensor, "batch tokens dim"], ...],
    mask: Bool[Tensor, "batch tokens"],
    output: Output,
    *,
    logits: Float[Tensor, "batch tokens vocab"] | None = None,
    most: int,
) -> list[Float[Tensor, " some"]]:
    """KL in nats of predictions at `hidden` from those at `others`, for at most so many tokens, evenly spread.

    What is no linear layer is called with whole batches, and told of all tokens.
    """
    linear = linear_of(output)
    if linear is None:
        states = [one.to(hidden.dtype).masked_fill(~mask[..., None], 0) for one in (hidden, *others)]
        said = [output(one)[mask] for one in states]
    else:
        every = mask.flatten().nonzero().squeeze(1)
        some = every[:: max(1, -(-len(every) // most))]
        picked = [one.reshape(-1, one.shape[-1])[some].to(linear.matrix.dtype) for one in (hidden, *others)]
        said = [F.linear(one, *linear) for one in (picked if logits is None else picked[1:])]
        said = said if logits is None else [logits.reshape(-1, logits.shape[-1])[some], *said]
    own, *moved = [wide(one).log_softmax(-1) for one in said]
    return [F.kl_div(one, own, reduction="none", log_target=True).sum(-1) for one in moved]
