"""Scores of queries and stored vectors: rounded for a chunk at once, exact for single pairs; for `pair_search`."""

import math
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import finite, whole
from kilter.embeddings.pair_head import PairHead

_NUMBERS = 1 << 21
"""Scores of one chunk; they should fit the processor's cache."""
_ROWS = 1 << 17
"""Stored vectors of one chunk, at most."""
_LOOSE = {"high": 2.0**-9, "tf32": 2.0**-9, "medium": 2.0**-6, "bf16": 2.0**-6}
"""Relative error of a product under torch's precisions of matrix products in float32 that are not full."""
_LIKELY = 8
"""Times the usual growth of rounding errors."""


class DotScores:
    """Dot products.

    Args:
        dim: components of a vector.
        longest: length of the longest stored vector.
    """

    queries = 256
    """At once."""

    def __init__(self, dim: int, longest: float) -> None:
        self.dim, self.longest = dim, longest

    def dtype(self, stored: torch.dtype) -> torch.dtype:
        """What vectors are compared in, and scores are given in."""
        return torch.promote_types(stored, torch.float32)

    def rows(self, u: Tensor, *, copied: bool) -> int:
        """Stored vectors at once; fewer where they have to be copied to another device or precision."""
        most = min(_ROWS, _NUMBERS // max(1, len(u)))
        return max(1, min(most, 4 * _NUMBERS // self.dim) if copied else most)

    def rounded(self, u: Float[Tensor, "q dim"], v: Float[Tensor, "n dim"]) -> Float[Tensor, "q n"]:
        """Scores of all pairs."""
        return u @ v.mT

    def most(self, u: Float[Tensor, "q dim"]) -> Float[Tensor, " q"]:
        """What no score, and nothing on the way to it, is above."""
        return _lengths(u) * self.longest

    def error(self, dtype: torch.dtype) -> float:
        """How far `rounded` may be from `exact`, as a part of `most`: that of a sum in any order, doubled."""
        return self.dim * torch.finfo(dtype).eps + _loose()

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
        super().__init__(head.dim, longest)
        self.head, self.output = head, output
        self._double = deepcopy(head).cpu().double()

    def dtype(self, stored: torch.dtype) -> torch.dtype:
        """Single precision, since scores are exact only in what is then rounded."""
        return torch.float32

    def rounded(self, u: Float[Tensor, "q dim"], v: Float[Tensor, "n dim"]) -> Float[Tensor, "q n"]:
        """Scores of all pairs."""
        return self._one(self.head.score_matrix(u, v))

    def most(self, u: Float[Tensor, "q dim"]) -> Float[Tensor, " q"]:
        """What no score, and nothing on the way to it, is above."""
        first, last = self._double.first, self._double.last
        features = _lengths(u) * self.longest
        if self.head.features == "concat":
            sides = _lengths(u), torch.full((len(u),), self.longest, dtype=torch.double)
            product = u.double().abs().amax(1) * self.longest
            features = torch.stack([*sides, product, sides[0] + sides[1]]).norm(dim=0)
        hidden = features[:, None] * first.weight.norm(dim=1) + first.bias.abs()
        return torch.maximum(features, (hidden @ last.weight.abs().mT + last.bias.abs()).amax(1))

    def error(self, dtype: torch.dtype) -> float:
        """How far `rounded` may be from `exact`, as a part of `most`.

        Rounding errors that are as often up as down grow with the root of the number of terms (Higham and Mary, SIAM
        Journal on Scientific Computing, 2019), here of both layers; this is eight times that.
        """
        terms = self.dim * (4 if self.head.features == "concat" else 1) + self.head.hidden
        error = _LIKELY * math.sqrt(terms) * torch.finfo(dtype).eps / 2 + _loose()
        return error if self.output is None else 2 * error  # its log-probability is less the others' as well

    def exact(self, u: Float[Tensor, "pairs dim"], v: Float[Tensor, "pairs dim"]) -> Float[Tensor, " pairs"]:
        """Scores of pairs, in double precision."""
        return self._one(self._double(u.double(), v.double()))

    def _one(self, found: Tensor) -> Tensor:
        return found.squeeze(-1) if self.output is None else found.log_softmax(-1)[..., self.output]


def _loose() -> float:
    """By the loosest precision that any of torch's settings names; one that does not count here costs only time."""
    backends = torch.backends
    places = backends, backends.cuda.matmul, backends.mkldnn, getattr(backends.mkldnn, "matmul", None)
    named = [getattr(place, "fp32_precision", "") for place in places]
    with suppress(RuntimeError):  # after one of the others was set, torch may refuse to say
        named.append(torch.get_float32_matmul_precision())
    return max(_LOOSE.get(name, 0.0) for name in named)


def _lengths(u: Tensor) -> Tensor:
    return torch.linalg.vector_norm(u, dim=1, dtype=torch.double)


def check_head(head: Any, output: Any, width: int) -> None:
    """Check what an index is to be searched by.

    Raises:
        TypeError: a head or an output that is none.
        ValueError: the head is for another width, NaN or infinite, or the output is not one of several of it.
    """
    if head is None:
        if output is not None:
            raise ValueError(f"output={output!r}: is one of a head's, and there is none; leave it out, or give head=")
        return
    if not isinstance(head, PairHead):
        raise TypeError(f"head must be a PairHead, got {type(head).__name__}")
    if head.dim != width:
        raise ValueError(f"head was made for dim={head.dim}, the vectors are {width} wide; encode as for its training")
    for name, value in head.named_parameters():
        finite(f"head.{name}", value, mend="its training has diverged")
    if (output is None) != (head.outputs == 1):
        raise ValueError(f"output: the head has {head.outputs}, got {output!r}; say which of several to search by")
    if output is not None:
        whole("output", output, 0)
        if output >= head.outputs:
            raise ValueError(f"output must be below {head.outputs}, the outputs of the head, got {output}")
