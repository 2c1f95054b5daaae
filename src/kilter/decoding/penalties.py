"""What a candidate pays for being like the beams of earlier groups: the diversity functions of Diverse Beam Search.

Each is a `kilter.decoding.beam_groups.Penalty`: a similarity, to be subtracted with weight λ. The paper (§5.1) gives
them as dissimilarities; where its indices leave a choice, the docstring says which reading this is.
"""

import math

import torch
from torch import Tensor

from kilter.core.checks import at_least, finite, floating, integer, positive, same_shape, shaped, whole, within


def hamming(chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int) -> Tensor:
    """How many beams of earlier groups have just taken each token: `(N, 1, V)`.

    Example:
        >>> chosen = torch.tensor([[2, 2, 0]])
        >>> hamming(chosen, chosen[..., :0], chosen[..., :0], 4)
        tensor([[[1., 0., 2., 0.]]])
    """
    _check_chosen(chosen, vocab_size)
    counts = torch.zeros(len(chosen), vocab_size, device=chosen.device)
    return counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=counts.dtype))[:, None]


def cumulative(chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int, *, temperature: float = 1.0) -> Tensor:
    """Hamming that fades as two sequences come to differ: Σ_j exp(−D_ij/Γ), `(N, B', V)`.

    D_ij counts the places at which candidate i and beam j differ, the new one included, so that every token is charged
    a little, and the token of beam j most. The printed formula mixes beams of two groups; this is our reading.
    """
    positive("temperature", temperature)
    _check_beams(chosen, history, prefix, vocab_size)
    apart = (prefix[:, :, None] != history[:, None]).sum(-1)  # (N, B', K)
    near = torch.exp(-apart / temperature)
    other = math.exp(-1 / temperature)
    at_chosen = _at(chosen, near * (1 - other), vocab_size)
    return at_chosen + (near.sum(-1) * other)[..., None]


def overlap(chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int, *, discount: float = 1.0) -> Tensor:
    """Hamming that grows as two sequences agree: tokens of beam j count 1 + Σ_τ discount^(t−τ) 1[i and j agree at τ].

    What fairseq calls cumulative; a discount of 0 is `hamming`. fairseq compares groups, this each pair of beams.
    `(N, B', V)`.
    """
    at_least("discount", discount, 0)
    _check_beams(chosen, history, prefix, vocab_size)
    steps = torch.arange(prefix.shape[-1], 0, -1, device=prefix.device)
    agree = (prefix[:, :, None] == history[:, None]) * torch.tensor(discount, device=prefix.device) ** steps
    return _at(chosen, 1 + agree.sum(-1), vocab_size)


def ngram(chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int, *, n: int = 2) -> Tensor:
    """How often each token would end an n-gram that beams of earlier groups have anywhere: `(N, B', V)`.

    The prompt does not count. With n = 1 these are the tokens of all places. n is not in the paper.
    """
    whole("n", n, 1)
    _check_beams(chosen, history, prefix, vocab_size)
    beams = torch.cat([history, chosen[..., None]], -1)
    if beams.shape[-1] < n:
        return torch.zeros(*prefix.shape[:2], vocab_size, device=prefix.device)
    windows = beams.unfold(-1, n, 1).flatten(1, 2)  # (N, K·W, n)
    last = prefix[..., prefix.shape[-1] - (n - 1) :]
    same = (windows[:, None, :, :-1] == last[:, :, None]).all(-1)
    return _at(windows[..., -1], same.float(), vocab_size)


def embedding(
    chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int, *, vectors: Tensor, norms: Tensor | None = None
) -> Tensor:
    """Hamming with cosines in place of equality: Σ_u cos(e_v, e_u) over the tokens u just taken, `(N, 1, V)`.

    `vectors (≥V, D)` are the model's input embeddings here (word2vec in the paper). Every token is charged, so that λ
    is to be smaller than for `hamming`. `norms (≥V,)` are the vectors' lengths, where they are known.
    """
    _check_chosen(chosen, vocab_size)
    floating("vectors", vectors)
    shaped("vectors", vectors, "vocab, dim")
    if len(vectors) < vocab_size:
        raise ValueError(f"vectors: there are {len(vectors)} for a vocabulary of {vocab_size}; give one for each token")
    norms = lengths(vectors) if norms is None else norms
    taken = (vectors[chosen] / norms[chosen][..., None]).sum(1)
    return (taken @ vectors[:vocab_size].T / norms[:vocab_size]).float()[:, None]


def lengths(vectors: Tensor) -> Tensor:
    """Length of each of `vectors (V, D)`, none of them 0: `(V,)`."""
    floating("vectors", vectors)
    finite("vectors", vectors, mend="look at the model's input embeddings")
    return vectors.norm(dim=-1).clamp_min(torch.finfo(vectors.dtype).tiny)


def _check_chosen(chosen: Tensor, vocab_size: int) -> None:
    _check_tokens("chosen", chosen, "inputs, beams", vocab_size)


def _check_tokens(name: str, tokens: Tensor, axes: str, vocab_size: int) -> None:
    integer(name, tokens, "hold token ids")
    shaped(name, tokens, axes)
    within(name, tokens, 0, vocab_size - 1, f"outside the vocabulary 0..{vocab_size - 1}", row="input")


def _check_beams(chosen: Tensor, history: Tensor, prefix: Tensor, vocab_size: int) -> None:
    _check_chosen(chosen, vocab_size)
    for name, beams in (("history", history), ("prefix", prefix)):
        _check_tokens(name, beams, "inputs, beams, time", vocab_size)
    same_shape("history", history, (*chosen.shape, history.shape[2]), "the beams of chosen")
    same_shape("prefix", prefix, (len(chosen), prefix.shape[1], history.shape[2]), "the inputs and steps of history")


def _at(tokens: Tensor, weights: Tensor, vocab_size: int) -> Tensor:
    """Add `weights (N, B', M)` up at `tokens (N, M)`: `(N, B', V)`."""
    total = torch.zeros(*weights.shape[:2], vocab_size, device=tokens.device)
    return total.scatter_add_(-1, tokens[:, None].expand_as(weights), weights.float())
