"""Do a model's values rise where people's scores do? Spearman's and Pearson's correlations, and what each pair brings.

Spearman, "The Proof and Measurement of Association between Two Things", 1904. Ties have the mean of their ranks.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor


def spearman(values: Tensor | Any, scores: Tensor | Any) -> float:
    """Correlation of ranks, ties averaged; 0 where all `values` are the same, since they say nothing about the scores.

    Args:
        values: `(n,)` of a model; tensor or list.
        scores: `(n,)` true ones, not all the same.

    Raises:
        ValueError: another shape, NaN or infinity, fewer than two, or scores that are all the same.

    Example:
        >>> spearman([0.1, 0.4, 0.3], [1.0, 3.0, 2.0]), spearman([0.5, 0.5, 0.5], [1.0, 3.0, 2.0])
        (1.0, 0.0)
    """
    a, b = _standing(values, scores)
    return float((a * b).mean())


def spearman_rows(values: Tensor | Any, scores: Tensor | Any) -> Float64[Tensor, "pairs"]:
    r"""What each pair brings to `spearman`: the mean of the rows is the correlation, and their spread its error.

    For intervals over pairs: resampling the mean of these rows is, to first order, resampling the pairs.

    Args:
        values: `(n,)` of a model; tensor or list.
        scores: `(n,)` true ones, not all the same.

    Returns:
        $\rho + \psi_i$, with $\psi$ the influence of pair $i$ on the correlation of its ranks.

    Raises:
        ValueError: see `spearman`.

    Example:
        >>> spearman_rows([0.1, 0.4, 0.3], [1.0, 3.0, 2.0]).mean().item()
        1.0
    """
    return _influence(*_standing(values, scores))


def pearson(values: Tensor | Any, scores: Tensor | Any) -> float:
    """Correlation of the values themselves; 0 where all `values` are the same, since they say nothing about the scores.

    Args:
        values: `(n,)` of a model; tensor or list.
        scores: `(n,)` true ones, not all the same.

    Raises:
        ValueError: see `spearman`.

    Example:
        >>> round(pearson([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 4), pearson([0.5, 0.5, 0.5], [1.0, 3.0, 2.0])
        (0.982, 0.0)
    """
    a, b = _standing(values, scores, of=_from_first)
    return float((a * b).mean())


def pearson_rows(values: Tensor | Any, scores: Tensor | Any) -> Float64[Tensor, "pairs"]:
    """What each pair brings to `pearson`, for intervals over pairs; see `spearman_rows`.

    Example:
        >>> round(pearson_rows([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]).mean().item(), 4)
        0.982
    """
    return _influence(*_standing(values, scores, of=_from_first))


def ranks(values: Tensor | Any) -> Float64[Tensor, "pairs"]:
    """Ranks from 1, ties averaged.

    Example:
        >>> ranks([0.5, 0.1, 0.5]).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, counts = torch.unique(_numbers("values", values), return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).to(torch.float64)[place]


def _influence(a: Tensor, b: Tensor) -> Tensor:
    rho = (a * b).mean()
    return a * b - rho * (a.square() + b.square()) / 2 + rho


def _from_first(values: Tensor) -> Tensor:
    return values - values[0]  # all 0 where all are the same, which a mean of them need not be


def _standing(values: Any, scores: Any, of: Callable[[Tensor], Tensor] = ranks) -> tuple[Tensor, Tensor]:
    """Both, or their ranks, with mean 0 and variance 1; all 0 for values that are all the same."""
    given, true = _numbers("values", values), _numbers("scores", scores)
    if given.shape != true.shape:
        raise ValueError(f"scores must be one for each of {len(given)} pairs, got {len(true)}")
    if len(given) < 2:
        raise ValueError(f"scores: a correlation needs two pairs or more, got {len(given)}")
    if (true == true[0]).all():
        raise ValueError(f"scores are all {true[0]:g}, so that nothing can follow them; give pairs that differ")
    a, b = (one - one.mean() for one in (of(given), of(true).to(given.device)))
    return a / a.square().mean().sqrt().clamp(min=1e-300), b / b.square().mean().sqrt()


def _numbers(name: str, values: Any) -> Float64[Tensor, "pairs"]:
    try:
        given = values.detach() if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a list of numbers ({error})") from error
    if given.ndim != 1 or not len(given):
        raise ValueError(f"{name} must be (pairs,), at least one, got shape {tuple(given.shape)}")
    given = (given.cpu() if given.device.type == "mps" else given).to(torch.float64)
    if not given.isfinite().all():
        at = int((~given.isfinite()).nonzero()[0])
        raise ValueError(f"pair {at}: {name} is {'NaN' if given[at].isnan() else 'infinite'}; leave this pair out")
    return given
