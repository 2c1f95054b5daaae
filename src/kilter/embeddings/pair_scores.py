"""Scores of queries and stored vectors: rounded for a whole chunk at once, exact for single pairs; for `pair_search`."""

import math
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.embeddings.pair_head import PairHead

_NUMBERS = 1 << 22
"""Of vectors and scores of one chunk; they should fit the processor's cache."""
_LOOSE = {"highest": 0.0, "high": 2.0**-9, "medium": 2.0**-6}
"""Relative error of a product under torch's precisions of matrix products in float32."""
_LIKELY = 8
"""Times the usual growth of rounding errors."""


class DotScores:
    """Dot products.

    Args:
        longest: length of the longest stored vector.
    """

    queries = 256
    """At once."""

    def __init__(self, longest: float) -> None:
        self.longest = longest

    def rows(self, u: Tensor) -> int:
        """Stored vectors at once."""
        return max(1, _NUMBERS // (u.shape[1] + len(u)))

    def rounded(self, u: Float[Tensor, "q dim"], v: Float[Tensor, "n dim"]) -> Float[Tensor, "q n"]:
        """Scores of all pairs."""
        return u @ v.mT

    def margin(self, u: Float[Tensor, "q dim"]) -> Float[Tensor, " q"]:
        """How far `rounded` may be from `exact`: the bound of a sum of products in any order, doubled."""
        error = u.shape[1] * torch.finfo(u.dtype).eps + _LOOSE[torch.get_float32_matmul_precision()]
        return _lengths(u) * (error * self.longest)

    def exact(self, u: Float[Tensor, "pairs dim"], v: Float[Tensor, "pairs dim"]) -> Float[Tensor, " pairs"]:
        """Scores of pairs, each by itself, in double precision."""
        return (u.double() * v.double()).sum(1)


class HeadScores(DotScores):
    """What a head says; of one for several classes the log-probability of one.

    Args:
        head: on the device where `rounded` is to work.
        output: which class; None for a head with one output.
        longest: length of the longest stored vector.
    """

    queries = 64

    def __init__(self, head: PairHead, output: int | None, longest: float) -> None:
        super().__init__(longest)
        self.head, self.output = head, output
        self._double = deepcopy(head).cpu().double()

    def rows(self, u: Tensor) -> int:
        """Stored vectors at once."""
        return max(1, _NUMBERS // (u.shape[1] + len(u) * self.head.outputs))

    def rounded(self, u: Float[Tensor, "q dim"], v: Float[Tensor, "n dim"]) -> Float[Tensor, "q n"]:
        """Scores of all pairs."""
        return self._one(self.head.score_matrix(u, v))

    def margin(self, u: Float[Tensor, "q dim"]) -> Float[Tensor, " q"]:
        """How far `rounded` may be from `exact`.

        Rounding errors that are as often up as down grow with the root of the number of sums (Higham and Mary, SIAM
        Journal on Scientific Computing, 2019), here through both layers; this is eight times that.
        """
        first, last = self._double.first, self._double.last
        if self.head.features == "dot":
            features, sums = _lengths(u) * self.longest, self.head.dim
        else:
            sides = _lengths(u), torch.full((len(u),), self.longest, dtype=torch.double)
            product, distance = u.double().abs().amax(1) * self.longest, sides[0] + sides[1]
            features, sums = torch.stack([*sides, product, distance]).norm(dim=0), 4 * self.head.dim
        hidden = features[:, None] * first.weight.norm(dim=1) + first.bias.abs()
        most = (hidden @ last.weight.abs().mT + last.bias.abs()).amax(1)
        error = _LIKELY * math.sqrt(sums + self.head.hidden) * torch.finfo(u.dtype).eps / 2
        return most * ((error + _LOOSE[torch.get_float32_matmul_precision()]) * (1 if self.output is None else 2))

    def exact(self, u: Float[Tensor, "pairs dim"], v: Float[Tensor, "pairs dim"]) -> Float[Tensor, " pairs"]:
        """Scores of pairs, in double precision."""
        return self._one(self._double(u.double(), v.double()))

    def _one(self, found: Tensor) -> Tensor:
        return found.squeeze(-1) if self.output is None else found.log_softmax(-1)[..., self.output]


def _lengths(u: Tensor) -> Tensor:
    return torch.linalg.vector_norm(u, dim=1, dtype=torch.double)
