"""CSLS and Procrustes against plain loops and scipy."""

import pytest
import torch
from torch.nn import functional as F

from kilter.ops import csls
from kilter.ops.csls import csls_neighbours
from kilter.ops.procrustes import procrustes

linalg = pytest.importorskip("scipy.linalg")


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def csls_by_loops(x: torch.Tensor, y: torch.Tensor, k: int) -> torch.Tensor:
    cosines = [[float(torch.dot(a, b) / a.norm() / b.norm()) for b in y] for a in x]
    around_x = [sum(sorted(row)[-k:]) / min(k, len(row)) for row in cosines]
    around_y = [sum(sorted(column)[-k:]) / min(k, len(column)) for column in zip(*cosines, strict=True)]
    return torch.tensor(
        [[2 * cosines[i][j] - around_x[i] - around_y[j] for j in range(len(y))] for i in range(len(x))],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("k", [1, 3, 50])
def test_csls_is_that_of_the_loops(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = drawn(17, 5), drawn(12, 5, seed=1)
    expected = csls_by_loops(x, y, k)
    whole = csls_neighbours(x, y, k)
    monkeypatch.setattr(csls, "_BLOCK", 30)  # a few rows at a time
    for found in (whole, csls_neighbours(x, y, k)):
        assert found.forward.tolist() == expected.argmax(1).tolist()
        assert found.backward.tolist() == expected.argmax(0).tolist()
        torch.testing.assert_close(found.gain, expected.amax(1))
        torch.testing.assert_close(found.backward_gain, expected.amax(0))
        pairs = [(i, j) for i, j in enumerate(expected.argmax(1).tolist()) if int(expected[:, j].argmax()) == i]
        assert [*zip(*(rows.tolist() for rows in found.mutual()), strict=True)] == pairs


def test_csls_forgoes_hubs() -> None:
    axes = torch.eye(21, dtype=torch.float64)
    own, hub = axes[:20], axes[20:]
    x = hub + 0.9 * own  # nearer to the hub than each to its own
    y = torch.cat([own, hub])
    assert (F.normalize(x, dim=1) @ y.mT).argmax(1).tolist() == [20] * 20
    assert csls_neighbours(x, y, 5).forward.tolist() == [*range(20)]


def test_lengths_do_not_matter_and_a_zero_vector_is_like_none() -> None:
    x, y = drawn(20, 4), drawn(20, 4, seed=1)
    found = csls_neighbours(3 * x, y * torch.arange(1, 21)[:, None], 3)
    assert torch.equal(found.forward, csls_neighbours(x, y, 3).forward)
    assert csls_neighbours(torch.zeros(3, 4), torch.zeros(2, 4)).gain.isfinite().all()


@pytest.mark.parametrize("n", [40, 3])
def test_procrustes_is_scipys(n: int) -> None:
    x, y = drawn(n, 6), drawn(n, 6, seed=1)
    found = procrustes(x, y)
    expected, _ = linalg.orthogonal_procrustes(x.numpy(), y.numpy())
    torch.testing.assert_close((x @ found - y).norm(), (x @ torch.from_numpy(expected) - y).norm())
    torch.testing.assert_close(found.mT @ found, torch.eye(6, dtype=torch.float64))
    if n > 6:  # else there are several
        torch.testing.assert_close(found, torch.from_numpy(expected))


def test_a_prior_counts_as_so_many_pairs_and_fills_what_pairs_leave_open() -> None:
    x, y, prior = drawn(9, 5), drawn(9, 5, seed=1), procrustes(drawn(9, 5, seed=2), drawn(9, 5, seed=3))
    more_x, more_y = (torch.cat([side, 3**0.5 * own]) for side, own in ((x, torch.eye(5).double()), (y, prior)))
    torch.testing.assert_close(procrustes(x, y, prior=prior, weight=3.0), procrustes(more_x, more_y))
    one = torch.eye(5, dtype=torch.float64)[:1]
    torch.testing.assert_close(procrustes(one, one, weight=1e-6), torch.eye(5, dtype=torch.float64))
    assert torch.linalg.matrix_norm(procrustes(x, y, weight=1e9) - torch.eye(5)) < 1e-6


@pytest.mark.usefixtures("own_messages")
def test_what_cannot_be_is_named() -> None:
    x = drawn(4, 3)
    with pytest.raises(ValueError, match=r"x has vectors of width 3, y of 2"):
        csls_neighbours(x, drawn(4, 2))
    with pytest.raises(ValueError, match=r"y must have at least one row"):
        csls_neighbours(x, x[:0])
    with pytest.raises(ValueError, match=r"k must be at least 1"):
        csls_neighbours(x, x, 0)
    with pytest.raises(TypeError, match=r"x must be floating point"):
        csls_neighbours(x.long(), x)
    with pytest.raises(ValueError, match=r"y must be shaped like x \(4, 3\), got \(3, 3\)"):
        procrustes(x, x[:3])
    with pytest.raises(ValueError, match=r"weight must be at least 0"):
        procrustes(x, x, weight=-1.0)
    with pytest.raises(ValueError, match=r"prior must be shaped like"):
        procrustes(x, x, prior=torch.eye(2).double())
