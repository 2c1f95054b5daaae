"""The two models: one does not care how its set is stored, the other does; both learn to sort."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.seq2seq import PointerNetwork, ReadProcessWrite
from tests.seq2seq.plain_sets import padded, ragged

ARGUMENTS = {"in_dim": lambda: 2}
MODELS = [ReadProcessWrite, PointerNetwork]
Model = ReadProcessWrite | PointerNetwork


def made(kind: type[Model], **options: Any) -> Model:
    torch.manual_seed(0)
    model = kind(2, 6, **options).double()
    with torch.no_grad():
        for one in model.parameters():
            one *= 2
    return model


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@given(
    items=st.integers(1, 7), steps=st.integers(0, 4), glimpses=st.integers(0, 1), visited=st.booleans(), data=st.data()
)
@settings(max_examples=30)
def test_1_stored_otherwise_it_writes_the_same(
    items: int, steps: int, glimpses: int, visited: bool, data: st.DataObject
) -> None:
    model = made(ReadProcessWrite, steps=steps, glimpses=glimpses, mask_visited=visited)
    given_items, targets = drawn(2, items, 2), torch.tensor(data.draw(st.permutations(range(items)))).expand(2, -1)
    order = torch.tensor(data.draw(st.permutations(range(items))))
    found, back = model(given_items[:, order], order.argsort()[targets]), model(given_items, targets)
    assert_close(found, back[..., order], rtol=0, atol=1e-6)
    assert_close(order[model.decode(given_items[:, order])], model.decode(given_items))


def test_6_the_pointer_network_cares_how_its_set_is_stored() -> None:
    model, items, targets = made(PointerNetwork), drawn(2, 5, 2), torch.arange(5).expand(2, 5)
    order = torch.tensor([4, 2, 0, 1, 3])
    found, back = model(items[:, order], order.argsort()[targets]), model(items, targets)[..., order]
    assert (found - back).abs().max() > 1e-3


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("visited", [False, True])
def test_1_what_is_masked_adds_nothing(kind: type[Model], visited: bool) -> None:
    model, (last, there) = made(kind, mask_visited=visited), padded(*ragged(2))
    between = torch.tensor([3, 0, 5, 1, 4, 2])
    for items, mask in ((last, there), (last[:, between], there[:, between])):
        written = model.decode(items, mask)
        assert mask.gather(1, written).all()
        found = model(items, written, mask)
        assert_close(found.argmax(-1), written)
        for row, real in enumerate(mask):
            size = int(real.sum())
            number = real.cumsum(0) - 1  # of an item among the real ones
            alone = model(items[row : row + 1, real], number[written[row]][None])
            assert_close(found[row][:, real], alone[0], rtol=0, atol=1e-12)
            assert_close(number[written[row, :size]], model.decode(items[row : row + 1, real])[0])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_an_encoder_and_a_writer(kind: type[Model], masked: bool) -> None:
    model, items, targets = made(kind), drawn(3, 4, 2), torch.tensor([[0, 0, 3]] * 3)
    mask = torch.ones(3, 4, dtype=torch.bool) if masked else None
    memory, state = model.encode(items, mask)
    assert_close(model(items, targets), model.write(memory, state, targets, mask), rtol=0, atol=1e-12)
    if isinstance(model, ReadProcessWrite):
        assert_close(memory, torch.stack([torch.stack([model.read(one) for one in row]) for row in items]))
        assert_close(state, model.process(memory))
    else:
        assert_close(memory[:, -1], state[:, :6])
        assert_close(torch.tanh(state[:, 6:]).abs() >= state[:, :6].abs(), torch.ones(3, 6, dtype=torch.bool))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.slow
def test_it_learns_to_sort(kind: type[Model]) -> None:
    torch.manual_seed(0)
    model, numbers = kind(1, 24), Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        items = torch.rand(32, 3, 1, generator=numbers)
        targets = items[..., 0].argsort(1)
        loss = F.nll_loss(model(items, targets).flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    items = torch.rand(300, 3, 1, generator=numbers)
    assert (model.decode(items) == items[..., 0].argsort(1)).all(1).float().mean() > 0.7  # by chance: 1/27


@pytest.mark.parametrize("kind", MODELS)
def test_under_autocast_and_in_low_precision(kind: type[Model]) -> None:
    model, (items, mask) = made(kind).float(), padded(*ragged(2))
    items, targets = items.float(), torch.zeros(len(mask), 3).long()
    expected = model(items, targets, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(items, targets, mask)
        assert model.decode(items, mask).shape == mask.shape
    assert found.dtype == torch.float32
    assert_close(found, expected, rtol=0, atol=0.1)
    low = model.bfloat16()(items.bfloat16(), targets, mask)
    assert low.dtype == torch.float32
    assert_close(low, expected, rtol=0, atol=0.3)


@pytest.mark.parametrize("kind", MODELS)
def test_on_every_device(kind: type[Model], device: str) -> None:
    model, (items, mask) = made(kind).float(), padded(*ragged(2))
    targets = torch.zeros(len(mask), 3).long()
    expected = model(items.float(), targets, mask)
    found = model.to(device)(items.float().to(device), targets.to(device), mask.to(device))
    assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
    assert mask.gather(1, model.decode(items.float().to(device), mask.to(device)).cpu()).all()


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_of_none(kind: type[Model]) -> None:
    none = torch.ones(0, 3, dtype=torch.bool)
    assert made(kind)(drawn(0, 3, 2), torch.ones(0, 2).long(), none).shape == (0, 2, 3)
    assert made(kind).decode(drawn(0, 3, 2)).shape == (0, 3)
    assert "in_dim=2" in repr(made(kind))
    assert kind(**made(kind).config()).config() == made(kind).config()


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch asks it of what crosses a graph break
@pytest.mark.parametrize("kind", MODELS)
def test_compiled_it_says_the_same(kind: type[Model]) -> None:
    torch.compiler.reset()
    model, items, targets = made(kind), drawn(2, 4, 2), torch.tensor([[0, 1, 2, 3], [3, 2, 0, 1]])
    compiled = torch.compile(model, backend="aot_eager")  # torch's LSTM breaks the graph
    assert_close(compiled(items, targets), model(items, targets))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"items": torch.ones(2, 3, 2).long()}, TypeError, "items must be floating point"),
        ({"items": torch.ones(2, 3)}, ValueError, r"items must be \(batch, items, channels\)"),
        ({"items": torch.ones(2, 3, 1)}, ValueError, "items has 1 channels and in_dim is 2"),
        ({"items": torch.ones(2, 0, 2)}, ValueError, "items is .* leave empty sets out"),
        ({"items": torch.full((2, 3, 2), torch.nan)}, ValueError, "row 0: items is NaN"),
        ({"targets": torch.tensor([[0], [3]])}, ValueError, "row 1: targets is 3"),
        ({"targets": torch.tensor([[0], [1]]) * 1.0}, TypeError, "targets must hold numbers"),
        ({"mask": torch.zeros(2, 3).bool()}, ValueError, "row 0: mask is False everywhere"),
        ({"mask": torch.ones(2, 2).bool()}, ValueError, "mask must be shaped like items"),
    ],
)
def test_bad_arguments_are_named(
    kind: type[Model], wrong: dict[str, Any], error: type[Exception], match: str, own_messages: None
) -> None:
    good = {"items": torch.ones(2, 3, 2), "targets": torch.tensor([[0], [1]])}
    with pytest.raises(error, match=match):
        kind(2, 4)(**good | wrong)
    if "targets" not in wrong:
        with pytest.raises(error, match=match):
            kind(2, 4).decode(**{name: one for name, one in (good | wrong).items() if name != "targets"})
