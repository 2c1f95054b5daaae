r"""Whitening of a finished encoder, baked into it as a stock Dense module: the usual rival of whitening in training.

Source: Su, Cao, Liu and Ou, "Whitening Sentence Representations", 2021 (BERT-whitening). The departure: directions with
next to no variance are not blown up but left out, where there are fewer texts than dimensions or dead channels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kilter.hosts.sentence_modules import with_affine_end, without_normalize
from kilter.hosts.sentences import encode

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LEAST = 1e-5
"""Share of the largest variance below which a direction counts as empty."""


def whitened(encoder: "SentenceTransformer", texts: Sequence[str]) -> "SentenceTransformer":
    """A copy of the encoder with a Dense module at its end: its vectors of these texts have mean 0 and covariance 1.

    Args:
        encoder: stays as it is; of one that ends with Normalize the Dense module stands before that.
        texts: that it is fitted on.
    """
    return with_affine_end(encoder, *whitening_map(encode(without_normalize(encoder), texts)))


def whitening_map(vectors: Tensor) -> tuple[Tensor, Tensor]:
    r"""$W = \Sigma^{-1/2}$ and $-W\mu$ of vectors `(n, d)`, as weight `(d, d)` and bias `(d,)` of a linear layer.

    Example:
        >>> weight, bias = whitening_map(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        >>> weight.tolist(), bias.tolist()
        ([[1.0, 0.0], [0.0, 0.0]], [-2.0, 0.0])
    """
    x = vectors.double()
    mean = x.mean(0)
    variances, directions = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    kept = variances > LEAST * variances[-1]
    scales = torch.where(kept, variances.clamp(min=1e-300).rsqrt(), 0.0)
    weight = directions * scales @ directions.T
    return weight.float(), -(weight @ mean).float()
