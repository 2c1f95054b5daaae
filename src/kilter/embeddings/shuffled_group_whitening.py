"""Shuffled group whitening: channels dealt out at random into small groups, each whitened over the batch.

Paper: W. Zhuo et al., "Whitening-based Contrastive Learning of Sentence Embeddings", ACL 2023, arXiv 2305.17746.
Departure: a ridge and the search for dead channels keep it from NaN; with `epsilon=0` it is the paper's.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from kilter.core.checks import at_least, finite, floating, integer, one_of, one_per_row, readable, shaped, whole
from kilter.core.decoder import warn
from kilter.ops.whitening import Method, whiten

EPSILON = 1e-4
"""Ridge on the variances, as a share of their mean in the group."""


def shuffled_group_whitening(
    x: Float[Tensor, "batch dim"],
    groups: int,
    *,
    permutation: Int[Tensor, " dim"] | None = None,
    method: Method = "zca",
    epsilon: float | int = EPSILON,
    detach: bool = True,
    generator: Generator | None = None,
) -> Float[Tensor, "batch dim"]:
    r"""Whiten groups of channels drawn at random, each by its own statistics over the batch.

    $$Y_g = (X_g - \mu_g)\,W_g, \qquad W_g = (\Sigma_g + \epsilon v_g I)^{-1/2}, \qquad
      \Sigma_g = \tfrac1B (X_g - \mu_g)^\top (X_g - \mu_g)$$

    of `x[:, permutation]` cut into `groups`, with v the group's mean variance; then every channel goes back to where it
    was. `groups=1` is full whitening, `groups=dim` standardises each channel. Runs in at least float32.

    Args:
        x: vectors, before any normalisation.
        groups: how many groups of channels; divides the width.
        permutation: the order in which channels are dealt out; None draws one.
        method: `zca`, the symmetric root; `svd`, the same without squaring the values first, for groups that are all
            but dependent; `cholesky`, a triangular root.
        epsilon: ridge on the variances, as a share of the group's mean. 0 is exact.
        detach: W is a constant in the backward pass, as in the release; else its gradient is exact.
        generator: where the permutation comes from.

    Returns:
        Whitened vectors. A channel that does not vary is zeros, and a warning names it. With no more vectors than
        channels in a group some directions cannot have variance 1; the ridge bounds what they are multiplied with.

    Raises:
        TypeError: `x` not floating point, `permutation` not integer.
        ValueError: groups that do not divide the width, no permutation of the channels, `epsilon=0` with no more
            vectors than channels in a group; on the CPU also NaN and infinity.

    Example:
        >>> x = torch.randn(64, 12) * 5 + 3
        >>> y = shuffled_group_whitening(x, 2, epsilon=0, permutation=torch.arange(12))
        >>> torch.allclose(y[:, :6].T @ y[:, :6] / 64, torch.eye(6), atol=1e-4)
        True

    Reference: Zhuo et al., ACL 2023; the layer's ancestor is Hua et al., ICCV 2021.
    """
    floating("x", x, "give the encoder's vectors")
    shaped("x", x, "batch, dim", "give one vector per text")
    if not x.shape[1]:
        raise ValueError("x has no channels; give the encoder's vectors")
    finite("x", x, mend="lower the learning rate, or look at that text's encoding")
    check_groups(x.shape[1], groups, method, epsilon)
    check_batch(len(x), x.shape[1] // groups, epsilon)
    if permutation is not None:
        _check_permutation(permutation, x.shape[1])
        permutation = permutation.to(x.device).long()[None]
    elif groups > 1:
        permutation = draw(1, x.shape[1], x.device, generator)
    y, dead = whitened(x[None], groups, permutation, method=method, epsilon=epsilon, detach=detach)
    if readable(dead) and dead.any():
        warn(dead_channels(dead[0]))
    return y[0]


def whitened(
    views: Float[Tensor, "views batch dim"], groups: int, permutation: Int[Tensor, "views dim"] | None, **how: Any
) -> tuple[Float[Tensor, "views batch dim"], Bool[Tensor, "views dim"]]:
    """Every view whitened by its own statistics in its own groups, and its dead channels."""
    count, batch, dim = views.shape
    channels = views.to(torch.promote_types(views.dtype, torch.float32)).mT.reshape(count * dim, batch)
    order = None
    if permutation is not None:
        order = (permutation + dim * torch.arange(count, device=views.device)[:, None]).flatten()
        channels = channels.index_select(0, order)  # its gradient is three times as fast as that of [order]
    y, dead = whiten(channels.view(count, groups, dim // groups, batch), **how)
    y, dead = y.reshape(count * dim, batch), dead.flatten()
    if order is not None:
        back = order.argsort()
        y, dead = y.index_select(0, back), dead[back]
    return y.view(count, dim, batch).mT, dead.view(count, dim)


def draw(views: int, dim: int, device: torch.device, generator: Generator | None) -> Int[Tensor, "views dim"]:
    """A permutation for each view, drawn where the generator is."""
    where = device if generator is None else generator.device
    return torch.rand(views, dim, generator=generator, device=where).argsort(-1).to(device)


def dead_channels(dead: Bool[Tensor, " dim"]) -> str:
    """What is said of channels that do not vary."""
    found = dead.nonzero().flatten().tolist()
    if len(found) == len(dead):
        return (
            "whitening: all vectors of the batch are the same, and come out as zeros; are the texts the same, or is "
            "there one only?"
        )
    named = ", ".join(map(str, found[:8])) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return (
        f"whitening: {len(found)} of {len(dead)} channels do not vary over the batch ({named}); they come out as "
        "zeros, and the others as they should"
    )


def check_groups(dim: int, groups: int, method: Method, epsilon: float | int) -> None:
    """Check the options of whitening.

    Raises:
        TypeError, ValueError: see `shuffled_group_whitening`.
    """
    whole("groups", groups, 1)
    one_of("method", method, Method)
    at_least("epsilon", epsilon, 0)
    if dim % groups:
        near = sorted((n for n in range(1, dim + 1) if not dim % n), key=lambda n: abs(n - groups))[:2]
        raise ValueError(
            f"groups={groups} does not divide the {dim} channels of a vector; use {' or '.join(map(str, sorted(near)))}"
        )


def check_batch(batch: int, channels: int, epsilon: float | int) -> None:
    """Check that a group's covariance can have full rank where nothing is added to it.

    Raises:
        ValueError: no more vectors than channels, and `epsilon=0`.
    """
    if batch <= channels and not epsilon:
        raise ValueError(
            f"epsilon=0 needs more vectors than the {channels} channels of a group, got {batch}; give a larger batch, "
            f"more groups, or epsilon={EPSILON}"
        )


def _check_permutation(permutation: Tensor, dim: int) -> None:
    integer("permutation", permutation, "hold numbers of channels")
    one_per_row("permutation", permutation, dim, "channels")
    if readable(permutation) and not permutation.long().sort().values.equal(torch.arange(dim)):
        raise ValueError(f"permutation must have each of 0..{dim - 1} once; use torch.randperm({dim})")
