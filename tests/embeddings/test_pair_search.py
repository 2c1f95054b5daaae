"""PairSearch: exact against a full sort of scores in double precision, ties, memory, files, bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kilter.embeddings import PairHead, PairSearch, pair_scores, pair_search
from tests.embeddings.tiny_encoder import TEXTS, tiny_encoder

pytestmark = pytest.mark.usefixtures("own_messages")

HEADS: dict[str, dict[str, Any]] = {
    "concat": {},
    "symmetric": {"symmetric": True},
    "product": {"features": "dot"},
    "classes": {"outputs": 3},
}


def drawn(rows: int, dim: int = 12, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


def repeated(rows: int = 700, **how: Any) -> Tensor:
    """Each vector stands there three times, far apart."""
    return drawn(rows, **how).repeat(3, 1)


def head(kind: str = "concat", dim: int = 12, seed: int = 0) -> PairHead:
    torch.manual_seed(seed)
    return PairHead(dim, hidden=16, **HEADS[kind])


def output(kind: str) -> int | None:
    return 1 if kind == "classes" else None


def naive(u: Tensor, v: Tensor, by: PairHead | None, of: int | None = None) -> Tensor:
    """Scores of all pairs in double precision, a loop over pairs' first vectors."""
    u, v = u.double(), v.double()
    if by is None:
        return torch.stack([(one * v).sum(1) for one in u])
    w1, b1 = by.first.weight.detach().double(), by.first.bias.detach().double()
    w2, b2 = by.last.weight.detach().double(), by.last.bias.detach().double()
    rows = []
    for one in u.unbind():
        first = one.expand_as(v)
        hidden = []
        for a, b in ((first, v), (v, first))[: 1 + by.symmetric]:
            both = torch.cat([a, b, a * b, (a - b).abs()], 1) if by.features == "concat" else (a * b).sum(1)[:, None]
            hidden.append((both @ w1.T + b1).relu())
        found = torch.stack(hidden).mean(0) @ w2.T + b2
        rows.append(found[:, 0] if of is None else found.log_softmax(1)[:, of])
    return torch.stack(rows)


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, rows = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :k], rows[:, :k]


@pytest.mark.parametrize("numbers", [1 << 6, 1 << 10, 1 << 21])
@pytest.mark.parametrize("kind", [None, *HEADS])
def test_the_best_are_those_of_a_full_sort(
    kind: str | None, numbers: int, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """In whatever chunks, and of equal vectors the first."""
    monkeypatch.setattr(pair_scores, "_NUMBERS", numbers)
    monkeypatch.setattr(pair_search, "_PIECE", 100)
    u, v, by = drawn(5, seed=1), repeated(60 if numbers == 1 << 6 else 700), None if kind is None else head(kind)
    index = PairSearch.build(v, head=by, output=output(kind or ""), device=device)
    found = index.search(u, 7)
    values, rows = best(naive(u, v, by, output(kind or "")).float(), 7)
    torch.testing.assert_close(found.scores, values, rtol=0, atol=1e-6)
    assert torch.equal(found.rows, rows)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_score_depends_on_its_pair_only(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    u, v = drawn(300, 40, 1), repeated(dim=40, dtype=dtype)
    found = PairSearch.build(v).search(u, 9)
    assert found.scores.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(found.scores.view(300, 3, 3), found.scores.view(300, 3, 3)[:, :, :1].expand(-1, -1, 3))
    assert torch.equal(found.rows.view(300, 3, 3) % 700, (found.rows.view(300, 3, 3) % 700)[:, :, :1].expand(-1, -1, 3))
    assert (found.rows.view(300, 3, 3).diff(dim=2) == 700).all()
    monkeypatch.setattr(pair_scores, "_NUMBERS", 5000)
    alone = [PairSearch.build(v).search(one[None], 9) for one in u[:20]]
    assert torch.equal(torch.cat([one.scores for one in alone]), found.scores[:20])
    assert torch.equal(torch.cat([one.rows for one in alone]), found.rows[:20])


def test_where_all_are_equal_the_first_rows_win() -> None:
    found = PairSearch.build(torch.ones(5000, 3)).search(torch.full((2, 3), 0.3), 4)
    assert found.rows.tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("kind", HEADS)
def test_in_double_precision_a_heads_score_too_depends_on_its_pair_only(kind: str) -> None:
    u, v = drawn(70, 24, 1, torch.float64), repeated(dim=24, dtype=torch.float64)
    index = PairSearch.build(v, head=head(kind, 24), output=output(kind))
    found, alone = index.search(u, 9), [index.search(one[None], 9) for one in u[:20]]
    assert found.scores.dtype == torch.float32
    assert (found.rows.view(70, 3, 3).diff(dim=2) == 700).all()
    assert torch.equal(torch.cat([one.scores for one in alone]), found.scores[:20])
    assert torch.equal(torch.cat([one.rows for one in alone]), found.rows[:20])


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="this torch names them once")
def test_precisions_named_for_a_backend_lose_nothing() -> None:
    u, v = drawn(40, 64, 1), drawn(3000, 64)
    here = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in here]
    try:
        for place, precision in zip(here, ("bf16", "tf32"), strict=True):
            place.fp32_precision = precision
        found = PairSearch.build(v).search(u, 5)
    finally:
        for place, precision in zip(here, before, strict=True):
            place.fp32_precision = precision
    assert torch.equal(found.rows, best(naive(u, v, None), 5)[1])


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_loose_products_lose_nothing(precision: str) -> None:
    u, v = drawn(4, 64, 1), drawn(3000, 64)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = PairSearch.build(v).search(u, 5)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.rows, best(naive(u, v, None), 5)[1])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_rounding_stays_within_the_margin(kind: str, scale: float) -> None:
    u, v = scale * drawn(5, 96, 1), scale * drawn(400, 96)
    by = head(kind, 96)
    scores = pair_scores.HeadScores(by, output(kind), float(v.norm(dim=1).max()))
    error = (scores.rounded(u, v).detach().double() - naive(u, v, by, output(kind))).abs().amax(1)
    margin = scores.most(u) * scores.error(torch.float32)
    assert (error < margin / 4).all()
    assert (naive(u, v, by, output(kind)).abs().amax(1) < 2 * scores.most(u) + 2).all()


def test_cosine_is_of_directions() -> None:
    u, v = 7 * drawn(3, seed=1), drawn(50) * torch.logspace(-3, 3, 50)[:, None]
    found = PairSearch.build(v, cosine=True).search(u, 5)
    expected = torch.nn.functional.cosine_similarity(u[:, None].double(), v[None].double(), dim=2)
    values, rows = best(expected, 5)
    torch.testing.assert_close(found.scores, values.float())
    assert torch.equal(found.rows, rows)


def test_a_search_holds_a_chunk_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing as large as the vectors, or as all scores, is ever made."""
    from torch.profiler import ProfilerActivity, profile

    monkeypatch.setattr(pair_scores, "_NUMBERS", 1 << 14)
    v, peaks = drawn(60_000, 16), {}
    for name, by in (("dot", None), ("head", head(dim=16))):
        index = PairSearch.build(v, head=by)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
            index.search(drawn(8, 16, 1), 3)
        held = peak = 0
        found: Any = prof.profiler
        events = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            peak = max(peak, held)
        peaks[name] = peak
    assert peaks["dot"] < 6e5 < v.nbytes / 6
    assert peaks["head"] < 12e6  # what the head takes for a million numbers at once, however many rows


# Files ----------------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_opened_and_mapped(tmp_path: Path) -> None:
    u, v, words = drawn(4, seed=1), repeated(), [f"Satz\u2028{row} \ud800\n" for row in range(2100)]
    for kind in (None, *HEADS):  # one over the other
        index = PairSearch.build(v, words, head=None if kind is None else head(kind), output=output(kind or ""))
        index.save(tmp_path)
        opened = PairSearch.open(tmp_path)
        for one, other in zip(index.search(u), opened.search(u), strict=True):
            assert torch.equal(one, other)
        assert [*(opened.texts or ())] == words
        assert (opened.texts or ())[-3:] == words[-3:]
    with pytest.raises(IndexError, match="2100 texts"):
        PairSearch.open(tmp_path).texts[2100]  # type: ignore[index]
    PairSearch.build(v).save(tmp_path)
    assert PairSearch.open(tmp_path).texts is None
    assert not (tmp_path / "texts.jsonl").exists()
    about = json.loads((tmp_path / "index.json").read_text())
    assert (about["kind"], about["version"], about["count"], about["width"]) == ("pair-search", 1, 2100, 12)
    maps = Path("/proc/self/maps")
    opened = PairSearch.open(tmp_path)
    assert len(opened) == 2100
    assert not maps.exists() or str(tmp_path / "vectors.safetensors") in maps.read_text()


def test_an_opened_index_outlives_being_written_over(tmp_path: Path) -> None:
    PairSearch.build(drawn(50)).save(tmp_path)
    opened = PairSearch.open(tmp_path)
    before = opened.search(drawn(2, seed=1))
    opened.save(tmp_path)
    PairSearch.build(drawn(50, seed=5)).save(tmp_path)
    assert torch.equal(opened.search(drawn(2, seed=1)).scores, before.scores)


def test_the_head_is_a_copy() -> None:
    by = head()
    index = PairSearch.build(drawn(40), head=by)
    before = index.search(drawn(2, seed=1))
    torch.nn.init.zeros_(by.last.weight)
    assert torch.equal(index.search(drawn(2, seed=1)).scores, before.scores)


VECTORS = "vectors.safetensors"


def cut(name: str, size: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:size])

    return spoil


def say(**changed: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        file = folder / "index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return spoil


def other(name: str) -> Callable[[Path], None]:
    """A file of another index, of the same shape."""

    def spoil(folder: Path) -> None:
        PairSearch.build(drawn(30, seed=9), ["x"] * 30, head=head(seed=9)).save(folder / "other")
        (folder / "other" / name).replace(folder / name)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        *((cut(VECTORS, size), ValueError, "vectors.safetensors: is cut short") for size in (0, 5, 200, -1)),
        *((cut("index.json", size), ValueError, "index.json: is no JSON, or cut short") for size in (0, -4)),
        *((cut("texts.jsonl", size), ValueError, "texts.jsonl: has .* bytes; it was cut short") for size in (0, -1)),
        (cut("head/head.safetensors", -1), ValueError, "head: holds no pair head that is whole"),
        (other(VECTORS), ValueError, "belongs to another vectors.safetensors"),
        (other("head/config.json"), ValueError, "head: holds no pair head that is whole"),
        (lambda folder: [other(f"head/{name}")(folder) for name in ("config.json", "head.safetensors")], ValueError,
         "built with another head"),
        (say(kind="tree"), ValueError, "kind 'tree', not 'pair-search'"),
        (say(version=2), ValueError, "version 2, this kilter reads 1"),
        *((say(**{name: value}), ValueError, f"index.json: '{name}' is missing or of another kind")
          for name, value in (("longest", None), ("encoder", 5), ("texts", "yes"))),
        (say(output=1), ValueError, "output: the head has 1, got 1"),
        (say(width=13), ValueError, r"has \(30, 12\) vectors, index.json says \(30, 13\)"),
        (say(head=None), ValueError, "built without a head"),
        (lambda folder: (folder / "index.json").unlink(), FileNotFoundError, "holds no index"),
        (lambda folder: (folder / VECTORS).unlink(), FileNotFoundError, "vectors.safetensors: is missing"),
        (lambda folder: (folder / "index.json").write_text("[]"), ValueError, "must hold a JSON object"),
    ],
)  # fmt: skip
def test_a_broken_index_is_told_by_the_file(spoil: Any, error: type, said: str, tmp_path: Path) -> None:
    PairSearch.build(drawn(30), ["x"] * 30, head=head()).save(tmp_path)
    spoil(tmp_path)
    given = head() if said == "built without a head" else None
    with pytest.raises(error, match=said):
        PairSearch.open(tmp_path, head=given)


def test_another_head_or_width_is_refused(tmp_path: Path) -> None:
    PairSearch.build(drawn(30), head=head()).save(tmp_path)
    PairSearch.open(tmp_path, head=head())
    for one in (head(seed=1), head("symmetric")):
        with pytest.raises(ValueError, match="built with another head"):
            PairSearch.open(tmp_path, head=one)
    with pytest.raises(ValueError, match="head was made for dim=13"):
        PairSearch.open(tmp_path, head=head(dim=13))
    with pytest.raises(TypeError, match="head must be a PairHead, got str"):
        PairSearch.open(tmp_path, head="head")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queries are 13 wide, the index 12"):
        PairSearch.open(tmp_path).search(drawn(2, 13))


# Bad input ------------------------------------------------------------------------------------------------------------

NAN, INFINITE = drawn(30), drawn(30)
NAN[7, 3], INFINITE[7, 3] = torch.nan, -torch.inf
DIVERGED = head()
with torch.no_grad():
    DIVERGED.first.weight[0, 0] = torch.nan


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"encoder_or_vectors": "texts"}, TypeError, "vectors must be a tensor or an array"),
        ({"encoder_or_vectors": drawn(30).long()}, TypeError, "vectors must be floating point"),
        ({"encoder_or_vectors": drawn(30)[0]}, ValueError, r"vectors must be \(rows, dim\)"),
        ({"encoder_or_vectors": drawn(0)}, ValueError, "needs one at least"),
        ({"encoder_or_vectors": drawn(3, 0)}, ValueError, "needs one at least"),
        ({"encoder_or_vectors": NAN}, ValueError, "row 7: vectors is NaN"),
        ({"encoder_or_vectors": INFINITE}, ValueError, "row 7: vectors is infinite"),
        ({"encoder_or_vectors": drawn(30).fill_(0), "cosine": True}, ValueError, "row 0: vectors is zero"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"texts": ["x"] * 29}, ValueError, "a list of 30 texts, one per vector, got 29"),
        ({"texts": "x" * 30}, ValueError, "texts must be a list"),
        ({"texts": [0] * 30}, TypeError, "vector 0: texts must hold texts"),
        ({"head": head(dim=13)}, ValueError, "head was made for dim=13, the vectors are 12 wide"),
        ({"head": torch.nn.Linear(12, 1)}, TypeError, "head must be a PairHead, got Linear"),
        ({"head": DIVERGED}, ValueError, "head.first.weight is NaN"),
        ({"head": head(), "cosine": True}, ValueError, "cosine: is for the dot product"),
        ({"head": head(), "output": 0}, ValueError, "the head has 1, got 0"),
        ({"head": head("classes")}, ValueError, "the head has 3, got None"),
        ({"head": head("classes"), "output": 3}, ValueError, "output must be below 3"),
        ({"head": head("classes"), "output": -1}, ValueError, "output must be at least 0"),
        ({"head": head("classes"), "output": 1.5}, TypeError, "output must be a whole number"),
        ({"output": 0}, ValueError, "there is none"),
    ],
)
def test_what_cannot_be_an_index(given: dict[str, Any], error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        PairSearch.build(**{"encoder_or_vectors": drawn(30), **given})


@pytest.mark.parametrize(
    ("queries", "k", "error", "said"),
    [
        (drawn(2), 0, ValueError, "k must be at least 1"),
        (drawn(2), 31, ValueError, "k must be at most 30"),
        (drawn(2), 1.0, TypeError, "k must be a whole number"),
        (drawn(2, 11), 3, ValueError, "queries are 11 wide, the index 12"),
        (drawn(2)[0], 3, ValueError, r"queries must be \(rows, dim\)"),
        (NAN, 3, ValueError, "query 7: queries is NaN"),
        (INFINITE, 3, ValueError, "query 7: queries is infinite"),
        (1e38 * drawn(2), 3, ValueError, "query 0: scores may overflow"),
        (drawn(2).long(), 3, TypeError, "queries must be floating point"),
        (None, 3, TypeError, "queries must be a tensor or an array"),
        ("a text", 3, TypeError, "got one text"),
        (["a text"], 3, ValueError, "knows no encoder"),
    ],
)
def test_what_cannot_be_looked_for(queries: Any, k: Any, error: type, said: str) -> None:
    for by in (None, head()):
        with pytest.raises(error, match=said):
            PairSearch.build(drawn(30), head=by).search(queries, k)


def test_no_queries_find_nothing() -> None:
    found = PairSearch.build(drawn(30)).search(drawn(0), 3)
    assert found.scores.shape == found.rows.shape == (0, 3)


def test_arrays_are_taken_as_they_are() -> None:
    np = pytest.importorskip("numpy")
    array = drawn(30).numpy()
    array.setflags(write=False)
    index = PairSearch.build(array)
    assert np.shares_memory(index.vectors.numpy(), array)
    assert torch.equal(index.search(array[:3], 4).rows, PairSearch.build(drawn(30)).search(drawn(30)[:3], 4).rows)


# Encoders -------------------------------------------------------------------------------------------------------------


@pytest.mark.host
def test_texts_are_encoded_once_and_queries_by_the_encoder_that_is_named(tmp_path: Path) -> None:
    """For a head before the encoder's own `Normalize`."""
    library = pytest.importorskip("sentence_transformers")
    from kilter.hosts.sentence_modules import without_normalize

    place = tiny_encoder(tmp_path)
    encoder = library.SentenceTransformer(str(place), device="cpu")
    done: list[float] = []
    for name, by in (("dot", None), ("head", head(dim=16))):
        folder = tmp_path / "deep" / name
        index = PairSearch.build(encoder, TEXTS, advance=done.append, head=by)
        vectors = (without_normalize(encoder) if by else encoder).encode(TEXTS, convert_to_tensor=True)
        torch.testing.assert_close(index.vectors, vectors)
        index.save(folder, encoder=place)
        assert json.loads((folder / "index.json").read_text())["encoder"] == "./../../encoder"
        (tmp_path / "moved" / "x").mkdir(parents=True, exist_ok=True)
        assert not (folder / "encoder").exists()
        opened = PairSearch.open(folder)
        found = opened.search(["the cat", "rain"], 2)
        again = PairSearch.build(vectors, encoder=encoder, head=by).search(["the cat", "rain"], 2)
        assert torch.equal(found.rows, again.rows)
        index.save(tmp_path / "whole" / name)
        (tmp_path / "whole" / name).rename(tmp_path / "moved" / name)
        assert torch.equal(PairSearch.open(tmp_path / "moved" / name).search(["the cat", "rain"], 2).rows, found.rows)
    assert sum(done) == 2 * len(TEXTS)
    with pytest.raises(ValueError, match="texts: an encoder needs one"):
        PairSearch.build(encoder)
    with pytest.raises(ValueError, match="encoder: is for the queries"):
        PairSearch.build(encoder, TEXTS, encoder=encoder)
