"""InfoNCE with masks against plain loops, and where there is nothing to compare with."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.ops.info_nce import info_nce, unit


def drawn(rows: int = 4, candidates: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (rows, candidates))  # type: ignore[return-value]


def test_without_masks_it_is_cross_entropy() -> None:
    for a, c in (drawn(4, 4), drawn(4, 7)):
        scores = F.cosine_similarity(a[:, None], c, dim=-1) / 0.05
        assert_close(info_nce(a, c), F.cross_entropy(scores, torch.arange(4), reduction="none"))


def test_masks_by_plain_loops() -> None:
    a, c = drawn()
    g = torch.Generator().manual_seed(1)
    positives, negatives = (torch.rand(4, 6, generator=g) < 0.5 for _ in range(2))
    for given in (negatives, None):
        found = info_nce(a, c, positives=positives, negatives=given, temperature=0.5)
        for i in range(4):
            s = [math.exp(float(F.cosine_similarity(a[i], c[j], dim=0)) / 0.5) for j in range(6)]
            against = [j for j in range(6) if not positives[i, j] and (given is None or given[i, j])]
            each = [-math.log(s[j] / (s[j] + sum(s[n] for n in against))) for j in range(6) if positives[i, j]]
            assert math.isclose(found[i], sum(each) / len(each))


@pytest.mark.parametrize("temperature", [0.05, 1.0, 1e-4])
def test_nothing_to_find_and_nothing_to_tell_it_from(temperature: float) -> None:
    a, c = (x.requires_grad_() for x in drawn(3, 3))
    none, all_ = torch.zeros(3, 3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    for masks in (
        {"positives": none},
        {"negatives": none},
        {"positives": all_},
        {"positives": none, "negatives": none},
    ):
        loss = info_nce(a, c, **masks, temperature=temperature)
        assert_close(loss, torch.zeros_like(loss))
        for gradient in torch.autograd.grad(loss.sum(), (a, c)):
            assert not gradient.any()


def test_gradients() -> None:
    a, c = (x.requires_grad_() for x in drawn())
    positives = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    assert torch.autograd.gradcheck(lambda a, c: info_nce(a, c), (a, c))
    assert torch.autograd.gradcheck(lambda a, c: info_nce(a, c, positives=positives, temperature=0.3), (a, c))


def test_a_vector_of_no_length() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0], [1e-9, 0.0]], requires_grad=True)
    assert_close(unit(x), torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(unit(x)[:3].sum(), x)
    assert not gradient[1:].any()
    loss = info_nce(x, x.detach())
    assert loss.isfinite().all()


def test_the_length_of_a_vector_is_nothing() -> None:
    a, c = drawn()
    assert_close(info_nce(a, c), info_nce(1e3 * a, 1e-3 * c))


def test_in_half_precision_it_is_float32() -> None:
    a, c = drawn()
    with torch.autocast("cpu", torch.bfloat16):
        low = info_nce(a.bfloat16(), c.bfloat16())
    assert low.dtype == torch.float32
    assert_close(low, info_nce(a.bfloat16().double(), c.bfloat16().double()).float())


def test_no_rows() -> None:
    assert info_nce(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    assert info_nce(torch.zeros(0, 3), torch.zeros(4, 3)).shape == (0,)


A, MASK = torch.eye(4), torch.eye(4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: info_nce(A.long(), A), TypeError, "anchor must be floating point"),
        (lambda: info_nce(A, A[0]), ValueError, r"candidate must be \(batch, dim\)"),
        (lambda: info_nce(A, A[:, :3]), ValueError, "candidate has 3 components, anchor 4"),
        (lambda: info_nce(A, A[:3]), ValueError, "4 anchors need 4 candidates, got 3"),
        (lambda: info_nce(A, A, positives=A), TypeError, "positives must be boolean"),
        (lambda: info_nce(A, A, negatives=MASK[:3]), ValueError, r"negatives must be shaped like anchor by candidate"),
        (lambda: info_nce(A, A, temperature=0.0), ValueError, "temperature must be positive"),
    ],
)
def test_bad_input(make: Callable[[], Any], error: type[Exception], said: str, own_messages: None) -> None:
    with pytest.raises(error, match=said):
        make()
