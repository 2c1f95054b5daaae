"""Vectors of sentences: token by token, whatever padding holds."""

import math

import pytest
import torch
from torch.testing import assert_close

from kilter.seq2seq import SentenceProjection
from tests.seq2seq import plain_claps


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return states, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1]]).bool()


@pytest.mark.parametrize("out_width", [None, 7])
def test_it_is_the_mean_of_rectified_tokens(out_width: int | None) -> None:
    projection = SentenceProjection(4, out_width).double()
    assert [tuple(one.shape) for one in projection.parameters()] == [(out_width or 4, 4), (out_width or 4,)]
    states, mask = drawn()
    assert_close(projection(states, mask), plain_claps.pooled(projection, states, mask))
    assert_close(projection(states, None), plain_claps.pooled(projection, states, torch.ones_like(mask)))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_what_padding_holds_has_no_effect_and_no_gradient(value: float) -> None:
    projection = SentenceProjection(4).double()
    found = []
    for fill in (0.0, value):
        states, mask = drawn()
        states = states.masked_fill(~mask[..., None], fill).requires_grad_()
        out = projection(states, mask)
        leaves = [states, *projection.parameters()]
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert_close(found[1], found[0])
    assert not found[1][1][~mask].any()


def test_gradients_are_derivatives() -> None:
    states, mask = drawn()
    projection = SentenceProjection(4, 3).double()
    assert torch.autograd.gradcheck(lambda h: projection(h, mask), (states.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_computes_in_single_precision(dtype: torch.dtype) -> None:
    states, mask = drawn()
    projection = SentenceProjection(4)
    found = projection(states.to(dtype), mask)
    assert found.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(projection(states.to(dtype), mask), found)
    assert_close(found, projection(states.to(dtype).float(), mask))


def test_what_is_wrong_is_named(own_messages: None) -> None:
    states, mask = drawn()
    projection = SentenceProjection(4)
    mask[1] = False
    with pytest.raises(ValueError, match="row 1: mask is False at every token of states"):
        projection(states.float(), mask)
    with pytest.raises(ValueError, match="states is 5 wide and width is 4"):
        projection(torch.ones(2, 3, 5), None)
    with pytest.raises(ValueError, match="states has no tokens"):
        projection(torch.ones(2, 0, 4), None)
    with pytest.raises(TypeError, match="mask must be boolean"):
        projection(torch.ones(2, 3, 4), torch.ones(2, 3))
    with pytest.raises(ValueError, match="row 0: states is NaN"):
        projection(torch.full((2, 3, 4), math.nan), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="width must be at least 1"):
        SentenceProjection(0)
    with pytest.raises(ValueError, match="out_width must be at least 1"):
        SentenceProjection(4, 0)
    assert projection(torch.ones(0, 3, 4), torch.ones(0, 3).bool()).shape == (0, 4)
    assert "width=4, out_width=None" in repr(projection)
