"""The best rows: against a full sort, in whatever chunks, with scores rounded this way and that, and with many ties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kilter.ops import top_rows
from kilter.ops.top_rows import TopRows


def in_chunks(scores: Tensor, k: int, chunk: int, noise: float, seed: int = 0) -> TopRows:
    """What is kept of scores that are offered rounded by up to `noise`."""
    g = torch.Generator().manual_seed(seed)
    top = TopRows(len(scores), k)
    for start in range(0, scores.shape[1], chunk):
        part = scores[:, start : start + chunk]
        rounded = part + noise * (2 * torch.rand(part.shape, generator=g) - 1)
        top.offer(rounded, start, torch.full((len(scores),), 1.001 * noise), lambda query, row: scores[query, row])
    return top


@given(
    rows=st.integers(1, 60),
    levels=st.sampled_from([1, 2, 5, 1000]),
    chunk=st.integers(1, 70),
    k=st.integers(1, 12),
    noise=st.sampled_from([0.0, 0.01, 3.0]),
    seed=st.integers(0, 99),
)
def test_as_a_full_stable_sort(rows: int, levels: int, chunk: int, k: int, noise: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (3, rows), generator=g) / levels
    k = min(k, rows)
    best, order = scores.sort(dim=1, descending=True, stable=True)
    top = in_chunks(scores, k, chunk, noise, seed)
    assert torch.equal(top.scores, best[:, :k])
    assert torch.equal(top.rows, order[:, :k])


@pytest.mark.parametrize("ascending", [True, False])
def test_hopeful_rows_are_few(ascending: bool) -> None:
    """Also where every chunk is better than all before it."""
    scores = torch.arange(20_000.0).sort(descending=not ascending).values[None]
    asked = 0

    def exact(query: Tensor, row: Tensor) -> Tensor:
        nonlocal asked
        asked += len(row)
        return scores[query, row]

    top = TopRows(1, 5)
    for start in range(0, 20_000, 1000):
        top.offer(scores[:, start : start + 1000], start, torch.zeros(1), exact)
    assert top.scores.tolist() == [[19_999, 19_998, 19_997, 19_996, 19_995]]
    assert asked <= 20 * top_rows._MANY * 5


def test_nothing_is_asked_of_a_chunk_without_hope(device: str) -> None:
    top = TopRows(2, 1)
    top.offer(torch.ones(2, 3, device=device), 0, torch.zeros(2), lambda query, row: torch.ones(len(row)))
    top.offer(torch.zeros(2, 3, device=device), 3, torch.zeros(2), lambda query, row: pytest.fail("asked"))
    assert top.rows.tolist() == [[0], [0]]
