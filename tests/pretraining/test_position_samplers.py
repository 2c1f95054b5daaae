"""Which positions are drawn: as the paper says, all rows at once, and never a second nearest."""

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.pretraining import PositionSampler
from kilter.pretraining.digit_edits import edited
from kilter.pretraining.distinct_draws import different, repeated
from kilter.pretraining.position_samplers import Contrasted

SAMPLERS: Any = ["released", "centred"]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def distances(drawn: Contrasted) -> Tensor:
    """Squared, of each pivot to its candidates."""
    pivot = drawn.pivot.view(len(drawn.pivot), 1, -1)
    return (pivot - drawn.candidates.reshape(*drawn.candidates.shape[:2], -1)).square().sum(-1)


# Contrast -------------------------------------------------------------------------------------------------------------


@given(
    st.integers(3, 400),
    st.integers(1, 3),
    st.sampled_from(SAMPLERS),
    st.integers(2, 40),
    st.integers(0, 9),
    st.sampled_from([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (None, None)]),
)
def test_the_nearest_is_the_positive_and_there_is_one(
    size: int, axes: int, sampler: Any, candidates: int, seed: int, modes: tuple[float | None, float | None]
) -> None:
    options: dict[str, Any] = {"candidates": candidates, "edits": modes[0], "nearby": modes[1]}
    drawn = PositionSampler(size, axes=axes, sampler=sampler, pivots=5, span=8, **options).contrast(seeded(seed))
    distance = distances(drawn)
    assert (distance.argmin(1) == drawn.positive).all()
    assert ((distance == distance.amin(1, keepdim=True)).sum(1) == 1).all()
    assert distance.min() > 0, "the pivot is no candidate of its own"
    for positions in (drawn.pivot, drawn.candidates):
        assert positions.min() >= 0
        assert positions.max() < size
    for row in drawn.candidates.reshape(*drawn.candidates.shape[:2], -1):
        assert len(row.unique(dim=0)) == len(row)
    if size**axes > 4 * candidates + 40:
        assert drawn.candidates.shape[1] == candidates


def test_shapes_and_seeds() -> None:
    text, grid = PositionSampler(20_000), PositionSampler(100, axes=2, pivots=32, candidates=64)
    drawn = text.contrast(seeded())
    assert drawn.pivot.shape == (16,)
    assert drawn.candidates.shape == (16, 32)
    assert_close(text.contrast(seeded()).candidates, drawn.candidates)
    assert not torch.equal(text.contrast(seeded(1)).pivot, drawn.pivot)
    drawn = grid.contrast(seeded())
    assert drawn.pivot.shape == (32, 2)
    assert drawn.candidates.shape == (32, 64, 2)
    torch.manual_seed(5)
    first = text.contrast().pivot
    torch.manual_seed(5)
    assert_close(text.contrast().pivot, first)


def medians(sampler: PositionSampler) -> float:
    """Distance of the nearest candidate, over many pivots."""
    generator = seeded()
    return float(
        torch.cat([distances(sampler.contrast(generator)).amin(1) for _ in range(60)]).double().sqrt().median()
    )


def test_what_is_published_teaches_little_about_what_is_near() -> None:
    """Measured on the released sampler: 262 with digit edits, 5854 with windows, 1850 over all."""
    assert 200 < medians(PositionSampler(20_000, edits=1.0, nearby=0.0)) < 300
    assert 5300 < medians(PositionSampler(20_000, edits=0.0, nearby=1.0)) < 6500
    assert 1300 < medians(PositionSampler(20_000)) < 2300
    assert medians(PositionSampler(20_000, sampler="centred", edits=0.0, nearby=1.0)) < 10


def test_a_window_is_as_long_as_said_and_where_said() -> None:
    for sampler in SAMPLERS:
        options: dict[str, Any] = {"edits": 0.0, "nearby": 1.0, "candidates": 8, "pivots": 50, "sampler": sampler}
        drawn = PositionSampler(10_000, span=100, **options).contrast(seeded())
        assert (drawn.candidates.amax(1) - drawn.candidates.amin(1) < 100).float().mean() > 0.9
        around = ((drawn.candidates - drawn.pivot[:, None]).abs() <= 100).all(1)
        assert around.float().mean() > 0.9 if sampler == "centred" else around.float().mean() < 0.1
        drawn = PositionSampler(10_000, span=1, **options).contrast(seeded())
        assert (drawn.candidates.amax(1) - drawn.candidates.amin(1) < 5 * 8).float().mean() > 0.95, "5 C at least"


def test_edits_look_like_the_pivot_and_are_farther_than_the_nearest_uniform_draw() -> None:
    hard, uniform = (PositionSampler(20_000, edits=edits, nearby=0.0, pivots=300) for edits in (1.0, 0.0))
    nearest, alike = [], []
    for sampler in (hard, uniform):
        drawn = sampler.contrast(seeded())
        nearest.append(float(distances(drawn).amin(1).double().sqrt().median()))
        pairs = torch.stack([drawn.pivot[:, None].expand_as(drawn.candidates), drawn.candidates], -1).view(-1, 2)
        alike.append(sum(len({*str(one)} & {*str(other)}) for one, other in pairs.tolist()))
    assert nearest[0] == pytest.approx(nearest[1], rel=0.25)
    assert alike[0] > 1.1 * alike[1]


def test_ties_are_left_out_where_there_are_no_others() -> None:
    """Of 0, 1, 2 the one in the middle has two nearest: all pivots have one candidate then."""
    assert PositionSampler(3, pivots=3).contrast(seeded()).candidates.shape == (3, 1)
    full = PositionSampler(9, candidates=8, pivots=9).contrast(seeded())
    assert full.candidates.shape == (9, 7)


# Digit edits ----------------------------------------------------------------------------------------------------------


def one_edit(text: str) -> set[str]:
    """Every text after one edit."""
    found = {text[:i] + d + text[i:] for i in range(len(text) + 1) for d in "0123456789"}
    found |= {text[:i] + d + text[i + 1 :] for i in range(len(text)) for d in "0123456789"}
    if len(text) > 1:
        found |= {text[:i] + text[i + 1 :] for i in range(len(text))}
    letters = list(text)
    for i in range(len(text)):
        for j in range(len(text)):
            swapped = letters.copy()
            swapped[i], swapped[j] = letters[j], letters[i]
            found.add("".join(swapped))
    return found


def test_edits_are_what_texts_say() -> None:
    start = {"407"}
    reach = set(start)
    for _ in range(3):
        reach |= {other for one in reach for other in one_edit(one) if len(other) <= 4}
    found = edited(torch.full((4000, 1), 407), 4, generator=seeded())[:, 0].tolist()
    assert {*found} <= {int(one) for one in reach}
    counted = Counter(found)
    once = {int(one) for one in one_edit("407")}
    assert {*counted} >= once - {407}, "each single edit comes up"
    assert sum(counted[one] for one in once) > 1000


def test_edits_of_a_grid_are_cut_anywhere() -> None:
    found = edited(torch.tensor([[12, 34]]).expand(3000, 2), 2, generator=seeded())
    assert found.shape == (3000, 2)
    assert {(1, 234), (123, 4), (12, 43)} <= {tuple(one) for one in found.tolist()}
    assert found.min() >= 0


# Windows and shifts ---------------------------------------------------------------------------------------------------


def test_windows_of_texts_begin_behind_a_quarter() -> None:
    sampler, generator = PositionSampler(100, windows=500, places=8), seeded()
    drawn = sampler.transfer(40, generator)
    start = drawn.student - drawn.teacher
    assert drawn.teacher.shape == (500, 8)
    assert (start == start[:, :1]).all()
    assert (start.min(), start.max()) == (10, 60)
    assert (drawn.teacher.min(), drawn.teacher.max(), drawn.student.max()) == (0, 39, 99)
    assert not repeated(drawn.teacher).any()
    assert sampler.transfer(5, generator).teacher.shape == (500, 5)


def test_windows_of_a_grid_lie_beyond_the_origin() -> None:
    drawn = PositionSampler(10, axes=2, windows=800, places=4).transfer((3, 4), seeded())
    start = (drawn.student - drawn.teacher)[:, 0]
    expected = {(r, c) for r in range(8) for c in range(7) if r >= 3 or c >= 4}
    assert {tuple(one) for one in start.tolist()} == expected
    assert {tuple(one) for one in drawn.teacher.flatten(0, 1).tolist()} == {(r, c) for r in range(3) for c in range(4)}


@pytest.mark.parametrize("axes", [1, 2])
def test_shifted_rows_share_places_in_groups(axes: int) -> None:
    found = PositionSampler(1000, axes=axes).shift(32, 100, groups=16, generator=seeded())
    assert found.shape == ((32,) if axes == 1 else (32, 2))
    assert (found[0::2] == found[1::2]).all()
    assert len(found.unique(dim=0)) > 12
    assert found.max() <= 900
    assert PositionSampler(1000, axes=axes).shift(3, 100).shape[0] == 3
    assert PositionSampler(1000, axes=axes).shift(0, 100).shape[0] == 0
    assert not PositionSampler(100, axes=axes).shift(4, 100).any()


def test_every_choice_is_as_likely() -> None:
    for size in (5, 40):  # by sorting, and by drawing again
        found = different(20_000, 2, size, seeded())
        assert not repeated(found).any()
        counts = torch.bincount(found[:, 0] * size + found[:, 1], minlength=size * size).double().view(size, size)
        assert not counts.diagonal().any()
        expected = 20_000 / (size * (size - 1))
        off = counts[~torch.eye(size, dtype=torch.bool)]
        assert float(((off - expected).square() / expected).sum()) < 1.15 * len(off) + 20


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_position": 0}, "max_position"),
        ({"axes": 0}, "axes"),
        ({"sampler": "centered"}, "did you mean 'centred'"),
        ({"pivots": 0}, "pivots"),
        ({"candidates": 1}, "candidates"),
        ({"windows": 0}, "windows"),
        ({"places": 1}, "places"),
        ({"edits": -0.1}, "edits"),
        ({"nearby": 1.5}, "nearby"),
        ({"edits": 0.7}, "edits and nearby are 0.7 and 0.6, together more than 1"),
        ({"span": 0}, "span"),
        ({"base": 1}, "base"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=message):
        PositionSampler(**{"max_position": 100, **options})


def test_too_few_positions_are_named() -> None:
    with pytest.raises(ValueError, match="max_position=2 has too few"):
        PositionSampler(2).contrast()
    with pytest.raises(ValueError, match=r"max_position=100 leaves no window of length=90 .*transfer_weight=0"):
        PositionSampler(100).transfer(90)
    with pytest.raises(ValueError, match=r"length=\(5, 5\)"):
        PositionSampler(9, axes=2).transfer((5, 5))
    with pytest.raises(ValueError, match="length=101 is more than max_position=100"):
        PositionSampler(100).shift(4, 101)
    with pytest.raises(ValueError, match="length must be one number for each of axes=2"):
        PositionSampler(100, axes=2).transfer((3, 4, 5))
