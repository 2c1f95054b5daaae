"""Retrieval of partners: brute force, sentence-transformers' own, ties shared, hubs held back, domains kept apart."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kilter.evaluation import embeddings
from kilter.evaluation.embeddings import unit
from kilter.evaluation.retrieval import bitext_retrieval, within_domain_retrieval


def pairs(rows: int = 60, dim: int = 5, noise: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, dim, generator=g, dtype=torch.float64)
    return x, x + noise * torch.randn(rows, dim, generator=g, dtype=torch.float64)


def by_hand(close: np.ndarray) -> np.ndarray:
    """Rank of each row's own column, where no two are equally near."""
    return np.array([1 + sum(other > row[place] for other in row) for place, row in enumerate(close)])


def csls(x: Tensor, y: Tensor, k: int) -> np.ndarray:
    cosine = (unit(x) @ unit(y).T).numpy()
    near_x = np.sort(cosine, 1)[:, -k:].mean(1)
    near_y = np.sort(cosine, 0)[-k:].mean(0)
    return 2 * cosine - near_x[:, None] - near_y[None]


@pytest.mark.parametrize("cells", [1, 500, 1 << 22], ids=["a row at a time", "some rows", "at once"])
@pytest.mark.parametrize("k", [0, 1, 10])
def test_it_is_that_of_brute_force(cells: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "CELLS", cells)
    x, y = pairs()
    close = csls(x, y, k) if k else (unit(x) @ unit(y).T).numpy()
    found = bitext_retrieval(x, y, csls=k)
    forward, backward = by_hand(close), by_hand(close.T)
    np.testing.assert_array_equal(found.forward_ranks, forward)
    np.testing.assert_array_equal(found.backward_ranks, backward)
    np.testing.assert_allclose(found.forward_reciprocals, 1 / forward, rtol=1e-12)
    np.testing.assert_allclose(found.backward_reciprocals, 1 / backward, rtol=1e-12)
    assert found.mrr == pytest.approx((np.mean(1 / forward) + np.mean(1 / backward)) / 2)
    np.testing.assert_array_equal(found.forward_hits, forward == 1)
    np.testing.assert_array_equal(found.backward_hits, backward == 1)
    assert 0 < found.forward == np.mean(forward == 1) < 1
    assert 0 < found.backward == np.mean(backward == 1) < 1
    assert found.forward != found.backward
    assert found.mean == pytest.approx((found.forward + found.backward) / 2)
    assert float(found.hits.mean()) == pytest.approx(found.mean)


@pytest.mark.host
def test_it_is_that_of_sentence_transformers() -> None:
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    x, y = (side.float() for side in pairs())
    vectors = {f"{side} {i}": row for side, rows in (("x", x), ("y", y)) for i, row in enumerate(rows)}
    theirs = evaluation.TranslationEvaluator([f"x {i}" for i in range(60)], [f"y {i}" for i in range(60)])
    theirs.embed_inputs = lambda model, texts, **_: [vectors[text] for text in texts]
    theirs.store_metrics_in_model_card_data = lambda *_: None
    said = theirs(None)
    found = bitext_retrieval(x, y)
    assert (found.forward, found.backward) == pytest.approx((said["src2trg_accuracy"], said["trg2src_accuracy"]))


def test_copies_are_found_and_strangers_are_not() -> None:
    x, _ = pairs()
    assert bitext_retrieval(x, 7 * x).mean == 1
    wrong = bitext_retrieval(x, x.roll(1, 0))
    assert wrong.mean == 0
    assert (wrong.forward_ranks > 1).all()


def test_texts_equally_near_share_one_hit() -> None:
    """Two equal texts have half a hit each; a space in which all is alike has the accuracy of chance."""
    x = torch.eye(4)
    x[1] = x[0]
    found = bitext_retrieval(x, x)
    assert found.forward_hits.tolist() == found.backward_hits.tolist() == [0.5, 0.5, 1, 1]
    assert found.forward_ranks.tolist() == [1.5, 1.5, 1, 1]
    alike = bitext_retrieval(torch.full((50, 7), 0.1), torch.full((50, 7), 0.3))
    assert alike.forward == alike.backward == pytest.approx(1 / 50)
    assert set(alike.forward_ranks.tolist()) == {25.5}
    assert alike.mrr == pytest.approx(np.mean([1 / rank for rank in range(1, 51)]))


def test_equal_texts_share_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same cosine is rounded otherwise in another piece of the matrix; ties are ties all the same."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 33, generator=g).repeat(2, 1)
    for cells in (1, 700, 1 << 22):
        monkeypatch.setattr(embeddings, "CELLS", cells)
        assert set(bitext_retrieval(x, x).forward_hits.tolist()) == {0.5}
        assert set(bitext_retrieval(x, x, csls=3).backward_hits.tolist()) == {0.5}


def test_csls_holds_back_hubs() -> None:
    """Translations that lie in the middle are next to everything; their neighbourhood is taken off."""
    x, y = pairs(300, 8)
    y[:10] *= 0.1  # by the noise below in no direction of their own, so near to the mean
    x, y = x + 1, y + 1
    plain, held = bitext_retrieval(x, y), bitext_retrieval(x, y, csls=10)
    assert plain.forward + 0.05 < held.forward


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype_and_arrays(dtype: torch.dtype) -> None:
    x, y = (side.to(dtype) for side in pairs())
    found, expected = bitext_retrieval(x, y), bitext_retrieval(x.double().numpy(), y.double().numpy())
    torch.testing.assert_close(found.forward_ranks, expected.forward_ranks)
    assert found.forward_hits.dtype == torch.float64


def test_retrieval_on_every_device(device: str) -> None:
    x, y = pairs()
    found = bitext_retrieval(x.to(device), y.to(device), csls=5)
    assert found.forward_hits.device.type == "cpu"
    assert found.mean == pytest.approx(bitext_retrieval(x, y, csls=5).mean)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x, y: bitext_retrieval(x[:1], y[:1]), "x has one text only, which cannot be mistaken"),
        (lambda x, y: bitext_retrieval(x, y[:4]), "y must be shaped like x (60, 5), row by row, got (4, 5)"),
        (lambda x, y: bitext_retrieval(x, y, csls=61), "csls must be at most the 60 pairs, got 61"),
        (lambda x, y: bitext_retrieval(x, y, csls=-1), "csls must be at least 0, got -1"),
        (lambda x, y: bitext_retrieval(x * 0, y), "row 0: x is zeros, which have no direction"),
        (lambda x, y: bitext_retrieval(x, y / 0), "row 0: y is infinite"),
        (lambda x, y: bitext_retrieval(x[0], y), "x must be vectors (texts, dim)"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[Tensor, Tensor], Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        call(*pairs())


# Within a domain ------------------------------------------------------------------------------------------------------


def domains(rows: int = 60) -> list[str]:
    return [("med", "law", "law", "art", "art", "art")[row % 6] for row in range(rows)]


@pytest.mark.parametrize("k", [0, 3])
def test_each_domain_is_searched_by_itself(k: int) -> None:
    (x, y), names = pairs(noise=1.0), domains()
    found = within_domain_retrieval(x, y, names, csls=k)
    assert [*found.domains] == ["med", "law", "art"]
    alone = {}
    for name in found.domains:
        some = torch.tensor([one == name for one in names])
        alone[name] = bitext_retrieval(x[some], y[some], csls=k)
        assert (found.domains[name].forward, found.domains[name].mrr) == (alone[name].forward, alone[name].mrr)
        assert torch.equal(found.hits[some], alone[name].hits)
        assert torch.equal(found.reciprocals[some], alone[name].reciprocals)
    for figure in ("forward", "backward", "mean", "mrr"):
        assert getattr(found, figure) == pytest.approx(np.mean([getattr(one, figure) for one in alone.values()]))
    assert found.forward != found.backward


def test_the_order_of_the_pairs_does_not_count() -> None:
    (x, y), names = pairs(noise=1.0), domains()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    found, mixed = (
        within_domain_retrieval(x, y, names),
        within_domain_retrieval(x[order], y[order], [names[row] for row in order.tolist()]),
    )
    assert torch.equal(found.hits[order], mixed.hits)
    assert torch.equal(found.reciprocals[order], mixed.reciprocals)
    assert found.mean == pytest.approx(mixed.mean)


def test_to_know_the_domain_alone_is_worth_nothing() -> None:
    """Six times the hits of chance among all sixty, and just those of chance among the ten of a domain."""
    which = torch.arange(60) % 6
    x = torch.eye(6)[which]
    found = within_domain_retrieval(x, x, which)
    assert bitext_retrieval(x, x).mean == pytest.approx(6 / 60) == found.mean
    assert [*found.domains] == [*range(6)]
    assert all(one.mean == pytest.approx(1 / 10) for one in found.domains.values())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (domains(59), "domains must be one for each of 60 pairs, got 59"),
        (["one", *["other"] * 59], "domain 'one' has one pair only, which no other can be mistaken for; give two"),
        ([0, *[1] * 59], "domain 0 has one pair only"),
    ],
)
def test_domains_that_do_not_fit_are_named(names: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        within_domain_retrieval(*pairs(), names)
