"""The CTC labellings of most probability, summed over their alignments, with a beam of prefixes.

Reference: A. Graves et al., "Connectionist temporal classification", ICML 2006, section 3.2. A whole batch and beam
goes at once; prefixes are compared exactly, without hashing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import check_peaks, first, readable

Fuse = Callable[[list[list[int]]], Tensor]
"""Prefixes, as token ids, to the log-scores `(prefixes, vocab)` of going on with each token; what they are is told in
`kilter.speech.ctc_prefix_beam_search`."""


@dataclass
class Beams:
    """The prefixes kept of each utterance, best first.

    Attributes:
        total: log mass; -inf is an empty place, whatever else it holds.
        blank_mass: log mass of the alignments that end in the blank.
        token_mass: log mass of those that end in the last token.
        last: last token; the blank for the empty prefix.
        length: number of tokens.
        tokens: the blank, then the tokens, then anything.
        begins: whether prefix j begins with prefix i, at `[:, j, i]`; false for an empty place j.
    """

    total: Float[Tensor, "batch beam"]
    blank_mass: Float[Tensor, "batch beam"]
    token_mass: Float[Tensor, "batch beam"]
    last: Int[Tensor, "batch beam"]
    length: Int[Tensor, "batch beam"]
    tokens: Int[Tensor, "batch beam width"]
    begins: Bool[Tensor, "batch beam beam"]


def search_prefixes(
    log_probs: Float[Tensor, "batch time vocab"],
    valid: Bool[Tensor, "batch time"],
    beam_size: int,
    blank: int,
    fuse: Fuse | None,
) -> Beams:
    """The beam after the last frame, in the order of what `fuse` says about ending there.

    The arguments are taken as checked, but for values: see `kilter.speech.ctc_prefix_beam_search`.
    """
    batch, _, vocab = log_probs.shape
    nothing = log_probs.new_full((batch, beam_size), -torch.inf)
    total = nothing.clone()
    total[:, 0] = 0.0  # the empty prefix is certain
    tokens = torch.full((batch, beam_size, 16), blank, device=log_probs.device)
    begins = (total > -torch.inf)[..., None].expand(-1, -1, beam_size)
    beams = Beams(total, total, nothing, tokens[..., 0], torch.zeros_like(tokens[..., 0]), tokens, begins)
    # a frame beyond the length is a certain blank: it leaves every prefix as it is
    blanks = log_probs[..., blank].masked_fill(~valid, 0.0)
    # Beside the blank, the best beam_size + 1 tokens will do: whatever goes on with another is beaten by beam_size
    # that go on from the same prefix with these (all but its repeat). `fuse` has an order of its own.
    listed = _listed(log_probs, valid, min(vocab, beam_size + 2) if fuse is None else vocab, blank)
    fused = None
    if fuse is not None:
        fused = _ask(fuse, beams, total > -torch.inf, log_probs.new_zeros(batch, beam_size, vocab))
    for t, frame in enumerate(zip(*(x.unbind(1) for x in (log_probs, ~valid, blanks, *listed)), strict=True)):
        if t + 2 > beams.tokens.shape[2]:
            beams.tokens = F.pad(beams.tokens, (0, t + 2))
        beams, source, longer = _advance(beams, *frame, fused=fused)
        if fuse is not None and fused is not None:
            fused = _ask(fuse, beams, longer & (beams.total > -torch.inf), _rows(fused, source))
    if fused is not None:
        beams.total, order = (beams.total + fused[..., blank]).sort(descending=True, stable=True)
        beams.length = beams.length.gather(1, order)
        beams.tokens = _rows(beams.tokens, order)
    return beams


def _listed(
    log_probs: Float[Tensor, "batch time vocab"], valid: Bool[Tensor, "batch time"], count: int, blank: int
) -> tuple[Float[Tensor, "batch time listed"], Int[Tensor, "batch time listed+1"], Int[Tensor, "batch time vocab"]]:
    """The best `count` tokens of each frame: log-probabilities, -inf for the blank; ids after a first column; places.

    The place of a token is its column among the ids, 0 of the blank and of what is not listed.
    """
    vocab = log_probs.shape[2]
    if count < vocab:
        ahead, labels = log_probs.topk(count)
    else:
        ahead, labels = log_probs.clone(), torch.arange(vocab, device=log_probs.device).expand_as(log_probs)
    if readable(ahead) and ahead.shape[1]:
        check_peaks(ahead.amax(-1), valid)
    ahead.masked_fill_((labels == blank) | ~valid[..., None], -torch.inf)
    columns = torch.arange(1, count + 1, dtype=torch.int32, device=labels.device).expand_as(labels)
    places = torch.zeros_like(log_probs, dtype=columns.dtype).scatter_(2, labels, columns)
    places[..., blank] = 0
    return ahead, F.pad(labels, (1, 0)), places


def _advance(
    beams: Beams,
    frame: Float[Tensor, "batch vocab"],
    beyond: Bool[Tensor, " batch"],
    blank: Float[Tensor, " batch"],
    ahead: Float[Tensor, "batch listed"],
    labels: Int[Tensor, "batch listed+1"],
    places: Int[Tensor, "batch vocab"],
    fused: Float[Tensor, "batch beam vocab"] | None,
) -> tuple[Beams, Int[Tensor, "batch beam"], Bool[Tensor, "batch beam"]]:
    """One frame on: the new beam, the place in the old one each prefix comes from, and whether it is longer now.

    A prefix may stay as it is (column 0) or go on with one of the listed `labels` (the columns after), whose
    log-probabilities are `ahead`; `places` has the column of every token, 0 if it is not listed.
    """
    total, last, length = beams.total, beams.last, beams.length
    beam_size, width = total.shape[1], labels.shape[1]
    again = frame.gather(1, last).masked_fill_(beyond[:, None], -torch.inf)
    column = places.gather(1, last).long()
    # a prefix whose parent is kept too is also reached from there; the same token twice needs a blank between
    kept, parent = (beams.begins & (length[:, :, None] == length[:, None, :] + 1)).max(-1)
    repeats = last == last.gather(1, parent)
    entering = beams.blank_mass.gather(1, parent).where(repeats, total.gather(1, parent)) + again
    twice, ahead = beams.blank_mass + again, ahead[:, None]
    if fused is not None:
        entering += fused.flatten(1).gather(1, parent * frame.shape[1] + last)
        twice += fused.gather(2, last[..., None])[..., 0]
        ahead = ahead + fused
    blank_mass = total + blank[:, None]
    token_mass = torch.logaddexp(beams.token_mass + again, entering.masked_fill_(~kept, -torch.inf))
    scores = total.new_empty(*total.shape, width)
    torch.add(total[..., None], ahead, out=scores[..., 1:])
    ways = scores.flatten(1)
    ways.scatter_(1, torch.arange(0, beam_size * width, width, device=total.device) + column, twice)
    ways.scatter_(1, (parent * width + column) * kept, -torch.inf)  # what is kept already is not made again
    torch.logaddexp(blank_mass, token_mass, out=scores[..., 0])  # last: what is not listed was written here
    total, pick = ways.topk(beam_size)
    source, column = pick // width, pick % width
    longer = column > 0
    last = labels.gather(1, column).where(longer, last.gather(1, source))
    length = length.gather(1, source) + longer
    tokens = _rows(beams.tokens, source).scatter_(2, length[..., None], last[..., None])
    begins = _rows(beams.begins, source).gather(2, source[:, None, :].expand_as(beams.begins))
    begins &= tokens.gather(2, length[:, None, :].expand_as(begins)) == last[:, None, :]
    begins &= (total > -torch.inf)[..., None]
    token_mass = total.where(longer, token_mass.gather(1, source))
    blank_mass = blank_mass.gather(1, source).masked_fill_(longer, -torch.inf)
    return Beams(total, blank_mass, token_mass, last, length, tokens, begins), source, longer


def _rows(
    rows: Shaped[Tensor, "batch beam width"], places: Int[Tensor, "batch beam"]
) -> Shaped[Tensor, "batch beam width"]:
    """`rows[b, places[b, k]]` for all b and k, whole rows at a time."""
    batch, beam_size = places.shape
    first = torch.arange(0, batch * beam_size, beam_size, device=places.device)[:, None]
    return rows.flatten(0, 1).index_select(0, (places + first).flatten()).view_as(rows)


def _ask(
    fuse: Fuse, beams: Beams, new: Bool[Tensor, "batch beam"], fused: Float[Tensor, "batch beam vocab"]
) -> Float[Tensor, "batch beam vocab"]:
    """`fused` with what `fuse` says about the prefixes that are `new`, each asked once for the whole batch."""
    rows, lengths = beams.tokens[new].tolist(), beams.length[new].tolist()
    prefixes = [tuple(row[1 : n + 1]) for row, n in zip(rows, lengths, strict=True)]
    if not prefixes:
        return fused
    place = {prefix: i for i, prefix in enumerate(dict.fromkeys(prefixes))}
    with torch.inference_mode(False), torch.no_grad():  # its tensors are its own, to keep or to train with
        scores = fuse([list(prefix) for prefix in place])
    if not isinstance(scores, Tensor):
        raise TypeError(f"fuse must return a tensor of scores, (prefixes, vocab), got {type(scores).__name__}")
    shape = (len(place), fused.shape[-1])
    if scores.shape != shape:
        raise ValueError(f"fuse must return scores {shape}, (prefixes, vocab), got {tuple(scores.shape)}")
    if readable(scores) and (at := first(~(scores < torch.inf))):
        raise ValueError(f"fuse returned NaN or +inf for prefix {list(place)[at[0]]}; give log-scores, -inf to forbid")
    fused[new] = scores.to(fused)[[place[prefix] for prefix in prefixes]]
    return fused
