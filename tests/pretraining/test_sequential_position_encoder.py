"""The encoder that reads digits: as plainly written, each prefix once, kept until a parameter changes."""

import copy
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.testing import assert_close

from kilter.pretraining import SequentialPositionEncoder, position_digits
from kilter.pretraining.position_digits import digits_needed
from kilter.pretraining.prefix_trie import tokens_of
from tests.pretraining.plain_encoder import digits_by_text, plain, states
from tests.pretraining.published import CASES, position_of, published_weights

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "seqpe.json").read_text(encoding="utf-8"))

ARGUMENTS = {
    "positions ...": lambda: torch.tensor([0, 3, 9, 3]),
    "num_digits": lambda: 1,
    "max_position": lambda: 40,
}
KINDS: list[dict[str, Any]] = [
    {"axes": axes, "direction": direction, "layers": layers}
    for axes, direction, layers in itertools.product((1, 2), ("causal", "bi"), (1, 2, 3))
]


def made(max_position: int = 1000, **options: Any) -> SequentialPositionEncoder:
    torch.manual_seed(0)
    encoder = SequentialPositionEncoder(max_position, **{"width": 16, "heads": 2, "out_dim": 6, **options})
    with torch.no_grad():  # biases and norms too, so that each counts
        for one in encoder.parameters():
            one += 0.3 * torch.randn_like(one)
    return encoder


def drawn(axes: int, count: int = 60, high: int = 1000) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Positions, some of them several times, and the same as tuples."""
    found = torch.randint(high, (count, axes), generator=torch.Generator().manual_seed(1))
    found[count // 2 :: 3] = found[0]
    return found if axes > 1 else found[:, 0], [tuple(one) for one in found.tolist()]


# 1: digits ------------------------------------------------------------------------------------------------------------


def test_1_digits_of_a_position() -> None:
    assert position_digits(torch.tensor(123), 5).tolist() == [0, 0, 1, 2, 3]
    assert [digits_needed(size) for size in (20_000, 10_000, 100, 101, 1)] == [5, 4, 2, 3, 1]
    assert [SequentialPositionEncoder(size, width=4).num_digits for size in (20_000, 10_000, 100)] == [5, 4, 2]
    with pytest.raises(
        ValueError, match=r"positions\[1\] is 100, .* 2 digits .*largest is 99: give a larger num_digits$"
    ):
        position_digits(torch.tensor([99, 100]), 2)


def test_rows_stand_before_columns() -> None:
    assert position_digits(torch.tensor([[7, 12], [30, 4]]), 2, axes=2).tolist() == [[0, 7, 1, 2], [3, 0, 0, 4]]


@given(st.integers(2, 17), st.integers(1, 4), st.integers(1, 3), st.data())
def test_digits_say_which_position(base: int, digits: int, axes: int, data: st.DataObject) -> None:
    numbers = st.lists(st.integers(0, base**digits - 1), min_size=axes, max_size=axes)
    positions = torch.tensor(data.draw(st.lists(numbers, min_size=1, max_size=5)))
    found = position_digits(positions if axes > 1 else positions[:, 0], digits, base=base, axes=axes)
    assert found.dtype == torch.long
    assert found.min() >= 0
    assert found.max() < base
    powers = torch.tensor([base**place for place in reversed(range(digits))])
    assert_close((found.unflatten(-1, (axes, digits)) * powers).sum(-1), positions)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32])
def test_small_integers_hold_no_position_that_is_too_large(dtype: torch.dtype) -> None:
    assert position_digits(torch.tensor([100], dtype=dtype), 3).tolist() == [[1, 0, 0]]


# 2 and 3: the encoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", KINDS)
def test_3_as_plainly_written(options: dict[str, Any]) -> None:
    encoder = made(**options)
    positions, tuples = drawn(options["axes"])
    found = encoder(positions)
    assert found.shape == (60, 6)
    assert_close(found, plain(encoder, tuples), rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", GOLDEN["encoder"])
def test_3_as_the_authors_code(case: dict[str, Any]) -> None:
    options = {name: case[name] for name in CASES[0]}
    encoder = SequentialPositionEncoder(**options, width=16, heads=2, out_dim=6)
    encoder.load_state_dict(published_weights(encoder))
    positions = torch.tensor([position_of(number, case["max_position"], case["axes"]) for number in range(40)])
    assert_close(encoder(positions), torch.tensor(case["vectors"]), rtol=0, atol=2e-6)


def test_3_positions_0_to_1999() -> None:
    torch.manual_seed(0)
    encoder = SequentialPositionEncoder(20_000, width=64, heads=4).eval()
    with torch.no_grad():
        found = encoder.table(2000)
        assert (found - plain(encoder, [(one,) for one in range(2000)])).abs().max() <= 2e-6


@pytest.mark.parametrize("options", KINDS)
def test_gradients_of_prefixes_that_are_shared(options: dict[str, Any]) -> None:
    encoder = made(**options).double()
    positions, tuples = drawn(options["axes"])
    weight = torch.randn(60, 6, dtype=torch.float64)
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    ours = torch.autograd.grad((encoder(positions) * weight).sum(), parameters)
    theirs = torch.autograd.grad((plain(encoder, tuples) * weight).sum(), parameters)
    for name, one, other in zip(names, ours, theirs, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-9, msg=name)


def test_gradients_by_differences() -> None:
    encoder = made(100, width=4, layers=2, out_dim=2).double()
    positions = torch.tensor([3, 13, 17, 3])
    names, values = zip(*encoder.named_parameters(), strict=True)

    def call(*given: Tensor) -> Tensor:
        return torch.func.functional_call(encoder, dict(zip(names, given, strict=True)), positions)

    assert torch.autograd.gradcheck(call, tuple(one.detach().requires_grad_() for one in values), fast_mode=True)


@pytest.mark.parametrize("direction", ["causal", "bi"])
def test_2_what_a_later_digit_changes(direction: Any) -> None:
    encoder = made(direction=direction)
    before, _ = states(encoder, [digits_by_text((123,), 3)])
    after, _ = states(encoder, [digits_by_text((129,), 3)])
    same = [bool((before[:, slot] == after[:, slot]).all()) for slot in range(4)]
    assert same == ([True, True, False, False] if direction == "causal" else [False] * 4)
    assert (encoder(torch.tensor(123)) - encoder(torch.tensor(129))).abs().max() > 1e-3


def test_equal_prefixes_are_one_token() -> None:
    digits = position_digits(torch.arange(2000), 5)
    tokens = tokens_of(digits, causal=True)
    assert len(tokens.seen) == 1 + 2 + 20 + 200 + 2000 + 2000
    assert len(tokens_of(digits, causal=False).seen) == 6 * 2000
    assert len(tokens.slot) == len({(slot, int(d)) for slot in range(5) for d in digits[:, slot]}) + 1
    row = 1234
    summary = len(tokens.seen) - 2000 + row
    path = tokens.symbol[tokens.seen[summary]]
    assert tokens.digit[path].tolist() == [0, 1, 2, 3, 4, 0]
    assert tokens.slot[path].tolist() == [0, 1, 2, 3, 4, 5]


def test_equal_positions_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = made(), []
    inner = encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda flat: seen.append(len(flat)) or inner(flat))
    found = encoder(torch.tensor([[5, 3, 5], [3, 3, 999]]))
    assert seen == [3]
    assert found.shape == (2, 3, 6)
    assert_close(found[0, 0], found[0, 2], rtol=0, atol=0)
    assert_close(found[1, 2], encoder(torch.tensor(999)))


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("axes", [1, 2])
def test_any_shape(shape: tuple[int, ...], axes: int) -> None:
    encoder = made(axes=axes)
    assert encoder(torch.zeros((*shape, *[axes] * (axes > 1)), dtype=torch.long)).shape == (*shape, 6)


def test_positions_beyond_the_range_but_not_beyond_the_digits() -> None:
    encoder = made(20_000)
    assert encoder.largest == 99_999
    assert encoder(torch.tensor([99_999])).isfinite().all()


def test_another_base() -> None:
    encoder = made(64, base=2)
    assert encoder.num_digits == 6
    digits = [[int(letter) for letter in f"{one:06b}"] for one in range(64)]
    assert_close(encoder(torch.arange(64)), states(encoder, digits)[1], rtol=0, atol=2e-6)


def test_how_it_begins() -> None:
    for width in (48, 768):
        torch.manual_seed(0)
        encoder = SequentialPositionEncoder(1000, width=width, layers=1)
        spread = 0.02 * (768 / width) ** 0.5
        for name, one in encoder.named_parameters():
            if one.ndim == 2:
                assert 0.7 * spread < one.std() < 1.3 * spread, name
            else:
                assert name == "summary" or (one == float("norm" in name and "weight" in name)).all(), name
    assert sum(one.numel() for one in SequentialPositionEncoder(20_000).parameters()) == pytest.approx(
        14.8e6, rel=0.005
    )


# The table ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions were encoded, call by call."""
    found: list[int] = []
    inner = SequentialPositionEncoder._encode
    monkeypatch.setattr(
        SequentialPositionEncoder, "_encode", lambda self, flat: found.append(len(flat)) or inner(self, flat)
    )
    return found


def test_a_table_is_kept_and_grows(calls: list[int]) -> None:
    encoder = made().eval()
    expected = encoder(torch.arange(200)).detach()
    calls.clear()
    with torch.no_grad():
        for size in (100, 50, 100, 101, 140, 151, 200):
            assert_close(encoder.table(size), expected[:size], rtol=0, atol=2e-6)
        assert encoder.table(1).data_ptr() == encoder.table(9).data_ptr()
    assert calls == [100, 50, 75]


def test_a_table_of_many_is_made_in_parts(calls: list[int]) -> None:
    encoder = made(10_000).eval()
    with torch.no_grad():
        found = encoder.table(5000)
    assert calls == [4096, 904]
    assert_close(found[[0, 4095, 4096, 4999]], encoder(torch.tensor([0, 4095, 4096, 4999])), rtol=0, atol=2e-6)


def test_a_table_of_a_grid(calls: list[int]) -> None:
    encoder = made(axes=2).eval()
    with torch.no_grad():
        found = encoder.table((3, 4))
        assert found.shape == (3, 4, 6)
        assert_close(encoder.table(5)[:3, :4], found)
        assert encoder.table((2, 5)).shape == (2, 5, 6)
    assert calls == [12, 25]
    assert_close(found[2, 1], encoder(torch.tensor([2, 1])))


def test_with_gradients_or_in_training_nothing_is_kept(calls: list[int]) -> None:
    encoder = made()
    assert encoder.table(5).requires_grad
    with torch.no_grad():
        encoder.table(5)
    encoder.eval()
    assert encoder.table(5).requires_grad
    assert calls == [5, 5, 5]
    assert encoder._kept is None


def changed_in_place(encoder: SequentialPositionEncoder) -> None:
    with torch.no_grad():
        encoder.place.weight *= 2


def changed_by_loading(encoder: SequentialPositionEncoder) -> None:
    encoder.load_state_dict({name: 2 * one for name, one in encoder.state_dict().items()})


def changed_by_an_optimiser(encoder: SequentialPositionEncoder) -> None:
    with torch.enable_grad():
        encoder.table(3).square().sum().backward()
    torch.optim.AdamW(encoder.parameters(), lr=0.1).step()


def changed_for_another(encoder: SequentialPositionEncoder) -> None:
    encoder.summary = nn.Parameter(2 * encoder.summary)


def changed_data(encoder: SequentialPositionEncoder) -> None:
    encoder.summary.data = 2 * encoder.summary.data


def changed_data_in_training(encoder: SequentialPositionEncoder) -> None:
    encoder.train()
    encoder.summary.data.mul_(2)
    encoder.eval()


def changed_by_a_fused_optimiser(encoder: SequentialPositionEncoder) -> None:
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1, fused=True)
    with torch.enable_grad():
        encoder(torch.arange(3)).square().sum().backward()
    optimiser.step()


CHANGES = (
    changed_in_place,
    changed_by_loading,
    changed_by_an_optimiser,
    changed_by_a_fused_optimiser,
    changed_for_another,
    changed_data,
    changed_data_in_training,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_parameter_drops_the_table(change: Any) -> None:
    encoder = made().eval()
    with torch.no_grad():
        before = encoder.table(5).clone()
        change(encoder)
        assert not torch.allclose(encoder.table(5), before)
        assert_close(encoder.table(5), encoder(torch.arange(5)))


def test_a_table_carries_derivatives_forward() -> None:
    encoder = made().eval()

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self) -> Tensor:
            return self.encoder.table(5)

    bias = encoder.out.bias.detach()
    with torch.no_grad(), forward_ad.dual_level():
        encoder.table(5)
        dual = forward_ad.make_dual(bias, torch.ones_like(bias))
        found = torch.func.functional_call(Reads(), {"encoder.out.bias": dual}, ())
        assert_close(forward_ad.unpack_dual(found).tangent, torch.ones(5, encoder.out_dim))


def test_a_move_drops_the_table() -> None:
    encoder = made().eval()
    with torch.no_grad():
        encoder.table(5)
        assert encoder.to(torch.float64).table(5).dtype == torch.float64


def test_a_copy_has_a_table_of_its_own() -> None:
    encoder = made().eval()
    with torch.no_grad():
        encoder.table(5)
        for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
            assert other._kept is None
            other.summary *= 2
            assert not torch.allclose(other.table(5), encoder.table(5))


def test_in_inference_mode_what_is_kept_serves_elsewhere() -> None:
    encoder = made().eval()
    with torch.inference_mode():
        encoder.table(5)
    with torch.no_grad():
        assert not encoder.table(4).is_inference()


def test_autocast_has_a_table_of_its_own() -> None:
    encoder = made().eval()
    with torch.no_grad():
        full = encoder.table(5)
        with torch.autocast("cpu", torch.bfloat16):
            low = encoder.table(5)
        assert (full.dtype, low.dtype, encoder.table(5).dtype) == (torch.float32, torch.bfloat16, torch.float32)
        assert_close(low.float(), full, rtol=0.1, atol=0.1)


def test_bfloat16() -> None:
    encoder = made()
    expected = encoder(torch.arange(50)).detach()
    found = encoder.bfloat16()(torch.arange(50))
    assert found.dtype == torch.bfloat16
    assert_close(found.detach().float(), expected, rtol=0.1, atol=0.15)
    found.sum().backward()


# In other people's machines -------------------------------------------------------------------------------------------


def test_config_and_state_rebuild_it() -> None:
    encoder = made(axes=2, direction="bi", base=7)
    other = SequentialPositionEncoder(**encoder.config())
    other.load_state_dict(encoder.state_dict())
    positions, _ = drawn(2, high=49)
    assert_close(other(positions), encoder(positions))
    assert "base=7" in repr(encoder)


def test_every_parameter_has_a_gradient() -> None:
    """Of one position, and of positions that differ: what several processes need, which wait for all gradients."""
    for axes in (1, 2):
        encoder = made(axes=axes)
        encoder(torch.zeros([axes] * (axes > 1), dtype=torch.long)).sum().backward()
        assert all(one.grad is not None for one in encoder.parameters())


@pytest.mark.compile
@pytest.mark.parametrize("options", [{"axes": 1}, {"axes": 2, "direction": "bi"}])
def test_compiled_it_is_one_graph(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    encoder = made(**options)
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    positions, _ = drawn(options["axes"])
    assert_close(compiled(positions), encoder(positions), rtol=0, atol=2e-6)
    ours = torch.autograd.grad(compiled(positions).square().sum(), encoder.place.weight)[0]
    theirs = torch.autograd.grad(encoder(positions).square().sum(), encoder.place.weight)[0]
    assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.compile
def test_a_compiled_model_reads_the_table_that_is_kept() -> None:
    torch.compiler.reset()
    encoder = made().eval()
    double = torch.compile(lambda n: 2 * encoder.table(n), backend="aot_eager")
    with torch.no_grad():
        assert_close(double(5), 2 * encoder.table(5), rtol=0, atol=0)
        encoder.summary *= 2
        assert_close(double(5), 2 * encoder(torch.arange(5)))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "error", "message"),
    [
        (torch.tensor([0.5]), TypeError, "positions must be whole numbers, got torch.float32"),
        (torch.tensor([True]), TypeError, "positions must be whole numbers"),
        (torch.tensor([[0, 1], [2, -3]]), ValueError, r"positions\[1, 1\] is -3, but positions count from 0"),
        (torch.tensor(-1), ValueError, r"positions\[0\] is -1"),
        (torch.tensor([3, 1000]), ValueError, r"more than 3 digits.*largest is 999: give a larger max_position$"),
    ],
)
def test_bad_positions_are_named(positions: Tensor, error: type[Exception], message: str, own_messages: None) -> None:
    with pytest.raises(error, match=message):
        made()(positions)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (torch.tensor([[0, 1], [2, 1000]]), r"positions\[1, 1\] is 1000 on axis 1, .*largest is 999"),
        (torch.tensor([-1, 0]), r"positions\[0\] is -1 on axis 0"),
        (torch.tensor([1, 2, 3]), r"positions must be \(…, 2\)"),
        (torch.tensor(1), r"positions must be \(…, 2\)"),
    ],
)
def test_bad_positions_of_a_grid_are_named(positions: Tensor, message: str, own_messages: None) -> None:
    with pytest.raises(ValueError, match=message):
        made(axes=2)(positions)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_position": 0}, ValueError, "max_position"),
        ({"max_position": 2.0}, TypeError, "max_position"),
        ({"axes": 0}, ValueError, "axes"),
        ({"width": 10, "heads": 3}, ValueError, "width must be a multiple of heads, got width=10 and heads=3"),
        ({"width": 200}, ValueError, "give heads"),
        ({"heads": 0}, ValueError, "heads"),
        ({"layers": 0}, ValueError, "layers"),
        ({"base": 1}, ValueError, "base"),
        ({"out_dim": 0}, ValueError, "out_dim"),
        ({"direction": "causl"}, ValueError, "did you mean 'causal'"),
        ({"max_position": 10**20}, ValueError, "64 bits"),
    ],
)
def test_bad_options_are_named(
    options: dict[str, Any], error: type[Exception], message: str, own_messages: None
) -> None:
    with pytest.raises(error, match=message):
        SequentialPositionEncoder(**{"max_position": 100, "width": 8, **options})


@pytest.mark.parametrize("n", [0, -1, 1001, 1.5, (1, 2)])
def test_a_bad_table_is_named(n: Any, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\bn\b"):
        made().table(n)
