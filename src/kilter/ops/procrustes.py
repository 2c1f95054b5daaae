"""The rotation that lays one set of vectors over another, and how far it may go from the one before.

Source: P. Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kilter.core.checks import at_least, floating, same_shape, shaped


def procrustes(
    x: Float[Tensor, "n dim"],
    y: Float[Tensor, "n dim"],
    *,
    prior: Float[Tensor, "dim dim"] | None = None,
    weight: float = 0.0,
) -> Float[Tensor, "dim dim"]:
    r"""The orthogonal matrix (reflections included) that brings the rows of x nearest to those of y.

    $$W = \arg\min_{W^\top W = I} \|XW - Y\|_F^2 + \lambda \|W - W_0\|_F^2 = U V^\top, \qquad
    U \Sigma V^\top = X^\top Y + \lambda W_0$$

    What fewer pairs than dimensions leave open stays as in $W_0$, once λ is above 0. Decomposed in double precision.

    Args:
        x: vectors to rotate, as rows.
        y: where each is to go.
        prior: W₀; None is the identity.
        weight: λ, against the sum over pairs.

    Raises:
        TypeError: vectors that are not floating point, a weight that is no number.
        ValueError: shapes that do not fit, a weight below 0.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> procrustes(x, x @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])).round()
        tensor([[ 0.,  1.],
                [-1.,  0.]])

    """
    floating("x", x)
    floating("y", y)
    shaped("x", x, "rows, dim")
    same_shape("y", y, x.shape, "x", "give the vector that each row of x is to reach")
    at_least("weight", weight, 0)
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    product = (x.mT @ y).to(wide)
    if prior is not None:
        same_shape("prior", prior, product.shape, "the widths of x and y")
    if weight:
        product = product + weight * (torch.eye(len(product)).to(product) if prior is None else prior.to(product))
    left, _, right = torch.linalg.svd(product)
    return (left @ right).to(x.dtype)
