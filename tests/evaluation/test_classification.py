"""F1 over thresholds and the area under ROC: brute force, scikit-learn's own, ties, and what is no input."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kilter.evaluation.classification import f1_at, f1_max, f1_rows, roc_auc

KINDS = ("smooth", "ties", "two values", "rare", "common")


def some(kind: str, seed: int = 0, rows: int = 80) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=g) < {"rare": 0.05, "common": 0.95}.get(kind, 0.4)).long()
    labels[:2] = torch.tensor([0, 1])
    scores = torch.randn(rows, generator=g, dtype=torch.float64) + labels
    return {"ties": scores.round(), "two values": (scores > 0.5).double()}.get(kind, scores), labels


def by_hand(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """The best F1 and the lowest threshold that reaches it."""
    best = (-1.0, 0.0)
    for threshold in sorted({*scores.tolist()}):
        found = scores >= threshold
        f1 = 2 * int((found & (labels == 1)).sum()) / int(found.sum() + labels.sum())
        if f1 > best[0]:
            best = f1, threshold
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_f1_max_is_that_of_every_threshold_tried(kind: str, seed: int) -> None:
    scores, labels = some(kind, seed)
    found = f1_max(scores, labels)
    assert (found.f1, found.threshold) == by_hand(scores, labels)
    assert found.f1 == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))
    assert f1_at(scores, labels, found.threshold) == pytest.approx(found.f1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_f1_and_area_are_those_of_scikit_learn(kind: str, seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels = some(kind, seed)
    precision, recall, thresholds = metrics.precision_recall_curve(labels.numpy(), scores.numpy())
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    found = f1_max(scores, labels)
    assert found.f1 == pytest.approx(f1.max(), abs=1e-12)
    at = int((thresholds == found.threshold).nonzero()[0][0])
    assert (f1[at], precision[at], recall[at]) == pytest.approx((found.f1, found.precision, found.recall))
    for threshold in (-1.0, 0.0, 0.5, 9.0):
        theirs = metrics.f1_score(labels.numpy(), (scores >= threshold).numpy(), zero_division=0)
        assert f1_at(scores, labels, threshold) == pytest.approx(theirs)
    assert roc_auc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels.numpy(), scores.numpy()))


def test_scores_that_say_nothing_take_all_as_positive() -> None:
    labels = [1, 0, 0, 0]
    found = f1_max([0.3] * 4, labels)
    assert (found.f1, found.threshold, found.precision, found.recall) == (0.4, 0.3, 0.25, 1.0)
    assert roc_auc([0.3] * 4, labels) == 0.5
    assert f1_at([0.3] * 4, labels, 0.4) == 0


def test_scores_that_say_all_and_their_opposite() -> None:
    labels = torch.tensor([1, 1, 0, 0])
    assert (f1_max([4, 3, 2, 1], labels).f1, f1_max([4, 3, 2, 1], labels).threshold) == (1.0, 3.0)
    assert (roc_auc([4, 3, 2, 1], labels), roc_auc([1, 2, 3, 4], labels)) == (1, 0)


def test_rows_are_what_intervals_over_pairs_take() -> None:
    from kilter.evaluation.intervals import ratio_bootstrap

    scores, labels = some("smooth")
    rows = f1_rows(scores, labels, 0.5)
    interval = ratio_bootstrap(rows.numpy(), draws=50)
    assert interval.mean == pytest.approx(f1_at(scores, labels, 0.5))
    assert interval.low is not None
    assert interval.low < interval.mean


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype_arrays_lists_and_truth_values(dtype: torch.dtype) -> None:
    scores, labels = some("smooth")
    scores = scores.to(dtype)
    same = [
        (scores, labels),
        (scores.tolist(), labels.tolist()),
        (scores.double().numpy(), labels.numpy().astype(bool)),
        (scores, labels.bool()),
    ]
    assert len({f1_max(*pair) for pair in same}) == 1
    assert len({roc_auc(*pair) for pair in same}) == 1
    assert len({f1_at(*pair, 0.25) for pair in same}) == 1


def test_classification_on_every_device(device: str) -> None:
    scores, labels = some("ties")
    expected = f1_max(scores, labels), roc_auc(scores, labels)
    scores = scores.to(device, torch.float32 if device == "mps" else torch.float64)
    assert (f1_max(scores, labels.to(device)), roc_auc(scores, labels)) == expected


@pytest.mark.parametrize("ask", [f1_max, roc_auc, lambda scores, labels: f1_at(scores, labels, 0.5)])
@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([0.1, 0.2], [1, 1], "labels are all 1, so that there is nothing to tell apart"),
        ([0.1, 0.2], [0, 0], "labels are all 0"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "pair 2: labels must be 0 or 1, got 2"),
        ([0.1, 0.2], [0, 1, 1], "labels must be one for each of 2 pairs, got 3"),
        ([0.1, float("nan")], [0, 1], "pair 1: scores is NaN"),
        ([0.1, float("inf")], [0, 1], "pair 1: scores is infinite"),
        ([], [], "scores must be (pairs,), at least one"),
        ([[0.1, 0.2]], [0, 1], "scores must be (pairs,), at least one"),
        (["high", "low"], [0, 1], "scores must be a list of numbers"),
    ],
)
def test_what_is_no_input(ask: Callable[..., Any], scores: Any, labels: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        ask(scores, labels)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_a_threshold_is_finite(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be finite"):
        f1_at([0.1, 0.2], [0, 1], threshold)
