"""The queue against a Python list, and its spread against all pairs one by one."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.ops.memory_bank import NONE, MemoryBank


@given(st.integers(0, 7), st.lists(st.integers(0, 20), max_size=6))
def test_it_holds_the_last_rows_in_order(size: int, pushes: list[int]) -> None:
    bank, told, number = MemoryBank(size, 2), [], 0
    for count in pushes:
        values = torch.arange(number, number + count)
        bank.push(torch.stack([values, -values], 1).float(), values % 3)
        told += values.tolist()
        number += count
        rows, tags = bank.in_order()
        expected = told[max(0, len(told) - size) :]
        assert rows[:, 0].tolist() == expected
        assert rows[:, 1].tolist() == [-value for value in expected]
        assert tags.tolist() == [value % 3 for value in expected]


def test_what_nobody_wrote_is_tagged_none() -> None:
    bank = MemoryBank(4, 2)
    assert bank.tags.tolist() == [NONE] * 4
    bank.push(torch.ones(3, 2), torch.tensor([0, 1, 0]))
    assert (bank.tags == NONE).sum() == 1
    assert len(bank.in_order()[0]) == 3


def test_its_state_is_all_there_is_of_it() -> None:
    bank = MemoryBank(3, 1)
    bank.push(torch.ones(4, 1), torch.tensor([0, 1, 2, 3]))
    other = MemoryBank(3, 1)
    other.load_state_dict(copy.deepcopy(bank.state_dict()))
    for one in (bank, other):
        one.push(torch.zeros(2, 1), torch.tensor([4, 5]))
    assert bank.in_order()[1].tolist() == other.in_order()[1].tolist() == [3, 4, 5]
    assert not list(bank.parameters())


def test_rows_are_kept_without_gradient_in_the_banks_own_precision() -> None:
    bank, rows = MemoryBank(3, 2), torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    bank.push(2 * rows, torch.zeros(2).int())
    assert not bank.rows.requires_grad
    assert bank.rows.dtype == torch.float32


@pytest.mark.parametrize(("size", "dim", "name"), [(-1, 2, "size"), (2, 0, "dim"), (2.5, 2, "size"), (2, "a", "dim")])
def test_sizes_that_cannot_be_are_refused(size: int, dim: int, name: str, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        MemoryBank(size, dim)


@given(st.integers(0, 9), st.integers(0, 99))
def test_spread_is_that_of_all_pairs(count: int, seed: int) -> None:
    bank = MemoryBank(8, 3)
    bank.push(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) + 1, torch.zeros(count).long())
    rows = F.normalize(bank.in_order()[0], dim=-1)
    pairs = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    rank, uniformity = bank.spread()
    if not pairs:
        assert rank == uniformity == 0
        return
    squares = torch.stack([(a @ b).square() for a, b in pairs]).mean()
    assert_close(rank, (1 / squares).clamp(max=3.0), rtol=1e-4, atol=1e-5)
    gauss = torch.stack([(-2 * (a - b).square().sum()).exp() for a, b in pairs]).mean()
    assert_close(uniformity, gauss.log(), rtol=1e-4, atol=1e-5)


def test_a_sample_tells_the_rank_of_many() -> None:
    bank = MemoryBank(4096, 64)
    bank.push(
        torch.randn(4096, 64, generator=torch.Generator().manual_seed(0)) * (torch.arange(64) < 16),
        torch.zeros(4096).long(),
    )
    assert bank.spread()[0].item() == pytest.approx(16, rel=0.03)
    bank.push(torch.ones(4096, 64), torch.zeros(4096).long())
    assert_close(torch.stack(bank.spread()), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("batch", [2, 16, 100])
def test_a_bank_that_is_far_from_full_tells_its_rank_too(batch: int) -> None:
    """The sample is of rows that are there: of every sixteenth place alone a small first batch has none."""
    bank = MemoryBank(4096, 8)
    bank.push(torch.eye(8).repeat(13, 1)[:batch], torch.zeros(batch).long())
    rows = bank.in_order()[0]
    cosines = (rows @ rows.T)[~torch.eye(batch, dtype=torch.bool)]
    assert bank.spread()[0].item() == pytest.approx(float((1 / cosines.mean()).clamp(max=8)))
