r"""A small reward that learns from pairs which answer people prefer: a weight for each n-gram, in seconds on one core.

Paper: R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs", Biometrika 1952. The departure: the
strength of an answer is linear in hashed n-grams of its words, so that the likelihood has one maximum, found exactly.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from kilter.core import options
from kilter.models.completions import completion_text

_WORDS = re.compile(r"\w+|[^\w\s]")
_EDGE = "\n"
"""Before the first word and after the last, in n-grams of two words or more; no word is called so."""
_STEPS = 200


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    r"""Scores answers; of two, the chance that people prefer the first is $\sigma(r_1 - r_2)$.

    $$r(y) = w^\top \phi(y), \qquad \phi_b(y) = \sqrt{\frac{\#\{\text{n-grams of } y \text{ in bucket } b\}}
    {\#\{\text{n-grams of } y\}}}$$

    so that saying the same again does not count. An object is a reward as trl's trainers take it, and always says
    the same of a text.

    Attributes:
        weights: `(buckets,)`, float64.
        ngrams: words of the longest n-gram.

    Example:
        >>> reward = BradleyTerry.fit(["I will not help."] * 4, ["Sure, I will help."] * 4, buckets=64, ngrams=1)
        >>> polite, not_polite = reward(["I will not.", "Sure!"])
        >>> polite > not_polite
        True

    Reference: Bradley and Terry 1952.
    """

    weights: Float64[Tensor, " buckets"]
    ngrams: int = 2

    @classmethod
    def fit(
        cls,
        chosen: Sequence[Any],
        rejected: Sequence[Any],
        *,
        ngrams: int = 2,
        buckets: int = 2**13,
        decay: float = 1e-3,
    ) -> "BradleyTerry":
        r"""Learn from pairs.

        $$\min_w \frac1N \sum_i -\log \sigma\left(r(y_i^+) - r(y_i^-)\right) + \lambda \lVert w \rVert^2$$

        Args:
            chosen: the answers that were preferred; texts, or lists of messages.
            rejected: the others, in the same order.
            ngrams: words of the longest n-gram.
            buckets: among which n-grams are spread.
            decay: λ.

        Raises:
            ValueError: no pairs, or lists of different lengths; an option out of range.
        """
        options.whole("ngrams", ngrams, 1)
        options.whole("buckets", buckets, 1)
        options.positive("decay", decay)
        _check_pairs(chosen, rejected)
        good, bad = (_features(some, ngrams, buckets) for some in (chosen, rejected))
        weights = torch.zeros(buckets, dtype=torch.float64, requires_grad=True)
        exact = {"max_iter": _STEPS, "tolerance_grad": 1e-9, "tolerance_change": 1e-12}
        search = torch.optim.LBFGS([weights], line_search_fn="strong_wolfe", **exact)

        def loss() -> Tensor:
            search.zero_grad()
            wrong = nn.functional.softplus(_strengths(weights, bad) - _strengths(weights, good)).mean()
            found = wrong + decay * weights.square().sum()
            found.backward()
            return found

        with torch.enable_grad():
            search.step(loss)
        return cls(weights.detach(), ngrams)

    @property
    def __name__(self) -> str:
        """What trl calls it in its logs."""
        return "bradley_terry"

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float]:
        """The score of each completion, a text or a list of messages; other columns are not looked at."""
        return _strengths(self.weights, _features(completions, self.ngrams, len(self.weights))).tolist()

    def accuracy(self, chosen: Sequence[Any], rejected: Sequence[Any]) -> float:
        """Share of pairs of which the preferred answer has the higher score; ties count half.

        Raises:
            ValueError: no pairs, or lists of different lengths.
        """
        _check_pairs(chosen, rejected)
        ahead = [(a > b) + (a == b) / 2 for a, b in zip(self(chosen), self(rejected), strict=True)]
        return sum(ahead) / len(ahead)


def _check_pairs(chosen: Sequence[Any], rejected: Sequence[Any]) -> None:
    if not len(chosen) or len(chosen) != len(rejected):
        raise ValueError(
            f"chosen and rejected must be as many answers, one at least; got {len(chosen)} and {len(rejected)}"
        )


@dataclass(frozen=True)
class _Features:
    """The n-grams of some texts: row, bucket and value of each that is there."""

    rows: int
    row: Tensor
    bucket: Tensor
    value: Float[Tensor, " entries"]


def _features(completions: Sequence[Any], ngrams: int, buckets: int) -> _Features:
    row, bucket, value = list[int](), list[int](), list[float]()
    for place, completion in enumerate(completions):
        words = _WORDS.findall(completion_text(completion).lower())
        edged = [_EDGE, *words, _EDGE]
        longer = (
            edged[start : start + size] for size in range(2, ngrams + 1) for start in range(len(edged) - size + 1)
        )
        counts = Counter(crc32(" ".join(gram).encode()) % buckets for gram in (*([word] for word in words), *longer))
        total = counts.total()
        row += [place] * len(counts)
        bucket += counts
        value += [(count / total) ** 0.5 for count in counts.values()]
    at, of = (torch.tensor(one, dtype=torch.long) for one in (row, bucket))
    return _Features(len(completions), at, of, torch.tensor(value, dtype=torch.float64))


def _strengths(weights: Tensor, features: _Features) -> Float64[Tensor, " rows"]:
    found = weights.new_zeros(features.rows)
    return found.index_add(0, features.row, weights[features.bucket] * features.value)
