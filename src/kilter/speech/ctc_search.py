"""From CTC log-probabilities to tokens with their times: the best path, or the best labellings with a beam.

References: A. Graves et al., "Connectionist temporal classification", ICML 2006 (best-path decoding, prefix search);
A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014
(prefix beam search). Ours runs a whole batch and beam at once and compares prefixes exactly, without hashing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from kilter.core.checks import check_log_probs, readable
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import check_peaks, token_starts
from kilter.speech.ctc_align import best_alignments


@dataclass(frozen=True)
class Hypothesis:
    """One decoded utterance.

    Attributes:
        tokens: token ids.
        score: log-probability; of the best path for `ctc_greedy`, of the labelling for `ctc_prefix_beam_search`.
        times: first frame of each token's run, 0-based.
    """

    tokens: list[int]
    score: float
    times: list[int]


def ctc_greedy(
    log_probs: Float[Tensor, "batch time vocab"], input_lengths: Int[Tensor, " batch"], *, blank: int = 0
) -> list[Hypothesis]:
    r"""Best path: the most probable token of each frame, collapsed.

    $$\hat a_t = \arg\max_v \log p_t(v), \qquad \text{score} = \sum_{t<L} \log p_t(\hat a_t)$$

    Args:
        log_probs: log-softmax of the model's outputs.
        input_lengths: valid frames of each utterance.
        blank: index of the blank.

    Returns:
        One hypothesis per utterance.

    Raises:
        TypeError: `log_probs` not floating point, `input_lengths` not integer.
        ValueError: shapes, lengths or blank out of range; on the CPU also log-probabilities that are positive, NaN
            or -inf for a whole frame.

    Example:
        >>> import torch
        >>> log_probs = torch.eye(3)[[0, 2, 2, 0, 1]].mul(9).log_softmax(-1)[None]
        >>> ctc_greedy(log_probs, torch.tensor([5]))[0].tokens
        [2, 1]

    Reference: Graves et al., ICML 2006, section 3.2.
    """
    check_log_probs(log_probs, input_lengths, blank)
    if not log_probs.shape[1]:
        return [Hypothesis([], 0.0, []) for _ in input_lengths]
    valid = length_mask(input_lengths.to(log_probs.device), log_probs.shape[1])
    best, path = log_probs.detach().float().max(-1)
    if readable(best):
        check_peaks(best, valid)
    scores = best.masked_fill(~valid, 0.0).sum(-1).tolist()
    starts = token_starts(path, valid, blank)
    counts = starts.sum(-1).tolist()
    tokens = path[starts].split(counts)
    times = starts.nonzero()[:, 1].split(counts)
    return [Hypothesis(t.tolist(), s, f.tolist()) for t, s, f in zip(tokens, scores, times, strict=True)]


Fuse = Callable[[list[list[int]]], Tensor]
"""Prefixes, as token ids, to the log-scores `(prefixes, vocab)` of going on with each token; see the search below."""


@torch.inference_mode()
def ctc_prefix_beam_search(
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    *,
    beam_size: int = 16,
    n_best: int = 1,
    blank: int = 0,
    fuse: Fuse | None = None,
) -> list[list[Hypothesis]]:
    r"""The most probable labellings, each summed over its alignments; a language model may have a say.

    $$\text{score}(y) = \log \sum_{a:\, \mathcal B(a) = y} \prod_{t<L} p_t(a_t)
    \;\Big[ + \sum_{u < U} f(y_{<u})_{y_u} + f(y)_\text{blank} \Big]$$

    A prefix keeps the mass of its alignments that end in the blank apart from the mass of those that end in its last
    token; each frame keeps the `beam_size` prefixes of most mass. The sum runs over the alignments all of whose
    prefixes were kept, so it is exact when there are no more prefixes than `beam_size`. Of the vocabulary only what
    cannot enter the beam is left out: of each frame only the best `beam_size + 1` tokens can. Without gradient; for a
    beam of K, memory is O(B·T·V) and work O(B·K·(T + K)) a frame, with a language model O(B·K·V) more of each. On an
    accelerator no frame waits for the one before, unless a language model is asked.

    **A language model** is any `fuse(prefixes) -> scores`. `prefixes` holds n different labellings (lists of token
    ids, at first only `[]`), `scores (n, V)` the log-scores, already weighted, of going on with each token; the
    column of the blank is the score of ending there. -inf forbids. It is called at most once a frame, for the
    prefixes that are new in the beam, and the search keeps its answers while they stay there.

    * Word n-gram over letters: 0 everywhere, but at the separator and at the end `weight * log p(word | words
      before)` of the word that ends there (`WordBigram` in `examples/ctc_with_language_model.py`).
    * Causal model of transformers with the vocabulary of the CTC model: `weight * log p` of the next token after each
      prefix, the end token's in the column of the blank (`causal` in the same example).

    Args:
        log_probs: log-softmax of the model's outputs; any float dtype, any strides.
        input_lengths: valid frames of each utterance.
        beam_size: K, prefixes kept after each frame.
        n_best: hypotheses wanted of each utterance, at most `beam_size`.
        blank: index of the blank.
        fuse: log-scores of a language model, see above. They are added to `Hypothesis.score`.

    Returns:
        For each utterance up to `n_best` different hypotheses, best first; those of probability zero are left out.
        `times` are those of the most probable alignment of the labelling, as `ctc_forced_align` finds it.

    Raises:
        TypeError: `log_probs` not floating point, `input_lengths`, `beam_size` or `n_best` not integer, or what `fuse`
            returns not a tensor.
        ValueError: shapes, lengths, blank or settings out of range; scores of `fuse` that do not fit; on the CPU also
            log-probabilities that are positive, NaN or -inf for a whole frame.

    Example:
        The blank is the best token of both frames, yet "1" somewhere is more probable than nothing twice.

        >>> log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
        >>> ctc_prefix_beam_search(log_probs, torch.tensor([2]), n_best=2)[0]
        [Hypothesis(tokens=[1], score=-0.446, times=[0]), Hypothesis(tokens=[], score=-1.022, times=[])]

        A table as language model: start with 1 rather than 2, and end after one token.

        >>> def table(prefixes):
        ...     rows = torch.tensor([[-2.0, 0.0, -1.0], [0.0, -torch.inf, -torch.inf]])
        ...     return rows[[min(len(prefix), 1) for prefix in prefixes]]
        >>> log_probs = torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]]).log()
        >>> ctc_prefix_beam_search(log_probs, torch.tensor([2]))[0][0].tokens
        [2]
        >>> ctc_prefix_beam_search(log_probs, torch.tensor([2]), fuse=table)[0][0].tokens
        [1]

    Reference: Graves et al., ICML 2006, section 3.2; Hannun et al., 2014, algorithm 1.
    """
    check_log_probs(log_probs, input_lengths, blank)
    for name, value in (("beam_size", beam_size), ("n_best", n_best)):
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best={n_best} must be between 1 and beam_size={beam_size}; ask for less or widen the beam")
    input_lengths = input_lengths.to(log_probs.device)
    valid = length_mask(input_lengths, log_probs.shape[1])
    exact = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    beams = _search(exact, valid, beam_size, blank, fuse)
    return _hypotheses(beams, n_best, exact, input_lengths, blank)


@dataclass
class _Beams:
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


def _search(
    log_probs: Float[Tensor, "batch time vocab"],
    valid: Bool[Tensor, "batch time"],
    beam_size: int,
    blank: int,
    fuse: Fuse | None,
) -> _Beams:
    """The beam after the last frame, in the order of what `fuse` says about ending there."""
    batch, _, vocab = log_probs.shape
    nothing = log_probs.new_full((batch, beam_size), -torch.inf)
    total = nothing.clone()
    total[:, 0] = 0.0  # the empty prefix is certain
    tokens = torch.full((batch, beam_size, 16), blank, device=log_probs.device)
    begins = (total > -torch.inf)[..., None].expand(-1, -1, beam_size)
    beams = _Beams(total, total, nothing, tokens[..., 0], torch.zeros_like(tokens[..., 0]), tokens, begins)
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
    beams: _Beams,
    frame: Float[Tensor, "batch vocab"],
    beyond: Bool[Tensor, " batch"],
    blank: Float[Tensor, " batch"],
    ahead: Float[Tensor, "batch listed"],
    labels: Int[Tensor, "batch listed+1"],
    places: Int[Tensor, "batch vocab"],
    fused: Float[Tensor, "batch beam vocab"] | None,
) -> tuple[_Beams, Int[Tensor, "batch beam"], Bool[Tensor, "batch beam"]]:
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
    return _Beams(total, blank_mass, token_mass, last, length, tokens, begins), source, longer


def _rows(
    rows: Shaped[Tensor, "batch beam width"], places: Int[Tensor, "batch beam"]
) -> Shaped[Tensor, "batch beam width"]:
    """`rows[b, places[b, k]]` for all b and k, whole rows at a time."""
    batch, beam_size = places.shape
    first = torch.arange(0, batch * beam_size, beam_size, device=places.device)[:, None]
    return rows.flatten(0, 1).index_select(0, (places + first).flatten()).view_as(rows)


def _ask(
    fuse: Fuse, beams: _Beams, new: Bool[Tensor, "batch beam"], fused: Float[Tensor, "batch beam vocab"]
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
    if readable(scores) and not (scores < torch.inf).all():
        i = int((~(scores < torch.inf)).any(-1).nonzero()[0])
        raise ValueError(f"fuse returned NaN or +inf for prefix {list(place)[i]}; give log-scores, -inf to forbid")
    fused[new] = scores.to(fused)[[place[prefix] for prefix in prefixes]]
    return fused


def _hypotheses(
    beams: _Beams,
    n_best: int,
    log_probs: Float[Tensor, "batch time vocab"],
    input_lengths: Int[Tensor, " batch"],
    blank: int,
) -> list[list[Hypothesis]]:
    """The best prefixes as lists, with the times of their best alignments."""
    batch, frames, _ = log_probs.shape
    totals, lengths = beams.total[:, :n_best].tolist(), beams.length[:, :n_best]
    longest = int(lengths.max()) if batch else 0
    targets = beams.tokens[:, :n_best, 1 : longest + 1]
    valid = length_mask(input_lengths, frames)
    found: list[list[Hypothesis]] = [[] for _ in totals]
    live = max((sum(total > -math.inf for total in row) for row in totals), default=0)
    for rank in range(live):
        tokens, count = targets[:, rank], lengths[:, rank]
        tokens = tokens.where(length_mask(count, longest), blank)
        path, _ = best_alignments(log_probs, input_lengths, tokens, count, blank)
        starts = token_starts(path, valid, blank)
        times = starts.nonzero()[:, 1].split(starts.sum(-1).tolist())
        for b, (row, n, at) in enumerate(zip(tokens.tolist(), count.tolist(), times, strict=True)):
            if totals[b][rank] > -math.inf:
                found[b].append(Hypothesis(row[:n], totals[b][rank], at.tolist()))
    return found
