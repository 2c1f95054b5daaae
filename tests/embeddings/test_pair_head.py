"""The pair head against the paper in plain loops, one pair at a time; and what is saved of it."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from kilter.embeddings import PairHead

KINDS = list(itertools.product(("concat", "dot"), (False, True)))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def head_of(dim: int = 6, outputs: int = 2, **options: Any) -> PairHead:
    torch.manual_seed(0)
    return PairHead(dim, outputs, **{"hidden": 10, **options}).double()


def plain(head: PairHead, u: Tensor, v: Tensor) -> Tensor:
    """Scores of one pair, number by number."""

    def one_order(u: Tensor, v: Tensor) -> list[float]:
        product = [float(a * b) for a, b in zip(u, v, strict=True)]
        features = [sum(product)]
        if head.features == "concat":
            features = [*u.tolist(), *v.tolist(), *product, *[abs(float(a - b)) for a, b in zip(u, v, strict=True)]]
        hidden = []
        for weights, bias in zip(head.first.weight.tolist(), head.first.bias.tolist(), strict=True):
            hidden.append(max(0.0, bias + sum(w * f for w, f in zip(weights, features, strict=True))))
        return [
            bias + sum(w * h for w, h in zip(weights, hidden, strict=True))
            for weights, bias in zip(head.last.weight.tolist(), head.last.bias.tolist(), strict=True)
        ]

    found = torch.tensor(one_order(u, v), dtype=torch.float64)
    return (found + torch.tensor(one_order(v, u), dtype=torch.float64)) / 2 if head.symmetric else found


# 5 and 9: features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
def test_9_by_plain_loops(features: Any, symmetric: bool) -> None:
    head = head_of(features=features, symmetric=symmetric)
    u, v = drawn(7, 6), drawn(7, 6, seed=1)
    assert_close(head(u, v), torch.stack([plain(head, a, b) for a, b in zip(u, v, strict=True)]))


def test_5_four_blocks_and_what_swapping_does() -> None:
    """Each block is read off by a layer that looks at nothing else."""

    def block(number: int, u: Tensor, v: Tensor) -> Tensor:
        head = PairHead(3, 6, hidden=6).double()
        eye = torch.eye(3, dtype=torch.float64)
        with torch.no_grad():
            for one in head.parameters():
                one.zero_()
            head.first.weight[:3, 3 * number : 3 * number + 3] = eye
            head.first.weight[3:, 3 * number : 3 * number + 3] = -eye
            head.last.weight.copy_(torch.eye(6))
        found = head(u, v)
        return found[:, :3] - found[:, 3:]  # relu(x) - relu(-x)

    assert PairHead(3).first.in_features == 4 * 3
    u, v = drawn(5, 3), drawn(5, 3, seed=1)
    for number, expected in enumerate([u, v, u * v, (u - v).abs()]):
        assert_close(block(number, u, v), expected)
    assert_close(block(2, u, u), u.square())
    assert not block(3, u, u).any()
    assert_close(block(0, v, u), block(1, u, v))
    for number in (2, 3):
        assert torch.equal(block(number, u, v), block(number, v, u))


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_5_symmetric_to_the_last_bit(features: Any, symmetric: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = PairHead(40, 3, hidden=64, features=features, symmetric=symmetric)
    u, v = drawn(33, 40).to(dtype), drawn(33, 40, seed=1).to(dtype)
    same = torch.equal(head(u, v), head(v, u))
    assert same == (symmetric or features == "dot")


def test_dot_sees_the_product_alone() -> None:
    head = head_of(features="dot")
    assert head.first.in_features == 1
    u, v = drawn(5, 6), drawn(5, 6, seed=1)
    turn = torch.linalg.qr(drawn(6, 6, seed=2)).Q
    assert_close(head(u @ turn, v @ turn), head(u, v))
    assert not torch.allclose(head_of()(u @ turn, v @ turn), head_of()(u, v))


# 6: every query with every candidate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
@pytest.mark.parametrize(("queries", "candidates"), [(1, 1), (3, 9), (9, 3), (8, 8), (0, 3), (3, 0), (0, 0)])
def test_6_the_matrix_is_forward_of_all_pairs(
    features: Any, symmetric: bool, queries: int, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and in pieces of every size."""
    head = head_of(features=features, symmetric=symmetric)
    u, v = drawn(queries, 6), drawn(candidates, 6, seed=1)
    expected = head(u.repeat_interleave(candidates, 0), v.repeat(queries, 1)).view(queries, candidates, 2)
    assert_close(head.score_matrix(u, v), expected)
    assert_close(head.score_matrix(u, head.prepare(v)), expected)
    for room in (1, 60, 150, 400):
        monkeypatch.setattr("kilter.embeddings.pair_head._AT_ONCE", {"cpu": room})
        assert_close(head.score_matrix(u, v), expected)


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
def test_6_in_single_precision_to_a_millionth(features: Any, symmetric: bool) -> None:
    torch.manual_seed(0)
    head = PairHead(384, features=features, symmetric=symmetric)
    u, v = (drawn(n, 384, seed=n, dtype=torch.float32) / 384**0.5 for n in (4, 700))
    expected = head.double()(u.double().repeat_interleave(700, 0), v.double().repeat(4, 1)).view(4, 700, 1)
    assert_close(head.float().score_matrix(u, v), expected.float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
def test_the_matrix_has_forwards_gradient(features: Any, symmetric: bool) -> None:
    head = head_of(features=features, symmetric=symmetric)
    u, v = drawn(3, 6).requires_grad_(), drawn(5, 6, seed=1).requires_grad_()
    given = (u, v, *head.parameters())
    weights = drawn(3, 5, 2, seed=2)
    found = torch.autograd.grad((head.score_matrix(u, v) * weights).sum(), given)
    pairs = head(u.repeat_interleave(5, 0), v.repeat(3, 1)).view(3, 5, 2)
    assert_close(found, torch.autograd.grad((pairs * weights).sum(), given))


@pytest.mark.parametrize(("queries", "candidates"), [(2, 6000), (6000, 2)])
def test_the_matrix_takes_little_memory(queries: int, candidates: int) -> None:
    head = PairHead(64, hidden=64)
    u, v = drawn(queries, 64, dtype=torch.float32), drawn(candidates, 64, dtype=torch.float32)

    def peak(call: Any) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found, torch.no_grad():
            call()
        held = most = 0
        events = found.profiler.kineto_results.events()  # type: ignore[union-attr]
        for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        return most

    naive = peak(lambda: head(u.repeat_interleave(candidates, 0), v.repeat(queries, 1)))
    assert peak(lambda: head.score_matrix(u, v)) < naive / 2


# Precision -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    head = PairHead(16)
    u, v = drawn(5, 16, seed=1).to(dtype), drawn(7, 16, seed=2).to(dtype)
    for found, expected in (
        (head(u, v[:5]), head(u.float(), v[:5].float())),
        (head.score_matrix(u, v), head.score_matrix(u.float(), v.float())),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(u, v[:5]), head(u.float(), v[:5].float()))
        assert head.score_matrix(u, v).dtype == torch.float32


# 8: files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("features", "symmetric"), KINDS)
def test_8_scores_are_the_same_after_a_round_trip(features: Any, symmetric: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = PairHead(6, 3, hidden=5, features=features, symmetric=symmetric)
    head.save_pretrained(tmp_path / "head")
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == ["config.json", "head.safetensors"]
    found = PairHead.from_pretrained(tmp_path / "head")
    u, v = drawn(4, 6, dtype=torch.float32), drawn(4, 6, seed=1, dtype=torch.float32)
    assert torch.equal(found(u, v), head(u, v))
    assert found.config() == head.config()
    assert found.checksum == head.checksum
    assert all(one.requires_grad and not one.is_meta for one in found.parameters())


def test_8_precision_is_kept(tmp_path: Path) -> None:
    head_of().save_pretrained(tmp_path)
    assert PairHead.from_pretrained(tmp_path).first.weight.dtype == torch.float64


def test_the_checksum_tells_heads_apart() -> None:
    head = head_of()
    before = head.checksum
    assert head_of().checksum == before
    assert head_of(symmetric=True).checksum != before
    with torch.no_grad():
        head.last.bias[0] += 1e-9
    assert head.checksum != before


def test_8_a_head_does_not_lie_among_an_encoders_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"config\.json is of something else; give the head a folder of its own"):
        head_of().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "bert"}


@pytest.mark.parametrize("spoil", ["short", "empty", "weights", "config", "kind", "json", "option", "list"])
def test_8_what_is_not_whole_is_refused(spoil: str, tmp_path: Path) -> None:
    head_of().save_pretrained(tmp_path)
    weights, config = tmp_path / "head.safetensors", tmp_path / "config.json"
    data, about = weights.read_bytes(), json.loads(config.read_text())
    if spoil == "weights":
        torch.manual_seed(1)
        other = PairHead(6, 2, hidden=10).double()
        other.save_pretrained(tmp_path / "other")
        weights.write_bytes((tmp_path / "other" / "head.safetensors").read_bytes())
    else:
        weights.write_bytes({"short": data[:-40], "empty": b""}.get(spoil, data))
        changed: dict[str, Any] = {
            "config": {**about, "hidden": 11},
            "kind": {**about, "kind": "bert"},
            "option": {**about, "depth": 3},
            "list": [1],
        }
        config.write_text("{" if spoil == "json" else json.dumps(changed.get(spoil, about)))
    with pytest.raises(ValueError, match="holds no pair head that is whole"):
        PairHead.from_pretrained(tmp_path)


def test_8_no_head_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PairHead.from_pretrained(tmp_path)


# Bad input -----------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "width": (lambda x: x[:, :5], "is 5 wide, this head was made for dim=6"),
    "integers": (lambda x: x.long(), "must be floating point"),
    "one vector": (lambda x: x[0], r"must be \(rows, dim\)"),
    "NaN": (lambda x: x.index_fill(0, torch.tensor([2]), float("nan")), "row 2: .* is NaN"),
    "infinity": (lambda x: x.index_fill(0, torch.tensor([1]), float("inf")), "row 1: .* is infinite"),
    "no tensor": (lambda x: x.tolist(), "must be a tensor"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("features", ["concat", "dot"])
def test_bad_vectors_are_named(wrong: str, features: Any, own_messages: None) -> None:
    spoil, message = WRONG[wrong]
    head, x = head_of(features=features), drawn(4, 6)
    for call, first, second in ((head.forward, "u", "v"), (head.score_matrix, "U", "V")):
        with pytest.raises((TypeError, ValueError), match=message) as said:
            call(spoil(x), x)
        assert f"{first} " in str(said.value)
        with pytest.raises((TypeError, ValueError), match=message) as said:
            call(x, spoil(x))
        assert f"{second} " in str(said.value)
    with pytest.raises((TypeError, ValueError), match=message):
        head.prepare(spoil(x))


@pytest.mark.parametrize("features", ["concat", "dot"])
def test_a_score_that_overflows_is_named(features: Any, own_messages: None) -> None:
    head, x = head_of(features=features).float(), torch.full((2, 6), 1e20)
    for call in (head.forward, head.score_matrix):
        with pytest.raises(ValueError, match=r"score is .*; vectors or weights are so large that it overflows"):
            call(x, x)


def test_a_vector_without_another(own_messages: None) -> None:
    with pytest.raises(ValueError, match="v must be shaped like u"):
        head_of()(drawn(4, 6), drawn(3, 6))
