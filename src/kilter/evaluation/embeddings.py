r"""Do vectors of texts fill their space, and do their cosines follow meaning?

Alignment and uniformity are of Wang and Isola, "Understanding Contrastive Representation Learning", ICML 2020; the
effective rank of Roy and Vetterli, EUSIPCO 2007; isotropy of Mu and Viswanath, "All-but-the-Top", ICLR 2018. Departure:
isotropy looks along both signs of each eigenvector, which has none of its own, so that it is one number.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from kilter.core import options
from kilter.evaluation.correlation import spearman as spearman
from kilter.evaluation.correlation import spearman_rows as spearman_rows

CELLS = 1 << 22
"""Cosines that are held at a time: 32 MB, however many texts there are."""

Vectors = Float64[Tensor, "texts dim"]


# How the space is filled ------------------------------------------------------------------------------------------


def uniformity(x: Tensor | Any, t: float | int = 2) -> float:
    r"""How evenly vectors lie on the unit sphere: the lower, the more evenly; 0 where all point the same way.

    Args:
        x: `(n, d)` vectors, at least two, brought to length 1 here; tensor of any dtype, or array.
        t: sharpness; near 0 only the mean distance counts, at a high one the nearest pairs.

    Returns:
        $\log \frac{2}{n(n-1)} \sum_{i<j} e^{-t \lVert u_i - u_j \rVert^2}$, exact over all pairs. On a sphere of many
        dimensions random vectors reach $-2t$.

    Raises:
        ValueError: another shape, NaN or infinity, a vector of zeros, fewer than two vectors, or t not positive.

    Example:
        >>> uniformity([[1.0, 0.0], [0.0, 2.0]])
        -4.0

    Reference: Wang and Isola 2020, section 4.1.2.
    """
    options.positive("t", t)
    u = unit(x)
    _several("x", u)
    sums = []
    for start in range(0, len(u) - 1, step := max(1, CELLS // len(u))):
        cosines = u[start : start + step] @ u[start:].T
        later = torch.ones_like(cosines, dtype=torch.bool).triu_(1)  # each pair once, and none with itself
        sums.append((2 * t * (cosines[later].clamp_(max=1) - 1)).logsumexp(0))
    return float(torch.stack(sums).logsumexp(0)) - math.log(len(u) * (len(u) - 1) / 2)


def mean_cosine(x: Tensor | Any) -> float:
    r"""Mean cosine of two different texts, over all pairs: near 0 in a space that is used, near 1 in a narrow cone.

    Args:
        x: `(n, d)` vectors, at least two; tensor of any dtype, or array.

    Returns:
        $(\lVert \sum_i u_i \rVert^2 - n) / (n (n - 1))$, with $u$ the vectors at length 1.

    Raises:
        ValueError: another shape, NaN or infinity, a vector of zeros, or fewer than two vectors.

    Example:
        >>> mean_cosine([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
        0.3333

    Reference: Ethayarajh, "How Contextual are Contextualized Word Representations?", EMNLP 2019, on random pairs.
    """
    u = unit(x)
    _several("x", u)
    return float((u.sum(0).square().sum() - len(u)) / (len(u) * (len(u) - 1)))


def spectrum(x: Tensor | Any, *, centred: bool = False) -> Float64[Tensor, "directions"]:
    """Shares of the singular values, largest first; they sum to 1.

    Args:
        x: `(n, d)` vectors as the encoder gives them, lengths and all; tensor of any dtype, or array.
        centred: take away the mean vector before, so that only what tells texts apart is left.

    Returns:
        `min(n, d)` numbers.

    Raises:
        ValueError: another shape, NaN or infinity, or nothing but zeros (centred: the same vector everywhere).

    Example:
        >>> spectrum([[3.0, 0.0], [0.0, 1.0]]).tolist()
        [0.75, 0.25]
    """
    values = _singular(vectors(x), centred)
    return values / values.sum()


def effective_rank(x: Tensor | Any, *, centred: bool = False) -> float:
    r"""How many directions the vectors use in effect: 1 where all are parallel, `min(n, d)` where all count alike.

    Args:
        x: `(n, d)` vectors as the encoder gives them, lengths and all; tensor of any dtype, or array.
        centred: take away the mean vector before. The paper does not.

    Returns:
        $\exp(-\sum_i p_i \log p_i)$ with $p$ the `spectrum`.

    Raises:
        ValueError: another shape, NaN or infinity, or nothing but zeros (centred: the same vector everywhere).

    Example:
        >>> effective_rank([[1.0, 0.0], [0.0, 1.0]]), effective_rank([[1.0, 1.0], [2.0, 2.0]])
        (2.0, 1.0)

    Reference: Roy and Vetterli 2007, definition 1.
    """
    return float(torch.special.entr(spectrum(x, centred=centred)).sum().exp())


def isotropy(x: Tensor | Any) -> float:
    r"""Smallest by largest partition function: 1 where no direction is favoured, near 0 where one is.

    It grows with the lengths of the vectors; give `unit(x)` to compare models: then it lies within $e^{-2}$ (all point
    the same way) and 1.

    Args:
        x: `(n, d)` vectors as they are; tensor of any dtype, or array.

    Returns:
        $\min_c Z(c) / \max_c Z(c)$, $Z(c) = \sum_i e^{c \cdot x_i}$, $c$ the eigenvectors of $X^\top X$, both signs.

    Raises:
        ValueError: another shape, NaN or infinity.

    Example:
        >>> isotropy([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        1.0

    Reference: Mu and Viswanath 2018, equation 1 and section 2.2.
    """
    rows = vectors(x)
    directions = torch.linalg.eigh(rows.T @ rows).eigenvectors
    along = rows @ directions
    logs = torch.cat([along.logsumexp(0), (-along).logsumexp(0)])
    return float((logs.min() - logs.max()).exp())


def principal_plane(x: Tensor | Any) -> Float64[Tensor, "texts 2"]:
    """Where vectors lie on the two directions in which they differ most: a map.

    Args:
        x: `(n, d)` vectors, brought to length 1 here, as cosines see them; tensor of any dtype, or array.

    Returns:
        The middle of all is the origin; the coordinate that is farthest from it is positive. Zeros for a direction that
        there is not.

    Raises:
        ValueError: another shape, NaN or infinity, or a vector of zeros.

    Example:
        >>> principal_plane([[1.0, 0.0], [0.0, 1.0]]).abs().tolist()
        [[0.7071, 0.0], [0.7071, 0.0]]
    """
    u = unit(x)
    u = torch.nn.functional.pad(u - u.mean(0), (0, max(0, 2 - u.shape[1])))
    plane = u @ torch.linalg.eigh(u.T @ u).eigenvectors[:, -2:].flip(1)
    farthest = plane.gather(0, plane.abs().argmax(0, keepdim=True))
    return plane * torch.where(farthest < 0, -1.0, 1.0)


def dead_dimensions(x: Tensor | Any, *, tolerance: float | int = 1e-6) -> list[int]:
    """Dimensions that are the same for every text, so that they carry nothing, and dividing by their spread fails.

    Args:
        x: `(n, d)` vectors, at least two; tensor of any dtype, or array.
        tolerance: a dimension is dead where its standard deviation is at most so much of the root mean square of all.

    Raises:
        ValueError: another shape, NaN or infinity, fewer than two vectors, or a tolerance outside 0..1.

    Example:
        >>> dead_dimensions([[1.0, 5.0], [2.0, 5.0]])
        [1]
    """
    options.share("tolerance", tolerance)
    rows = vectors(x)
    _several("x", rows)
    variance = rows.var(0, correction=0) * (rows.amax(0) > rows.amin(0))  # whose mean is rounded, and so not it
    return (variance <= tolerance**2 * variance.mean()).nonzero().flatten().tolist()


# How vectors follow meaning ---------------------------------------------------------------------------------------


def alignment(x: Tensor | Any, y: Tensor | Any, alpha: float | int = 2) -> float:
    r"""How far apart two texts of one meaning lie on the unit sphere: the lower the nearer, 0 where they are one.

    Args:
        x: `(n, d)` vectors; tensor of any dtype, or array.
        y: `(n, d)`, row by row of the same meaning.
        alpha: power of the distance.

    Returns:
        $\frac1n \sum_i \lVert u_i - v_i \rVert^\alpha$, with $u, v$ the vectors at length 1.

    Raises:
        ValueError: another shape, NaN or infinity, a vector of zeros, or alpha not positive.

    Example:
        >>> alignment([[1.0, 0.0]], [[0.0, 2.0]])
        2.0

    Reference: Wang and Isola 2020, section 4.1.1.
    """
    options.positive("alpha", alpha)
    u, v = _paired(x, y)
    return float((u - v).norm(dim=1).pow(alpha).mean())


def cosines(x: Tensor | Any, y: Tensor | Any) -> Float64[Tensor, "pairs"]:
    """Cosine of each row of `x` with the same row of `y`.

    Raises:
        ValueError: another shape, NaN or infinity, or a vector of zeros.

    Example:
        >>> cosines([[1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0], [3.0, 3.0]]).tolist()
        [0.0, 1.0]
    """
    u, v = _paired(x, y)
    return (u * v).sum(1).clamp(-1, 1)


def similarity_correlation(x: Tensor | Any, y: Tensor | Any, scores: Tensor | Any) -> float:
    """Spearman's correlation, within -1..1, of the pairs' cosines with what people said of them.

    Args:
        x: `(n, d)` vectors of the first texts; tensor of any dtype, or array.
        y: `(n, d)` vectors of the second texts.
        scores: `(n,)` similarities by people, on any scale; not all the same.

    Raises:
        ValueError: see `cosines` and `spearman`.

    Example:
        >>> similarity_correlation([[1.0, 0.0]] * 3, [[1.0, 0.1], [0.0, 1.0], [1.0, 1.0]], [5.0, 0.0, 3.0])
        1.0

    Reference: the STS tasks' measure, as `EmbeddingSimilarityEvaluator` of sentence-transformers gives it.
    """
    return spearman(cosines(x, y), scores)


# What all of them ask ---------------------------------------------------------------------------------------------


def vectors(x: Tensor | Any, name: str = "x") -> Vectors:
    """The vectors in float64, once it is sure that they are `(n, d)` and finite.

    Raises:
        ValueError: another shape, nothing in it, NaN or infinity; the row is named.
    """
    try:
        given = x.detach() if isinstance(x, Tensor) else torch.as_tensor(x, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a matrix of vectors (texts, dim), rows equally long ({error})") from error
    if given.ndim != 2 or not given.numel() or given.is_complex():
        raise ValueError(f"{name} must be vectors (texts, dim), at least one, got shape {tuple(given.shape)}")
    rows = (given.cpu() if given.device.type == "mps" else given).to(torch.float64)  # which has no float64
    if not rows.isfinite().all():
        at = int((~rows.isfinite()).any(1).nonzero()[0])
        what = "NaN" if rows[at].isnan().any() else "infinite"
        raise ValueError(f"row {at}: {name} is {what}; leave this text out, or look for what the encoder does to it")
    return rows


def unit(x: Tensor | Any, name: str = "x") -> Vectors:
    """The vectors at length 1, in float64.

    Raises:
        ValueError: another shape, NaN or infinity, or a vector of zeros, which has no direction; the row is named.

    Example:
        >>> unit([[3.0, 4.0]]).tolist()
        [[0.6, 0.8]]
    """
    rows = vectors(x, name)
    largest = rows.abs().amax(1, keepdim=True)
    if not (largest > 0).all():
        at = int((largest == 0).flatten().nonzero()[0])
        raise ValueError(f"row {at}: {name} is zeros, which have no direction; leave this text out")
    rows = rows / largest  # so that squares neither vanish nor overflow
    return rows / rows.norm(dim=1, keepdim=True)


def _paired(x: Any, y: Any) -> tuple[Vectors, Vectors]:
    u, v = unit(x), unit(y, "y")
    if u.shape != v.shape:
        raise ValueError(f"y must be shaped like x {tuple(u.shape)}, row by row, got {tuple(v.shape)}")
    return u, v


def _several(name: str, rows: Tensor) -> None:
    if len(rows) < 2:
        raise ValueError(f"{name} has one vector only, and it is compared with the others; give two or more")


def _singular(rows: Tensor, centred: bool) -> Tensor:
    """Singular values, by folding the rows into one triangle, so that memory does not grow with them."""
    directions = min(rows.shape)
    if centred:
        rows = rows - rows.mean(0)
    largest = float(rows.abs().max())
    if largest == 0:
        raise ValueError("x is " + ("the same vector everywhere" if centred else "zeros") + "; it has no spectrum")
    triangle = rows[:0]
    for piece in rows.split(4096):
        triangle = torch.linalg.qr(torch.cat([triangle, piece / largest]), mode="r").R
    return torch.linalg.svdvals(triangle)[:directions]


def _blocks(u: Tensor, v: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Cosines of some rows of `u` at a time with all of `v`, and the number of the first row."""
    for start, rows in zip(range(0, len(u), step := max(1, CELLS // len(v))), u.split(step), strict=True):
        yield start, rows @ v.T
