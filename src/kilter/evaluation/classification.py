r"""Do scores tell the pairs that belong together from those that do not? F1 over thresholds, and the area under ROC.

F1max is what Hallee et al., arXiv 2401.15713, judge embeddings of several domains by. The departure: they choose the
threshold on the pairs that they judge; here it is a result of its own, to be found on other pairs and given to `f1_at`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from kilter.core import options
from kilter.evaluation.correlation import _numbers, ranks

Numbers = Float64[Tensor, "pairs"]
Flags = Bool[Tensor, "pairs"]


@dataclass(frozen=True)
class F1Max:
    """What `f1_max` finds; pairs whose score is at least the threshold count as positive.

    Attributes:
        f1: the highest there is, within 0..1.
        threshold: the score from which on it is reached; of several the lowest.
        precision: share of positives among those from the threshold on.
        recall: share of the positives that are from the threshold on.
    """

    f1: float
    threshold: float
    precision: float
    recall: float


def f1_max(scores: Tensor | Any, labels: Tensor | Any) -> F1Max:
    r"""Highest F1 over all thresholds, with its threshold: pairs of equal score fall on one side of it.

    On the pairs that the threshold was chosen on it flatters; find it on development pairs, and judge with `f1_at`.

    Args:
        scores: `(n,)` numbers, higher for pairs that belong together; tensor of any dtype, or list.
        labels: `(n,)` 1 for pairs that belong together, else 0 (or True, False); some of each.

    Returns:
        The maximum over thresholds $t$ of $2 \, TP_t / (2 \, TP_t + FP_t + FN_t)$.

    Raises:
        ValueError: another shape, NaN or infinity, labels that are not 0 or 1, or all alike.

    Example:
        >>> f1_max([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0])
        F1Max(f1=0.8, threshold=0.3, precision=0.6667, recall=1.0)

    Reference: Hallee et al. 2024, F1max; of scikit-learn, the best point of `precision_recall_curve`.
    """
    given, true = _labelled(scores, labels)
    values, place = torch.unique(given, return_inverse=True)  # thresholds, ascending
    counts = torch.zeros(2, len(values), dtype=torch.long, device=given.device)
    counts[0].index_add_(0, place, true.long())
    counts[1].index_add_(0, place, torch.ones_like(place))
    hits, found = counts.flip(1).cumsum(1).flip(1)  # from each threshold on
    positives = int(true.sum())
    f1 = 2 * hits.double() / (found + positives)
    best = int((f1 == f1.max()).nonzero()[0])
    right = int(hits[best])
    return F1Max(float(f1[best]), float(values[best]), right / int(found[best]), right / positives)


def f1_at(scores: Tensor | Any, labels: Tensor | Any, threshold: float | int) -> float:
    r"""F1 at a threshold that was chosen on other pairs.

    Args:
        scores: `(n,)` numbers, higher for pairs that belong together; tensor of any dtype, or list.
        labels: `(n,)` 1 for pairs that belong together, else 0 (or True, False); some of each.
        threshold: pairs whose score is at least so much count as positive; 0 where no positive one is among them.

    Raises:
        ValueError: another shape, NaN or infinity, labels that are not 0 or 1, or all alike.

    Example:
        >>> f1_at([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.5)
        0.5
    """
    top, bottom = f1_rows(scores, labels, threshold).sum(0).tolist()
    return top / bottom


def f1_rows(scores: Tensor | Any, labels: Tensor | Any, threshold: float | int) -> Float64[Tensor, "pairs 2"]:
    r"""What each pair brings to `f1_at`, numerator and denominator: for intervals over pairs (`ratio_bootstrap`).

    Returns:
        `(n, 2)`: $2 \, TP$ and $2 \, TP + FP + FN$ of each pair; F1 is the sum of the first by that of the second.

    Raises:
        ValueError: see `f1_at`.

    Example:
        >>> f1_rows([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.5).tolist()
        [[2.0, 2.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    """
    options.finite("threshold", threshold)
    given, true = _labelled(scores, labels)
    found = given >= threshold
    right = 2 * (found & true).double()
    return torch.stack([right, right + (found ^ true)], dim=1)


def roc_auc(scores: Tensor | Any, labels: Tensor | Any) -> float:
    r"""How often a pair that belongs together scores higher than one that does not; a tie is half a win.

    Args:
        scores: `(n,)` numbers, higher for pairs that belong together; tensor of any dtype, or list.
        labels: `(n,)` 1 for pairs that belong together, else 0 (or True, False); some of each.

    Returns:
        The area under the curve of true by false positives, within 0..1; 0.5 for scores that say nothing.

    Raises:
        ValueError: another shape, NaN or infinity, labels that are not 0 or 1, or all alike.

    Example:
        >>> roc_auc([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0])
        0.75

    Reference: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982.
    """
    given, true = _labelled(scores, labels)
    positives = int(true.sum())
    wins = float(ranks(given)[true].sum()) - positives * (positives + 1) / 2
    return wins / (positives * (len(true) - positives))


def _labelled(scores: Any, labels: Any) -> tuple[Numbers, Flags]:
    given, true = _numbers("scores", scores), _numbers("labels", labels)
    if given.shape != true.shape:
        raise ValueError(f"labels must be one for each of {len(given)} pairs, got {len(true)}")
    if (strange := ((true != 0) & (true != 1)).nonzero()).numel():
        at = int(strange[0])
        raise ValueError(f"pair {at}: labels must be 0 or 1, got {true[at]:g}")
    if (true == true[0]).all():
        raise ValueError(
            f"labels are all {true[0]:g}, so that there is nothing to tell apart; give pairs of both kinds"
        )
    return given, (true > 0).to(given.device)
