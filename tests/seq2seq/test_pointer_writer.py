"""Where each step points: as plainly written, for orders that repeat or stop early, for ragged sets, step by step."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.testing import assert_close

from kilter.seq2seq import PointerWriter
from tests.seq2seq.plain_sets import padded, ragged, written

KINDS: list[dict[str, Any]] = [
    {"glimpses": glimpses, "mask_visited": visited} for glimpses, visited in itertools.product((0, 1, 2), (False, True))
]


def made(dim: int = 4, **options: Any) -> PointerWriter:
    torch.manual_seed(0)
    writer = PointerWriter(dim, **options).double()
    with torch.no_grad():  # far from uniform
        for one in writer.parameters():
            one *= 3
    return writer


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("targets", [[2, 0, 1], [1], [0, 0, 2, 1, 0], []])
def test_as_plainly_written(options: dict[str, Any], targets: list[int]) -> None:
    writer, memory, state = made(**options), drawn(2, 3, 4), drawn(2, 8, seed=2)
    turned = [(one + 1) % 3 for one in targets]
    found = writer(memory, state, torch.tensor([targets, turned], dtype=torch.long))
    expected = [written(writer, memory[row], state[row], order) for row, order in enumerate((targets, turned))]
    assert found.shape == (2, len(targets), 3)
    assert_close(found, torch.tensor(expected, dtype=torch.float64).view(found.shape), rtol=0, atol=1e-12)


@given(items=st.integers(1, 6), steps=st.integers(1, 7), kind=st.sampled_from(KINDS), data=st.data())
def test_1_a_set_stored_otherwise_has_its_probabilities_stored_so(
    items: int, steps: int, kind: dict[str, Any], data: st.DataObject
) -> None:
    writer, memory, state = made(**kind), drawn(2, items, 4), drawn(2, 8, seed=2)
    numbers = st.lists(st.integers(0, items - 1), min_size=steps, max_size=steps)
    targets = torch.tensor(data.draw(st.lists(numbers, min_size=2, max_size=2)))
    order = torch.tensor(data.draw(st.permutations(range(items))))
    found = writer(memory[:, order], state, order.argsort()[targets])
    assert_close(found, writer(memory, state, targets)[..., order], rtol=0, atol=1e-6)
    assert_close(found.exp().sum(-1), torch.ones(2, steps, dtype=torch.float64))


@pytest.mark.parametrize("options", KINDS)
def test_1_what_is_masked_adds_nothing(options: dict[str, Any]) -> None:
    writer, (memory, mask) = made(**options), padded(*ragged(4))
    state = drawn(len(memory), 8, seed=2)
    sizes = mask.sum(1)
    targets = torch.arange(6).remainder(sizes[:, None])  # begins again where a small set ends
    found = writer(memory, state, targets, mask)
    for row, size in enumerate(sizes.tolist()):
        alone = writer(memory[row : row + 1, :size], state[row : row + 1], targets[row : row + 1])
        assert_close(found[row, :, :size], alone[0], rtol=0, atol=1e-12)
        assert (found[row, :, size:] == -torch.inf).all()
    loss = -found.gather(2, targets[..., None])[torch.arange(6) < sizes[:, None]].sum()
    loss.backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in writer.parameters())


@pytest.mark.parametrize("options", KINDS)
def test_decoding_is_the_likeliest_step_by_step(options: dict[str, Any]) -> None:
    writer, (memory, mask) = made(**options), padded(*ragged(4))
    state = drawn(len(memory), 8, seed=2)
    order = writer.decode(memory, state, mask)
    assert order.dtype == torch.long
    assert mask.gather(1, order).all()
    assert_close(order, writer(memory, state, order, mask).argmax(-1))
    if options["mask_visited"]:
        for row, size in zip(order.tolist(), mask.sum(1).tolist(), strict=True):
            assert sorted(row[:size]) == list(range(size))


def test_identical_items_are_equally_likely() -> None:
    found = made()(drawn(2, 1, 4).expand(2, 5, 4), drawn(2, 8), torch.zeros(2, 3).long())
    assert_close(found.exp(), torch.full_like(found, 0.2))


def test_a_visited_item_is_not_pointed_at_again_until_all_are() -> None:
    found = made(mask_visited=True)(drawn(1, 3, 4), drawn(1, 8), torch.tensor([[1, 1, 0, 2, 2]]))
    open_to = (found[0] > -torch.inf).tolist()
    assert open_to == [[True] * 3, [True, False, True], [True, False, True], [False, False, True], [True] * 3]


@pytest.mark.parametrize("options", [KINDS[0], KINDS[3]])
def test_gradients_by_differences(options: dict[str, Any]) -> None:
    writer, mask = made(2, **options), torch.tensor([[True, True, True], [True, False, True]])
    targets = torch.tensor([[1, 0], [2, 0]])
    names, values = zip(*writer.named_parameters(), strict=True)

    def call(memory: Tensor, state: Tensor, *given: Tensor) -> Tensor:
        arguments = (memory, state, targets, mask)
        found = torch.func.functional_call(writer, dict(zip(names, given, strict=True)), arguments)
        return found.gather(2, targets[..., None])

    leaves = [one.detach().requires_grad_() for one in (drawn(2, 3, 2), drawn(2, 4), *values)]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_low_precision_has_probabilities_in_float32() -> None:
    arguments = drawn(2, 30, 4).float(), drawn(2, 8).float(), torch.arange(3).expand(2, 3)
    writer = made().float()
    expected = writer(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(writer(*arguments), expected, rtol=0, atol=0)
        assert_close(writer.decode(*arguments[:2]), writer.decode(*arguments[:2]))
    low = writer.bfloat16()(arguments[0].bfloat16(), arguments[1].bfloat16(), arguments[2])
    assert low.dtype == torch.float32
    assert_close(low.exp().sum(-1), torch.ones(2, 3))
    assert_close(low, expected, rtol=0, atol=0.1)


def test_a_batch_of_none() -> None:
    assert made()(drawn(0, 3, 4), drawn(0, 8), torch.ones(0, 3).long()).shape == (0, 3, 3)
    assert made().decode(drawn(0, 3, 4), drawn(0, 8)).shape == (0, 3)
    assert "mask_visited=False" in repr(made())


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch asks it of what crosses a graph break
@pytest.mark.parametrize("options", [KINDS[2], KINDS[3]])
def test_compiled_it_says_the_same(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    writer, memory, state = made(**options), drawn(2, 3, 4), drawn(2, 8)
    targets = torch.tensor([[0, 1, 2], [2, 0, 1]])
    compiled = torch.compile(writer, backend="aot_eager")  # torch's LSTM breaks the graph
    assert_close(compiled(memory, state, targets), writer(memory, state, targets))


# Bad input ------------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"memory": torch.ones(2, 3, 4), "state": torch.ones(2, 8), "targets": torch.tensor([[0, 2]] * 2)}
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"memory": torch.ones(2, 3, 4).long()}, TypeError, "memory must be floating point"),
        ({"memory": torch.ones(2, 3, 3)}, ValueError, "memory has 3 channels and dim is 4"),
        ({"memory": torch.ones(2, 0, 4)}, ValueError, "leave empty sets out"),
        ({"memory": torch.full((2, 3, 4), torch.nan)}, ValueError, "row 0: memory is NaN"),
        ({"state": torch.ones(2, 8).long()}, TypeError, "state must be floating point"),
        ({"state": torch.ones(2, 4)}, ValueError, r"state must be shaped like .* \(2, 8\), got \(2, 4\)"),
        ({"state": torch.ones(1, 8)}, ValueError, r"state must be shaped like .* \(2, 8\), got \(1, 8\)"),
        ({"state": torch.full((2, 8), torch.nan)}, ValueError, "row 0: state is NaN"),
        ({"targets": torch.ones(2, 2)}, TypeError, "targets must hold numbers of items"),
        ({"targets": torch.ones(2).long()}, ValueError, r"targets must be \(batch, steps\)"),
        ({"targets": torch.ones(3, 2).long()}, ValueError, "targets has 3 rows, there are 2 sets"),
        (
            {"targets": torch.tensor([[0, 1], [3, 0]])},
            ValueError,
            "row 1: targets is 3, but the sets have items 0 to 2",
        ),
        ({"targets": torch.tensor([[0, -1], [2, 0]])}, ValueError, "row 0: targets is -1"),
        ({"mask": MASK}, ValueError, "row 1: targets points at item 2 in step 1, which mask leaves out"),
        ({"mask": MASK & False}, ValueError, "row 0: mask is False everywhere"),
        ({"mask": MASK.long()}, TypeError, "mask must be boolean"),
        ({"mask": MASK[:1]}, ValueError, "mask must be shaped like memory"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, Any], error: type[Exception], match: str, own_messages: None) -> None:
    with pytest.raises(error, match=match):
        PointerWriter(4)(**GOOD | wrong)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="glimpses must be at least 0"):
        PointerWriter(4, glimpses=-1)
    with pytest.raises(ValueError, match="dim must be at least 1"):
        PointerWriter(0)
