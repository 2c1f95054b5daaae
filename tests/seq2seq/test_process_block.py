"""A vector of a set: as the equations say, as torch_geometric has it, whatever the order; and what it cannot do."""

import json
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor, nn
from torch.testing import assert_close

from kilter.seq2seq import ProcessBlock
from tests.seq2seq.plain_sets import SIZES, cell_weights, padded, processed, ragged

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "set2set.json").read_text(encoding="utf-8"))["cases"]

ARGUMENTS = {"steps": lambda: 3}
KINDS: list[dict[str, Any]] = [
    {"form": form, "learned_start": learned} for form in ("pyg", "strict") for learned in (False, True)
]


def made(dim: int = 4, steps: int = 3, **options: Any) -> ProcessBlock:
    torch.manual_seed(0)
    block = ProcessBlock(dim, steps, **options).double()
    with torch.no_grad():  # the start too, so that it counts
        for one in block.parameters():
            one += 0.5 * torch.randn_like(one)
    return block


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def weights_of(block: ProcessBlock) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in block.named_parameters()}


# The equations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_as_plainly_written(options: dict[str, Any], steps: int) -> None:
    block, memory = made(steps=steps, **options), drawn(3, 5, 4)
    expected = torch.stack([processed(weights_of(block), items, steps) for items in memory])
    assert_close(block(memory), expected, rtol=0, atol=1e-12)


def test_weights_are_shaped_as_those_of_a_cell() -> None:
    shapes = {name: tuple(one.shape) for name, one in ProcessBlock(3, 1).named_parameters()}
    assert shapes == {name: tuple(one.shape) for name, one in nn.LSTMCell(6, 3).named_parameters()}
    strict = {name: tuple(one.shape) for name, one in ProcessBlock(3, 1, form="strict").named_parameters()}
    assert strict == {"weight_ih": (12, 6), "bias_ih": (12,)}
    learned = ProcessBlock(3, 1, learned_start=True)
    assert learned.start is not None
    assert not learned.start.any()


def test_without_a_step_it_sees_nothing() -> None:
    assert not made(steps=0)(drawn(2, 3, 4)).any()
    block = made(steps=0, learned_start=True)
    assert block.start is not None
    assert_close(block(drawn(2, 3, 4)), block.start.expand(2, -1))


def test_3_one_step_by_hand() -> None:
    block, memory = made(dim=2, steps=1), drawn(3, 4, 2)
    assert block.bias_hh is not None
    i, _, g, o = (block.bias_ih + block.bias_hh).tolist()[0:8:2], 0, 0, 0
    bias = (block.bias_ih + block.bias_hh).tolist()
    i, g, o = bias[0:2], bias[4:6], bias[6:8]
    query = [math.tanh(math.tanh(c) / (1 + math.exp(-a))) / (1 + math.exp(-b)) for a, b, c in zip(i, o, g, strict=True)]
    for row, items in zip(block(memory).tolist(), memory.tolist(), strict=True):
        size = [math.exp(sum(a * b for a, b in zip(item, query, strict=True))) for item in items]
        read = [sum(a * item[at] for a, item in zip(size, items, strict=True)) / sum(size) for at in (0, 1)]
        assert row == pytest.approx([*query, *read], abs=1e-12)


def test_3_with_a_start_of_zeros_the_first_query_is_that_of_every_set() -> None:
    found = made(steps=1)(drawn(6, 3, 4))[:, :4]
    assert_close(found, found[:1].expand_as(found), rtol=0, atol=0)
    assert not torch.allclose(made(steps=2)(drawn(6, 3, 4))[0, :4], made(steps=2)(drawn(6, 3, 4))[1, :4])


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("items", [1, 7])
def test_4_equal_items_are_read_as_one_of_them(options: dict[str, Any], items: int) -> None:
    one = drawn(3, 1, 4)
    assert_close(made(**options)(one.expand(3, items, 4))[:, 4:], one[:, 0], rtol=0, atol=1e-12)


# Sets -----------------------------------------------------------------------------------------------------------------


@given(items=st.integers(1, 9), steps=st.integers(0, 5), kind=st.sampled_from(KINDS), data=st.data())
def test_1_no_order_changes_it(items: int, steps: int, kind: dict[str, Any], data: st.DataObject) -> None:
    block, memory = made(steps=steps, **kind), 3 * drawn(2, items, 4, seed=items)
    order = data.draw(st.permutations(range(items)))
    assert_close(block(memory[:, order]), block(memory), rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", KINDS)
def test_1_what_is_masked_adds_nothing(options: dict[str, Any]) -> None:
    block, (memory, mask) = made(**options), padded(*ragged(4))
    assert memory.isnan().any()
    alone = torch.cat([block(row[real][None]) for row, real in zip(memory, mask, strict=True)])
    assert_close(block(memory, mask), alone, rtol=0, atol=1e-12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # masked items in between
    assert_close(block(memory[:, order], mask[:, order]), alone, rtol=0, atol=1e-12)


def test_padding_has_no_gradient() -> None:
    memory, mask = padded(*ragged(4))
    memory.requires_grad_()
    block = made()
    block(memory, mask).square().sum().backward()
    assert memory.grad is not None
    assert not memory.grad[~mask].any()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in block.parameters())


@given(copies=st.integers(2, 5), steps=st.integers(1, 5), kind=st.sampled_from(KINDS))
def test_5_it_cannot_count(copies: int, steps: int, kind: dict[str, Any]) -> None:
    block, memory = made(steps=steps, **kind), drawn(2, 3, 4)
    assert_close(block(memory.repeat(1, copies, 1)), block(memory), rtol=0, atol=1e-6)
    assert "cannot do is count" in (ProcessBlock.__doc__ or "")


# The two forms, and others' -------------------------------------------------------------------------------------------


@given(dim=st.integers(1, 6), steps=st.integers(0, 6), learned=st.booleans())
def test_2_one_form_is_folded_into_the_other(dim: int, steps: int, learned: bool) -> None:
    block, memory = made(dim, steps, learned_start=learned).eval(), drawn(3, 4, dim)
    folded = block.fold()
    assert (folded.form, folded.weight_hh, folded.bias_hh) == ("strict", None, None)
    assert (folded.dim, folded.steps, folded.learned_start, folded.training) == (dim, steps, learned, False)
    assert_close(folded(memory), block(memory), rtol=0, atol=1e-6)
    plainly = torch.stack([processed(weights_of(folded), items, steps) for items in memory])
    assert_close(plainly, torch.stack([processed(weights_of(block), items, steps) for items in memory]))
    with torch.no_grad():
        for one in folded.parameters():  # is a block of its own
            one.zero_()
    assert block.weight_ih.any()


@pytest.mark.parametrize("case", GOLDEN)
def test_2_as_torch_geometric_gave_it(case: dict[str, Any]) -> None:
    block = ProcessBlock(case["dim"], case["steps"]).double()
    block.load_state_dict(cell_weights(case["dim"]))
    expected = torch.tensor(case["vectors"], dtype=torch.float64)
    assert_close(block(*padded(*ragged(case["dim"]))), expected, rtol=0, atol=1e-8)
    assert_close(block.fold()(*padded(*ragged(case["dim"]))), expected, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def set2set() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports of torch
        return pytest.importorskip("torch_geometric.nn.aggr", reason="torch-geometric is not installed").Set2Set


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_2_values_and_gradients_are_its(set2set: Any, steps: int, dtype: torch.dtype) -> None:
    torch.manual_seed(steps)
    theirs, ours = set2set(8, steps).to(dtype), ProcessBlock(8, steps).to(dtype)
    ours.load_state_dict({name.removesuffix("_l0"): one for name, one in theirs.lstm.state_dict().items()})
    index = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    flat = torch.randn(len(index), 8, dtype=dtype, requires_grad=True)
    memory, mask = padded(flat, index)
    expected, found = theirs(flat, index, dim_size=len(SIZES)), ours(memory, mask)
    assert_close(found, expected, rtol=0, atol=1e-6)
    if not steps:
        return
    weight = torch.randn_like(found)
    one = torch.autograd.grad((expected * weight).sum(), [flat, *theirs.lstm.parameters()])
    two = torch.autograd.grad(
        (found * weight).sum(), [flat, *ours.parameters()], allow_unused=True, materialize_grads=True
    )
    for a, b in zip(two, one, strict=True):
        assert_close(a, b, rtol=1e-5, atol=2e-6)


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", KINDS)
def test_gradients_by_differences(options: dict[str, Any]) -> None:
    block, mask = made(dim=2, steps=2, **options), torch.tensor([[True, True, True], [True, False, True]])
    names, values = zip(*block.named_parameters(), strict=True)

    def call(memory: Tensor, *given: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, given, strict=True)), (memory, mask))

    leaves = [one.detach().requires_grad_() for one in (drawn(2, 3, 2), *values)]
    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    block, memory = made(steps=4).to(dtype), drawn(2, 50, 4).to(dtype)
    found = block(memory)
    assert found.dtype == dtype
    assert_close(found, block.float()(memory.float()).to(dtype), rtol=0, atol=0)


def test_autocast_changes_nothing() -> None:
    block, memory = made(steps=4).float(), drawn(2, 50, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(block(memory), block(memory.clone()), rtol=0, atol=0)
        found = block(memory)
    assert_close(found, block(memory), rtol=0, atol=0)


def test_far_items_do_not_overflow() -> None:
    assert made().float()(1e4 * drawn(2, 5, 4).float()).isfinite().all()


def test_a_batch_of_none_and_a_copy() -> None:
    block = made()
    assert block(drawn(0, 3, 4)).shape == (0, 8)
    assert block(drawn(0, 3, 4), torch.ones(0, 3, dtype=torch.bool)).shape == (0, 8)
    copy = pickle.loads(pickle.dumps(block))
    assert_close(copy(drawn(2, 3, 4)), block(drawn(2, 3, 4)), rtol=0, atol=0)
    assert "steps=3" in repr(block)


@pytest.mark.compile
@pytest.mark.parametrize("options", KINDS)
def test_compiled_it_says_the_same(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    block, (memory, mask) = made(**options), padded(*ragged(4))
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    assert_close(compiled(memory, mask), block(memory, mask))
    assert_close(compiled(memory.nan_to_num()), block(memory.nan_to_num()))


# Bad input ------------------------------------------------------------------------------------------------------------

FULL = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("memory", "mask", "error", "match"),
    [
        ("text", None, TypeError, "memory must be a tensor"),
        (torch.ones(2, 3, 4).long(), None, TypeError, "memory must be floating point"),
        (torch.ones(3, 4), None, ValueError, r"memory must be \(batch, items, channels\)"),
        (torch.ones(2, 3, 5), None, ValueError, "memory has 5 channels and dim is 4"),
        (torch.ones(2, 0, 4), None, ValueError, "memory is .* leave empty sets out"),
        (torch.ones(2, 3, 4), FULL.float(), TypeError, "mask must be boolean"),
        (torch.ones(2, 3, 4), FULL[:, :2], ValueError, "mask must be shaped like memory"),
        (torch.ones(2, 3, 4), FULL & torch.tensor([[True], [False]]), ValueError, "row 1: mask is False everywhere"),
        (torch.full((2, 3, 4), torch.nan), None, ValueError, "row 0: memory is NaN"),
        (torch.full((2, 3, 4), torch.inf), FULL, ValueError, "row 0: memory is infinite"),
    ],
)
def test_bad_sets_are_named(memory: Any, mask: Any, error: type[Exception], match: str, own_messages: None) -> None:
    with pytest.raises(error, match=match):
        ProcessBlock(4, 2)(memory, mask)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"dim": 0, "steps": 1}, ValueError, "dim must be at least 1"),
        ({"dim": 4, "steps": -1}, ValueError, "steps must be at least 0"),
        ({"dim": 4, "steps": 1.5}, TypeError, "steps must be a whole number"),
        (
            {"dim": 4, "steps": 1, "form": "strikt"},
            ValueError,
            "form must be one of pyg, strict.*did you mean 'strict'",
        ),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], error: type[Exception], match: str, own_messages: None) -> None:
    with pytest.raises(error, match=match):
        ProcessBlock(**options)
