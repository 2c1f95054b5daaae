"""Whitening of many small groups of channels at once: centred, without correlation, of variance 1, and never NaN.

One batched decomposition of all covariances. What a group leaves undetermined is bounded: dead channels become zeros,
directions that rounding has eaten are taken for as small as rounding.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Method = Literal["zca", "cholesky", "svd"]

_DEAD = 1e-10
"""Variance of a dead channel, as a share of the mean variance: a hundred-thousandth of the usual deviation.

all-MiniLM-L6-v2 has three, 127 and 223 of 1e-33 and 319 of 1e-9, which are scales of its last LayerNorm. The mean and
not the median, so that they are found where most are dead.
"""


class Whitened(NamedTuple):
    """What `whiten` returns: the vectors, and which channels had no variance to divide by."""

    vectors: Float[Tensor, "*lead groups channels batch"]
    dead: Bool[Tensor, "*lead groups channels"]


def whiten(
    x: Float[Tensor, "*lead groups channels batch"],
    *,
    method: Method = "zca",
    epsilon: float | int = 1e-4,
    detach: bool = True,
) -> Whitened:
    r"""Whiten the channels of every group by their statistics over the batch.

    $$Y = W (X - \mu), \qquad W \Sigma W^\top = I, \qquad \Sigma = \tfrac1B (X-\mu)(X-\mu)^\top + \epsilon v I$$

    with v the mean variance of the group's living channels. A channel is dead if its variance is a ten-billionth of the
    mean over all groups, or no more than rounding of its own values: it comes out as zeros and has no gradient.
    Runs in at least float32, under autocast too.

    Args:
        x: values, the batch last.
        method: `zca` (the symmetric root, from eigenvectors of the covariance), `svd` (the same root from the values
            themselves, which keeps twice the digits and takes longer), `cholesky` (a triangular root).
        epsilon: what is added to the variances, as a share of v.
        detach: W is a constant in the backward pass; else its gradient is exact, also where eigenvalues are equal.

    Returns:
        Whitened values, and which channels are dead.

    Example:
        >>> y, dead = whiten(torch.randn(2, 3, 50), epsilon=0.0)
        >>> torch.allclose(y @ y.mT / 50, torch.eye(3), atol=1e-4), dead.any()
        (True, tensor(False))

    Reference: A. Kessy, A. Lewin, K. Strimmer, "Optimal whitening and decorrelation", The American Statistician 2018.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not x.shape[-1]:
        return Whitened(x * 1, x.new_zeros(x.shape[:-1], dtype=torch.bool))
    with torch.autocast(x.device.type, enabled=False):
        mean = x.mean(-1, keepdim=True)
        centred = x - mean
        centred = centred - centred.mean(-1, keepdim=True)  # what the mean of values far from zero has lost to rounding
        source = centred.detach() if detach else centred
        covariance = source @ source.mT / x.shape[-1]
        dead = _dead(covariance.detach().diagonal(dim1=-2, dim2=-1), mean.detach()[..., 0])
        apart = dead[..., None] | dead[..., None, :]
        covariance = covariance.masked_fill(apart, 0)
        ridge = _mean_variance(covariance, dead)
        covariance = covariance + torch.diag_embed((epsilon + dead.to(ridge.dtype)) * ridge)
        root = _ROOTS[method](covariance, centred, dead, epsilon * ridge)
        return Whitened(root.masked_fill(apart, 0) @ centred, dead)


def _dead(variance: Tensor, mean: Tensor) -> Tensor:
    """Which channels vary too little, beside all others or beside the rounding of their own values."""
    rounding = 16 * torch.finfo(mean.dtype).eps
    usual = variance.mean((-2, -1), keepdim=True)
    return variance <= torch.maximum(_DEAD * usual, (rounding * mean).square())


def _mean_variance(covariance: Tensor, dead: Tensor) -> Tensor:
    """Mean variance of each group's living channels, `(…, groups, 1)`; 1 where all are dead."""
    found = covariance.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) / (~dead).sum(-1, keepdim=True).clamp(min=1)
    return torch.where(found > 0, found, 1.0)


def _zca(covariance: Tensor, centred: Tensor, dead: Tensor, ridge: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(_wide(covariance))
    return _root(covariance, values, vectors, _rounding(covariance))


def _svd(covariance: Tensor, centred: Tensor, dead: Tensor, ridge: Tensor) -> Tensor:
    """As `_zca`, with no covariance between, whose rounding hides what is a thousand times smaller."""
    channels, batch = centred.shape[-2:]
    living = centred.detach().masked_fill(dead[..., None], 0)
    living = torch.nn.functional.pad(living, (0, max(0, channels - batch)))  # or some directions would have no vector
    vectors, values, _ = torch.linalg.svd(living, full_matrices=False)
    least = (8 * _rounding(covariance)) ** 2
    return _root(covariance, _wide(values).square() / batch + _wide(ridge), _wide(vectors), least)


def _cholesky(covariance: Tensor, centred: Tensor, dead: Tensor, ridge: Tensor) -> Tensor:
    """Inverse of the lower factor; where rounding leaves none, as much is added as rounding may have taken."""
    one = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    size = covariance.detach().diagonal(dim1=-2, dim2=-1).sum(-1)
    failed = torch.linalg.cholesky_ex(covariance.detach()).info > 0
    lost = (failed * _rounding(covariance) * 4 * size)[..., None, None]
    return torch.linalg.solve_triangular(torch.linalg.cholesky_ex(covariance + lost * one).L, one, upper=False)


_ROOTS = {"zca": _zca, "svd": _svd, "cholesky": _cholesky}


def _rounding(covariance: Tensor) -> float:
    """How small an eigenvalue may be, as a share of the largest, and still be more than rounding."""
    return covariance.shape[-1] * torch.finfo(covariance.dtype).eps


def _wide(x: Tensor) -> Tensor:
    """As a constant in float64, which costs blocks this small next to nothing and keeps two digits more."""
    return x.detach().to("cpu" if x.device.type == "mps" else x.device, torch.float64)  # MPS has neither it nor eigh


def _root(covariance: Tensor, values: Tensor, vectors: Tensor, least: float) -> Tensor:
    """Inverse symmetric root by eigenvalues, taken for at least a share of the largest, and eigenvectors.

    The gradient of `eigh` divides by differences of eigenvalues, that of the root does not have to: with a, b two
    eigenvalues' roots, (1/a - 1/b) / (a² - b²) = -1 / (ab(a + b)). It is that of a term of value 0, which has the
    root's first derivative and no second.
    """
    values = torch.maximum(values, least * values.amax(-1, keepdim=True))
    a = torch.where(values > 0, values, 1.0).sqrt()[..., None, :]
    root = vectors / a @ vectors.mT
    if covariance.requires_grad:
        change = (covariance - covariance.detach()).to(vectors)
        root = root - vectors @ (vectors.mT @ change @ vectors / (a * a.mT * (a + a.mT))) @ vectors.mT
    return root.to(covariance)
