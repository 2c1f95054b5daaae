"""Is the nearest text on the other side the partner: the translation, or the description among those of its domain?

Accuracy of bitext retrieval both ways, as Artetxe and Schwenk, TACL 2019, have it on Tatoeba; CSLS of Conneau et al.,
"Word Translation Without Parallel Data", ICLR 2018. Departure: texts that are equally near share one hit, where the
usual code takes the first of them; so a space in which all is alike has the accuracy of chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from kilter.core import options
from kilter.evaluation.embeddings import _blocks, _paired

_SAME = 1e-12
"""Cosines in double precision that are nearer than this are the same."""


@dataclass(frozen=True)
class BitextRetrieval:
    """What `bitext_retrieval` finds: accuracies within 0..1, and for intervals over pairs what became of each.

    Attributes:
        forward: share of the first texts whose nearest second text is their own.
        backward: share of the second texts whose nearest first text is their own.
        forward_hits, backward_hits: `(n,)`, 1 or 0; texts that are equally near share one.
        forward_ranks, backward_ranks: `(n,)` ranks of the own partner from 1; of those equally near, the mean.
        forward_reciprocals, backward_reciprocals: `(n,)` 1 by the rank; the mean over those equally near.
    """

    forward: float
    backward: float
    forward_hits: Float64[Tensor, "pairs"]
    backward_hits: Float64[Tensor, "pairs"]
    forward_ranks: Float64[Tensor, "pairs"]
    backward_ranks: Float64[Tensor, "pairs"]
    forward_reciprocals: Float64[Tensor, "pairs"]
    backward_reciprocals: Float64[Tensor, "pairs"]

    @property
    def mean(self) -> float:
        """Mean of both ways."""
        return (self.forward + self.backward) / 2

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank of the own partner, both ways."""
        return float(self.reciprocals.mean())

    @property
    def reciprocals(self) -> Float64[Tensor, "pairs"]:
        """Reciprocal ranks, mean of both ways, pair by pair."""
        return (self.forward_reciprocals + self.backward_reciprocals) / 2

    @property
    def hits(self) -> Float64[Tensor, "pairs"]:
        """Mean of both ways, pair by pair."""
        return (self.forward_hits + self.backward_hits) / 2


@dataclass(frozen=True)
class DomainRetrieval:
    """What `within_domain_retrieval` finds: every domain counts alike, however many pairs it has.

    Attributes:
        domains: what was found in each, in the order in which they first stand.
        hits: `(n,)` mean of both ways, pair by pair in the order given; texts that are equally near share one.
        reciprocals: `(n,)` reciprocal ranks, mean of both ways.
    """

    domains: Mapping[Any, BitextRetrieval]
    hits: Float64[Tensor, "pairs"]
    reciprocals: Float64[Tensor, "pairs"]

    @property
    def forward(self) -> float:
        """Share of the first texts whose nearest second text of their domain is their own, mean of the domains."""
        return self._mean_of("forward")

    @property
    def backward(self) -> float:
        """Share of the second texts whose nearest first text of their domain is their own, mean of the domains."""
        return self._mean_of("backward")

    @property
    def mean(self) -> float:
        """Mean of both ways."""
        return self._mean_of("mean")

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank of the own partner among the texts of its domain, both ways, mean of the domains."""
        return self._mean_of("mrr")

    def _mean_of(self, name: str) -> float:
        return sum(getattr(found, name) for found in self.domains.values()) / len(self.domains)


def bitext_retrieval(x: Tensor | Any, y: Tensor | Any, *, csls: int = 0) -> BitextRetrieval:
    r"""Find each text's translation by cosine among all, both ways; exact, and in pieces so that memory is bounded.

    Args:
        x: `(n, d)` vectors of the texts in one language, at least two; tensor of any dtype, or array.
        y: `(n, d)` vectors of their translations, in the same order.
        csls: take $2 \cos(x, y) - r(x) - r(y)$ instead of the cosine, $r$ the mean cosine of a text with its `csls`
            nearest in the other language: hubs, which are near to everything, then win less. 0 takes the cosine.

    Raises:
        ValueError: another shape, NaN or infinity, a vector of zeros, fewer than two pairs, or csls outside 0..n.

    Example:
        >>> found = bitext_retrieval([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.2], [1.0, 0.4]])
        >>> found.forward, found.backward, found.mean
        (1.0, 0.5, 0.75)

    Reference: Artetxe and Schwenk 2019, section 4.3; of sentence-transformers, `TranslationEvaluator`.
    """
    options.whole("csls", csls, 0)
    u, v = _paired(x, y)
    if len(u) < 2:
        raise ValueError("x has one text only, which cannot be mistaken for another; give two pairs or more")
    if csls > len(u):
        raise ValueError(f"csls must be at most the {len(u)} pairs, got {csls}")
    near_u, near_v = (_nearness(a, b, csls) for a, b in ((u, v), (v, u)))
    own = _closeness((u * v).sum(1), near_u, near_v, csls)
    better, same = (torch.zeros(2, len(u), dtype=torch.long, device=u.device) for _ in range(2))
    for start, cosines in _blocks(u, v):
        rows = slice(start, start + len(cosines))
        close = _closeness(cosines, near_u[rows, None], near_v, csls)
        for way, true, axis in ((0, own[rows, None], 1), (1, own, 0)):
            here = rows if way == 0 else slice(None)
            better[way, here] += (close > true + _SAME).sum(axis)
            same[way, here] += ((close - true).abs() <= _SAME).sum(axis)
    hits = ((better == 0) / same).cpu().double()
    ranks = (better + (same + 1) / 2).cpu().double()
    inverse = ((torch.digamma((better + same + 1).double()) - torch.digamma((better + 1).double())) / same).cpu()
    forward, backward = hits.mean(1).tolist()
    return BitextRetrieval(forward, backward, *hits, *ranks, *inverse)


def within_domain_retrieval(
    x: Tensor | Any, y: Tensor | Any, domains: Tensor | Sequence[Any], *, csls: int = 0
) -> DomainRetrieval:
    """Find each text's partner by cosine among the texts of its own domain only, both ways.

    Among the texts of all domains most are told apart by their subject alone, so that a model which knows nothing but
    the domains looks good; here it has the accuracy of chance.

    Args:
        x: `(n, d)` vectors of the first texts; tensor of any dtype, or array.
        y: `(n, d)` vectors of their partners, in the same order.
        domains: of each pair, a name or number; every domain has at least two pairs.
        csls: see `bitext_retrieval`; at most the pairs of the smallest domain.

    Raises:
        ValueError: see `bitext_retrieval`; or domains that are not one for each pair, or have a single pair.

    Example:
        >>> x = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
        >>> found = within_domain_retrieval(x, x, ["med", "med", "law", "law"])
        >>> found.mean, found.mrr, [*found.domains]
        (1.0, 1.0, ['med', 'law'])

    Reference: `bitext_retrieval`, domain by domain.
    """
    u, v = _paired(x, y)
    names = domains.tolist() if isinstance(domains, Tensor) else [*domains]
    if len(names) != len(u):
        raise ValueError(f"domains must be one for each of {len(u)} pairs, got {len(names)}")
    rows: dict[Any, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    for name, some in rows.items():
        if len(some) < 2:
            raise ValueError(f"domain {name!r} has one pair only, which no other can be mistaken for; give two or more")
    found = {name: bitext_retrieval(u[some], v[some], csls=csls) for name, some in rows.items()}
    order = torch.tensor([row for some in rows.values() for row in some]).argsort()
    hits, reciprocals = (
        torch.cat([getattr(one, what) for one in found.values()])[order] for what in ("hits", "reciprocals")
    )
    return DomainRetrieval(found, hits, reciprocals)


def _nearness(u: Tensor, v: Tensor, k: int) -> Tensor:
    """Mean cosine of each row of `u` with its k nearest of `v`; 0 for no k."""
    if not k:
        return u.new_zeros(len(u))
    return torch.cat([cosines.topk(k, dim=1).values.mean(1) for _, cosines in _blocks(u, v)])


def _closeness(cosines: Tensor, near_u: Tensor, near_v: Tensor, k: int) -> Tensor:
    return 2 * cosines - near_u - near_v if k else cosines
