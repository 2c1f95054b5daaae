"""Whitening of many groups at once: against one group after another, in the worst cases, with its true gradient."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kilter.ops.whitening import Method, whiten

METHODS = get_args(Method)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Values whose channels are of other sizes and depend on each other."""
    g = torch.Generator().manual_seed(seed)
    mixed = torch.randn(*shape[:-1], shape[-2], generator=g, dtype=torch.float64)
    return (mixed @ torch.randn(*shape, generator=g, dtype=torch.float64) + 3).to(dtype)


def covariance(y: Tensor) -> Tensor:
    y = y - y.mean(-1, keepdim=True)
    return y @ y.mT / y.shape[-1]


@pytest.mark.parametrize("method", METHODS)
def test_every_group_is_as_if_alone(method: Method) -> None:
    x = drawn(2, 3, 4, 40)
    y, dead = whiten(x, method=method, epsilon=0)
    assert not dead.any()
    assert_close(y.mean(-1), torch.zeros(2, 3, 4, dtype=torch.float64))
    assert_close(covariance(y), torch.eye(4, dtype=torch.float64).expand(2, 3, 4, 4))
    for i in range(2):
        for j in range(3):
            centred = x[i, j] - x[i, j].mean(-1, keepdim=True)
            if method == "cholesky":
                expected = torch.linalg.inv(torch.linalg.cholesky(covariance(x[i, j]))) @ centred
            else:
                values, vectors = torch.linalg.eigh(covariance(x[i, j]))
                expected = vectors @ torch.diag(values**-0.5) @ vectors.T @ centred
            assert_close(y[i, j], expected)


def test_the_two_symmetric_roots_are_one() -> None:
    for batch in (3, 4, 40):  # fewer than channels, as many, more
        x = drawn(3, 4, batch)
        for epsilon in (1e-4, 0.1):
            assert_close(whiten(x, epsilon=epsilon).vectors, whiten(x, method="svd", epsilon=epsilon).vectors)


def test_the_ridge_is_a_share_of_the_mean_variance_of_the_living() -> None:
    x = drawn(1, 3, 40)
    x[0, 1] = 7.0
    y = whiten(x, epsilon=0.5).vectors
    living = x[:, [0, 2]]
    ridge = 0.5 * covariance(living)[0].diagonal().mean() * torch.eye(2, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance(living)[0] + ridge)
    expected = vectors @ torch.diag(values**-0.5) @ vectors.T @ (living[0] - living[0].mean(-1, keepdim=True))
    assert_close(y[0, [0, 2]], expected)
    assert not y[0, 1].any()


@pytest.mark.parametrize("method", METHODS)
def test_twice_the_digits_are_kept_by_the_values_themselves(method: Method) -> None:
    """Two channels that differ by a hundred-thousandth: their covariance cannot say so in float32."""
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, generator=g)
    x = torch.stack([a, a + 3e-5 * b])[None]
    y = whiten(x, method=method, epsilon=0).vectors
    assert y.isfinite().all()
    found = covariance(y.double())[0]
    assert torch.allclose(found, torch.eye(2).double(), atol=0.02) == (method == "svd"), found


WORST = {
    "nothing": torch.zeros(2, 3, 8),
    "the same": torch.full((2, 3, 8), 1.7),
    "one vector": torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(0)),
    "one vector many times": torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(0)).expand(2, 3, 8),
    "fewer than channels": torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)),
    "all channels alike": torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0)).expand(2, 3, 8),
    "all but alike": torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0))
    + 1e-7 * torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1)),
    "a dead group": drawn(2, 3, 8, dtype=torch.float32) * torch.tensor([1e-33, 1.0])[:, None, None],
    "a dead channel": drawn(2, 3, 8, dtype=torch.float32) * torch.tensor([1.0, 1e-33, 1.0])[:, None],
    "far off": drawn(2, 3, 8, dtype=torch.float32) + 1e6,
    "tiny": drawn(2, 3, 8, dtype=torch.float32) * 1e-30,
    "huge": drawn(2, 3, 8, dtype=torch.float32) * 1e25,
    "half": drawn(2, 3, 8, dtype=torch.float16),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("epsilon", [1e-4, 0.0])
@pytest.mark.parametrize("what", WORST)
def test_never_nan(what: str, epsilon: float, detach: bool, method: Method) -> None:
    x = WORST[what].clone().requires_grad_()
    y, dead = whiten(x, method=method, epsilon=epsilon, detach=detach)
    (gradient,) = torch.autograd.grad((y * torch.linspace(-1, 2, y.shape[-1])).sum(), x)
    assert y.isfinite().all()
    assert gradient.isfinite().all()
    assert not y[dead].any()
    assert not gradient[dead].any()
    assert (covariance(y.detach().double()).diagonal(dim1=-2, dim2=-1) < 1.5).all()


def test_what_is_dead() -> None:
    assert whiten(WORST["a dead group"]).dead.tolist() == [[True] * 3, [False] * 3]
    assert whiten(WORST["a dead channel"]).dead.tolist() == [[False, True, False]] * 2
    assert whiten(WORST["the same"]).dead.all()
    assert whiten(WORST["one vector many times"]).dead.all()
    assert not whiten(WORST["all channels alike"]).dead.any()
    mostly = drawn(2, 3, 8) * torch.tensor([1e-33, 1e-33, 1.0], dtype=torch.float64)[:, None]
    assert whiten(mostly).dead.tolist() == [[True, True, False]] * 2, "though most are"
    faint = drawn(2, 3, 30) * torch.tensor([1e-4, 1.0, 1.0], dtype=torch.float64)[:, None]
    y, dead = whiten(faint, epsilon=0)
    assert not dead.any()
    assert_close(covariance(y), torch.eye(3, dtype=torch.float64).expand(2, 3, 3))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_the_whole_gradient(method: Method, epsilon: float) -> None:
    x = drawn(2, 3, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: whiten(x, method=method, epsilon=epsilon, detach=False).vectors, x)


@pytest.mark.parametrize("method", METHODS)
def test_the_whole_gradient_where_eigenvalues_are_equal(method: Method) -> None:
    """Where that of `eigh` is NaN."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3).T
    x = torch.cat([signs, torch.zeros(3, 1)], 1)[None].requires_grad_()
    assert_close(covariance(x.detach())[0], 8 / 9 * torch.eye(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: whiten(x, method=method, epsilon=0.0, detach=False).vectors, x)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_matrix_in_the_backward_pass(method: Method) -> None:
    x = drawn(2, 3, 12).requires_grad_()
    up = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = whiten(x, method=method, epsilon=0.0).vectors
    (found,) = torch.autograd.grad(y, x, up)
    centred = x.detach() - x.detach().mean(-1, keepdim=True)
    root = y.detach() @ torch.linalg.pinv(centred)
    expected = root.mT @ up
    assert_close(found, expected - expected.mean(-1, keepdim=True))


def test_under_autocast_it_is_float32() -> None:
    x = drawn(2, 3, 20, dtype=torch.float32)
    expected = whiten(x).vectors
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(whiten(x).vectors, expected, rtol=0, atol=0)
        assert whiten(x.bfloat16()).vectors.dtype == torch.float32


def test_no_vectors_at_all() -> None:
    y, dead = whiten(torch.zeros(2, 3, 0))
    assert y.shape == (2, 3, 0)
    assert not dead.any()


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99)),
    st.sampled_from(METHODS),
    st.sampled_from([0.0, 1e-4, 1e-2]),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_no_direction_is_larger_than_one(shape: Any, method: Method, epsilon: float, scale: float) -> None:
    groups, channels, batch, seed = shape
    x = scale * torch.randn(groups, channels, batch, generator=torch.Generator().manual_seed(seed))
    y, dead = whiten(x, method=method, epsilon=epsilon)
    assert y.isfinite().all()
    assert dead.all() == (batch == 1)
    assert torch.linalg.eigvalsh(covariance(y.double())).max() < 1.01
    assert_close(y.mean(-1), torch.zeros(groups, channels), atol=1e-3, rtol=0)
