"""Figures of vectors: closed forms, brute force, scipy's and sentence-transformers' own, and what is no input."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from kilter.evaluation import embeddings
from kilter.evaluation.correlation import ranks
from kilter.evaluation.embeddings import (
    alignment,
    cosines,
    dead_dimensions,
    effective_rank,
    isotropy,
    mean_cosine,
    principal_plane,
    similarity_correlation,
    spearman,
    spearman_rows,
    spectrum,
    uniformity,
    unit,
)

ONE: dict[str, Callable[[Any], Any]] = {
    "uniformity": uniformity,
    "mean_cosine": mean_cosine,
    "spectrum": spectrum,
    "effective_rank": effective_rank,
    "isotropy": isotropy,
    "principal_plane": principal_plane,
    "dead_dimensions": dead_dimensions,
    "unit": unit,
}
DIRECTIONS = ["uniformity", "mean_cosine", "principal_plane", "unit"]
"""Those for which a vector has a direction only."""


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def every_pair(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = x / x.norm(dim=1, keepdim=True)
    return [(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]


# Brute force and closed forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [1, 40, 1 << 22], ids=["a row at a time", "some rows", "at once"])
@pytest.mark.parametrize("t", [0.5, 2.0, 900.0])
def test_uniformity_is_the_mean_over_pairs(cells: int, t: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "CELLS", cells)
    x = draw(17, 5) * draw(17, 1, seed=1).exp()
    terms = [math.exp(-t * float((a - b).square().sum())) for a, b in every_pair(x)]
    assert uniformity(x, t) == pytest.approx(math.log(math.fsum(terms) / len(terms)), rel=1e-9)


def test_uniformity_of_antipodes_that_underflow() -> None:
    assert uniformity([[1.0, 0.0], [-1.0, 0.0]], t=1e6) == pytest.approx(-4e6)


def test_uniformity_of_a_corner_and_of_a_wide_sphere() -> None:
    assert uniformity(torch.ones(50, 3) * torch.arange(1, 51)[:, None]) == pytest.approx(0, abs=1e-12)
    assert uniformity(torch.eye(20)) == pytest.approx(-4)
    assert uniformity(draw(2000, 1024)) == pytest.approx(-4, abs=0.02)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No matrix of all pairs: what is held at a time is CELLS cosines, give or take a row."""
    monkeypatch.setattr(embeddings, "CELLS", 5000)
    largest, ones_like = [0], torch.ones_like

    def seen(like: Tensor, **how: Any) -> Tensor:
        largest[0] = max(largest[0], like.numel())
        return ones_like(like, **how)

    monkeypatch.setattr(torch, "ones_like", seen)
    uniformity(draw(1000, 4))
    assert 1000 <= largest[0] <= 5000


def test_mean_cosine_is_the_mean_over_pairs() -> None:
    x = draw(17, 5) + 1
    assert mean_cosine(x) == pytest.approx(np.mean([float(a @ b) for a, b in every_pair(x)]), rel=1e-12)
    assert mean_cosine(torch.ones(9, 3)) == pytest.approx(1)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("shape", "centred"),
    [(shape, centred) for shape in ((40, 7), (7, 40), (9000, 6), (5, 1)) for centred in (False, True)]
    + [((1, 5), False)],
)
def test_the_spectrum_is_that_of_the_matrix(shape: tuple[int, int], centred: bool) -> None:
    x = draw(*shape) + 2
    values = np.linalg.svd((x - x.mean(0) * centred).numpy(), compute_uv=False)
    found = spectrum(x, centred=centred)
    assert len(found) == min(shape)
    np.testing.assert_allclose(found, values / values.sum(), atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_effective_rank_in_the_limits(scale: float) -> None:
    assert effective_rank(scale * torch.eye(12)) == pytest.approx(12)
    assert effective_rank(scale * draw(30, 1) @ draw(1, 12, seed=1)) == pytest.approx(1)
    two = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) * scale
    assert effective_rank(two) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert effective_rank(scale * draw(4000, 12)) == pytest.approx(12, abs=0.05)


def test_a_mean_vector_counts_unless_it_is_taken_away() -> None:
    x = draw(500, 8)
    assert effective_rank(x + 100) < 2 < 7.5 < effective_rank(x + 100, centred=True)
    assert effective_rank(x + 100, centred=True) == pytest.approx(effective_rank(x, centred=True))


def test_isotropy_by_hand() -> None:
    """Eigenvectors are the axes, and Z is known along both signs of each."""
    x = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    z = [2 * math.cosh(2) + 2, 2 + 2 * math.e, 2 + 2 / math.e]
    assert isotropy(x) == pytest.approx(min(z) / max(z))


def test_isotropy_in_the_limits() -> None:
    assert isotropy(draw(5000, 6)) > 0.9
    assert isotropy(unit(draw(5000, 6))) > isotropy(unit(draw(5000, 6) + 2)) > math.exp(-2)
    assert isotropy(unit(torch.ones(9, 3))) == pytest.approx(math.exp(-2))
    assert isotropy(1e5 * torch.ones(9, 3)) == 0.0


def test_dead_dimensions_are_found_at_every_scale() -> None:
    x = draw(50, 6, dtype=torch.float32) * 1e-3
    x[:, 1], x[:, 4] = 1e-33, 0.1
    assert dead_dimensions(x) == [1, 4]
    assert dead_dimensions(unit(x)) == [1], "a constant is none once lengths differ"
    assert dead_dimensions(draw(50, 6)) == []
    assert dead_dimensions(torch.full((3, 4), 0.1, dtype=torch.float64)) == [0, 1, 2, 3]
    x[0, 1] = 1.0
    assert dead_dimensions(x) == [4]


def test_alignment_is_the_mean_distance() -> None:
    x, y = draw(9, 4), draw(9, 4, seed=1)
    far = [float((a / a.norm() - b / b.norm()).norm()) for a, b in zip(x, y, strict=True)]
    for alpha in (0.5, 1.0, 2.0):
        assert alignment(x, y, alpha) == pytest.approx(np.mean([one**alpha for one in far]))
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-12)
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment(x, y) == pytest.approx(2 - 2 * float(cosines(x, y).mean()))


@given(st.integers(0, 2**20), st.floats(1e-3, 1e3))
def test_turning_and_stretching_change_nothing(seed: int, scale: float) -> None:
    """All figures are of the shape alone: a rotation leaves them, and a scale all but isotropy's."""
    x = draw(12, 5, seed=seed) + 0.5
    turn = torch.linalg.qr(draw(5, 5, seed=seed + 1)).Q
    for measure in (uniformity, mean_cosine, effective_rank):
        assert measure(scale * x @ turn) == pytest.approx(measure(x), rel=1e-7, abs=1e-9)
    assert isotropy(x @ turn) == pytest.approx(isotropy(x), rel=1e-7)


# Ranks and correlations -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    values, scores = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))
    if len(set(scores.tolist())) == 1:
        with pytest.raises(ValueError, match="scores are all"):
            spearman(values, scores)
    elif len(set(values.tolist())) == 1:
        assert spearman(values, scores) == 0
        assert not spearman_rows(values, scores).any()
    else:
        assert spearman(values, scores) == pytest.approx(stats.spearmanr(values, scores).statistic, abs=1e-12)
        assert float(spearman_rows(values, scores).mean()) == pytest.approx(spearman(values, scores), abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_the_spread_of_the_rows_is_the_error_of_the_correlation(rho: float) -> None:
    a, noise = draw(2, 600)
    b = ((rho * a + math.sqrt(1 - rho**2) * noise) * 2).round()  # with ties, as people's scores have
    pick = np.random.default_rng(0)
    drawn = [spearman(a[i], b[i]) for i in (pick.integers(0, 600, 600) for _ in range(600))]
    assert float(spearman_rows(a, b).std()) / math.sqrt(600) == pytest.approx(np.std(drawn), rel=0.12)


@pytest.mark.host
def test_similarity_correlation_is_that_of_sentence_transformers() -> None:
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    x, y = draw(40, 6, dtype=torch.float32), draw(40, 6, seed=1, dtype=torch.float32)
    scores = (cosines(x, y) * 3 + draw(40, seed=2)).round().tolist()
    vectors = {f"{side} {i}": row.numpy() for side, rows in (("x", x), ("y", y)) for i, row in enumerate(rows)}
    theirs = evaluation.EmbeddingSimilarityEvaluator(
        [f"x {i}" for i in range(40)], [f"y {i}" for i in range(40)], scores, main_similarity="cosine"
    )
    theirs.embed_inputs = lambda model, texts, **_: np.stack([vectors[text] for text in texts])

    class Model:
        similarity_fn_name = None
        truncate_dim = None
        model_card_data = None

    theirs.store_metrics_in_model_card_data = lambda *_: None
    found = theirs(Model())
    assert similarity_correlation(x, y, scores) == pytest.approx(found["spearman_cosine"], abs=1e-6)


# What is given ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE)
def test_any_dtype_arrays_and_lists_are_taken(name: str) -> None:
    x = (draw(6, 4) * 8).round() / 8  # the same in every dtype
    expected = torch.as_tensor(ONE[name](x))
    for same in (x.half(), x.bfloat16(), x.float(), x.numpy(), x.tolist(), x.clone().requires_grad_()):
        torch.testing.assert_close(torch.as_tensor(ONE[name](same)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize(
    ("x", "said"),
    [
        ([[1.0, math.nan], [1.0, 2.0]], "row 0: x is NaN; leave this text out"),
        ([[1.0, 2.0], [math.inf, 0.0]], "row 1: x is infinite; leave this text out"),
        ([1.0, 2.0], "x must be vectors (texts, dim), at least one, got shape (2,)"),
        (torch.zeros(0, 3), "x must be vectors (texts, dim), at least one, got shape (0, 3)"),
        (torch.ones(2, 2, dtype=torch.complex64), "x must be vectors (texts, dim)"),
        ([[1.0], [1.0, 2.0]], "x must be a matrix of vectors (texts, dim), rows equally long"),
        ("ab", "x must be a matrix of vectors (texts, dim)"),
    ],
)
def test_what_are_no_vectors_is_said(name: str, x: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        ONE[name](x)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_zeros_have_no_direction(name: str) -> None:
    with pytest.raises(ValueError, match=r"^row 1: x is zeros, which have no direction; leave this text out"):
        ONE[name]([[1.0, 2.0], [0.0, 0.0]])


@pytest.mark.parametrize("name", ["uniformity", "mean_cosine", "dead_dimensions"])
def test_one_text_is_not_enough(name: str) -> None:
    with pytest.raises(ValueError, match=r"^x has one vector only"):
        ONE[name]([[1.0, 2.0]])


def test_what_has_no_spectrum() -> None:
    with pytest.raises(ValueError, match=r"^x is zeros; it has no spectrum"):
        effective_rank(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"^x is the same vector everywhere; it has no spectrum"):
        effective_rank(torch.full((3, 2), 0.1), centred=True)
    assert effective_rank(torch.ones(3, 2)) == pytest.approx(1)


def test_tiny_and_huge_vectors_have_a_direction() -> None:
    assert unit([[3e-200, 4e-200], [3e200, 4e200]]).flatten().tolist() == pytest.approx([0.6, 0.8] * 2)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: uniformity([[1.0]] * 2, t=0), "t must be positive"),
        (lambda: alignment([[1.0]], [[1.0]], alpha=math.nan), "alpha must be positive"),
        (lambda: dead_dimensions([[1.0]] * 2, tolerance=2), "tolerance must be within 0..1"),
        (lambda: alignment([[1.0]], [[1.0]] * 2), "y must be shaped like x (1, 1), row by row, got (2, 1)"),
        (lambda: cosines([[1.0]], [[math.nan]]), "row 0: y is NaN"),
        (lambda: spearman([1.0, 2.0], [1.0]), "scores must be one for each of 2 pairs, got 1"),
        (lambda: spearman([1.0], [1.0]), "scores: a correlation needs two pairs or more, got 1"),
        (lambda: spearman([1.0, 2.0], [3.0, 3.0]), "scores are all 3, so that nothing can follow them"),
        (lambda: spearman([1.0, math.nan], [3.0, 4.0]), "pair 1: values is NaN; leave this pair out"),
        (lambda: spearman([1.0, 2.0], [3.0, math.inf]), "pair 1: scores is infinite; leave this pair out"),
        (lambda: spearman([[1.0]], [3.0]), "values must be (pairs,), at least one, got shape (1, 1)"),
        (lambda: spearman([None], [3.0]), "values must be a list of numbers"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        call()


def test_figures_on_every_device(device: str) -> None:
    x, y = draw(20, 4), draw(20, 4, seed=1)
    there = x.float().to(device), y.float().to(device)
    assert uniformity(there[0]) == pytest.approx(uniformity(x), abs=1e-5)
    assert effective_rank(there[0]) == pytest.approx(effective_rank(x), abs=1e-4)
    assert isotropy(there[0]) == pytest.approx(isotropy(x), abs=1e-5)
    assert similarity_correlation(*there, y[:, 0].tolist()) == pytest.approx(
        similarity_correlation(x, y, y[:, 0]), abs=1e-2
    )


# A map ------------------------------------------------------------------------------------------------------------


def test_the_principal_plane_is_that_of_the_singular_vectors() -> None:
    x = draw(30, 6) * torch.arange(1, 7) + 1
    u = unit(x) - unit(x).mean(0)
    left, values, _ = torch.linalg.svd(u, full_matrices=False)
    found = principal_plane(x)
    torch.testing.assert_close(found.abs(), (left[:, :2] * values[:2]).abs())
    assert (found.amax(0) == found.abs().amax(0)).all()


@pytest.mark.parametrize("x", [[[1.0]], [[1.0], [-2.0]], [[1.0, 2.0]] * 3], ids=["one", "a line", "a point"])
def test_a_plane_of_less_than_two_directions(x: list[list[float]]) -> None:
    found = principal_plane(x)
    assert found.shape == (len(x), 2)
    assert found[:, 1].tolist() == pytest.approx([0] * len(x), abs=1e-12)
