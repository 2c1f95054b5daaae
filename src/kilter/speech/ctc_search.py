"""From CTC log-probabilities to tokens with their times: the best path, or the best labellings with a beam.

References: A. Graves et al., "Connectionist temporal classification", ICML 2006 (best-path decoding, prefix search);
A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014
(prefix beam search). Ours runs a whole batch and beam at once and compares prefixes exactly, without hashing.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import check_log_probs, check_peaks, readable, whole
from kilter.core.masking import length_mask
from kilter.ops.ctc_paths import token_starts
from kilter.ops.ctc_viterbi import best_alignments
from kilter.ops.prefix_beam import Beams, Fuse, search_prefixes


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
    whole("beam_size", beam_size)
    whole("n_best", n_best)
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best={n_best} must be between 1 and beam_size={beam_size}; ask for less or widen the beam")
    input_lengths = input_lengths.to(log_probs.device)
    valid = length_mask(input_lengths, log_probs.shape[1])
    exact = log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))
    beams = search_prefixes(exact, valid, beam_size, blank, fuse)
    return _hypotheses(beams, n_best, exact, input_lengths, blank)


def _hypotheses(
    beams: Beams,
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
