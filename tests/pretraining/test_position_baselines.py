"""Rival positions by plain loops, and in models: none, waves, a learnt table, a slope."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from kilter.core.positions import HostSizes
from kilter.pretraining import Alibi, LearntPositions, NoPositions, SinusoidalPositions, attach, detach
from kilter.pretraining.position_baselines import slopes_of
from tests.hosts.positioned import model_of

pytestmark = pytest.mark.host
pytest.importorskip("transformers")

IDS = torch.tensor([[3, 9, 4, 4, 17, 30, 8, 5], [7, 7, 21, 3, 44, 9, 2, 1]])
TERMS: dict[str, Any] = {
    "none": NoPositions,
    "waves": lambda: SinusoidalPositions(scale=0.3),
    "learnt": lambda: LearntPositions(16),
    "alibi": Alibi,
}


def fitted(term: Any, **sizes: Any) -> Any:
    torch.manual_seed(0)
    given = {"width": 8, "heads": 2, "key_heads": 2, "head_dim": 4, "layers": 1, "axes": term.axes}
    term.fit(HostSizes(**given | sizes))
    return term


@torch.no_grad()
def logits(model: Any, ids: Tensor = IDS, **named: Any) -> Tensor:
    return model(input_ids=ids, **named).logits


# Waves ----------------------------------------------------------------------------------------------------------------


def test_waves_by_plain_loops() -> None:
    term = fitted(SinusoidalPositions(base=100, scale=0.5))
    expected = [
        [0.5 * wave(p / 100 ** (2 * i / 8)) for i in range(4) for wave in (math.sin, math.cos)] for p in (0, 3, 700)
    ]
    assert_close(term.encode(torch.tensor([0, 3, 700])), torch.tensor(expected), rtol=0, atol=1e-4)


def test_waves_of_rows_and_columns_have_half_of_the_width_each() -> None:
    grid, line = fitted(SinusoidalPositions(axes=2)), fitted(SinusoidalPositions(), width=4)
    found = grid.encode(torch.tensor([[3, 5], [0, 7]]))
    assert_close(found, torch.cat([line.encode(torch.tensor([3, 0])), line.encode(torch.tensor([5, 7]))], 1))


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_of_the_models_own_rows_says_what_the_model_said() -> None:
    model = model_of("gpt2")
    before = logits(model)
    attach(model, LearntPositions(16))
    with torch.no_grad():
        model.kilter_positions.table.copy_(model.transformer.wpe.weight)
    assert_close(logits(model), before)
    ids = IDS.repeat(1, 4)
    own = model.transformer.wpe.weight.detach()
    stretched = F.interpolate(own.T[None], size=32, mode="linear")[0].T
    with torch.no_grad():
        model.kilter_positions.table = torch.nn.Parameter(stretched)
        model.kilter_positions.max_position = 32
        expected = logits(model, ids)
        model.kilter_positions.table = torch.nn.Parameter(own)
        model.kilter_positions.max_position = 16
    assert_close(logits(model, ids), expected)


def test_a_line_is_stretched_between_its_places() -> None:
    term = fitted(LearntPositions(2))
    first, last = term.table.detach()
    found = term.encode(torch.arange(4)).detach()
    expected = torch.stack([first, 0.75 * first + 0.25 * last, 0.25 * first + 0.75 * last, last])
    assert_close(found, expected)
    assert_close(term.encode(torch.tensor([1])).detach(), last[None])
    assert_close(term.encode(torch.tensor([1, 3])).detach(), expected[[1, 3]])


@pytest.mark.parametrize(("interpolation", "mode"), [("cubic", "bicubic"), ("linear", "bilinear")])
def test_a_grid_is_fitted_to_the_picture(interpolation: Any, mode: str) -> None:
    term = fitted(LearntPositions(3, axes=2, interpolation=interpolation))
    rows = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    assert_close(term.encode(rows), term.table.flatten(0, 1))
    rows = torch.cartesian_prod(torch.arange(5), torch.arange(2))
    expected = F.interpolate(term.table.permute(2, 0, 1)[None], size=(5, 2), mode=mode)[0].flatten(1).T
    assert_close(term.encode(rows), expected)
    assert torch.autograd.grad(term.encode(rows).sum(), term.table)[0].any()


# Slopes ---------------------------------------------------------------------------------------------------------------


def test_slopes_as_published() -> None:
    assert slopes_of(8) == [2.0**-power for power in range(1, 9)]
    assert slopes_of(1) == [2.0**-8]
    assert slopes_of(12) == [*slopes_of(8), *(2**-power for power in (0.5, 1.5, 2.5, 3.5))]


@pytest.mark.parametrize("start", [0, 60_000])
def test_logits_fall_with_the_distance(start: int) -> None:
    term = fitted(Alibi(), heads=4, key_heads=2)
    a, b = term.query_key(term.encode(torch.arange(start, start + 600)), 0)
    assert (a.shape, b.shape) == ((600, 4, 2), (600, 2, 2))
    for dtype in (torch.float32, torch.bfloat16):
        a, b = a.to(dtype).double(), b.to(dtype).double()
        found = torch.einsum("ihp,jhp->hij", a, b.repeat_interleave(2, 1)) / 2
        distance = torch.arange(600)[:, None] - torch.arange(600)
        expected = -torch.tensor(slopes_of(4))[:, None, None].double() * distance
        assert_close(found - found.diagonal(dim1=1, dim2=2)[..., None], expected)


def test_in_a_model_it_is_a_bias() -> None:
    model = attach(model_of("llama", attn_implementation="eager"), Alibi())
    found = logits(model)
    detach(model)
    attach(model, NoPositions())
    distance = torch.arange(8)[:, None] - torch.arange(8)
    bias = -torch.tensor(slopes_of(4))[:, None, None] * distance
    bias = bias.masked_fill(distance < 0, torch.finfo(torch.float32).min).expand(2, -1, -1, -1)
    assert_close(found, logits(model, attention_mask=bias), rtol=1e-4, atol=1e-5)
    assert (found - logits(model)).abs().max() > 1e-2


# In models ------------------------------------------------------------------------------------------------------------


def test_without_positions_a_model_is_as_with_none_of_its_own() -> None:
    model = model_of("gpt2")
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
    expected = logits(model)
    assert_close(logits(attach(model_of("gpt2"), NoPositions())), expected)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("name", list(TERMS))
def test_positions_count_where_padding_ends_and_with_the_cache(kind: str, name: str) -> None:
    model = attach(model_of(kind), TERMS[name]())
    full = logits(model)
    with torch.no_grad():
        cache = model(IDS[:, :5], use_cache=True).cache
        assert_close(model(IDS[:, 5:], cache=cache).logits, full[:, 5:], rtol=1e-4, atol=1e-5)
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), IDS], 1)
    mask = torch.cat([torch.zeros(2, 3), torch.ones(2, 8)], 1).long()
    assert_close(logits(model, padded, attention_mask=mask)[:, 3:], full, rtol=1e-4, atol=1e-5)
    swapped = logits(model, IDS[:, [1, 0, 2, 3, 4, 5, 6, 7]])[:, -1]
    assert (swapped - full[:, -1]).abs().max() > 1e-4, "layers below tell a causal model where it is, even with none"


@pytest.mark.parametrize("name", list(TERMS))
def test_a_model_is_saved_and_loaded_with_them(name: str, tmp_path: Path) -> None:
    from kilter.hosts.transformers import load

    model = attach(model_of("gpt2"), TERMS[name]())
    ids = IDS.repeat(1, 3)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert type(loaded.kilter_positions) is type(model.kilter_positions)
    assert loaded.kilter_positions.config() == model.kilter_positions.config()
    assert_close(logits(loaded.eval(), ids), logits(model, ids))


@pytest.mark.parametrize("term", [NoPositions, SinusoidalPositions, lambda axes: LearntPositions(4, axes=axes)])
def test_pictures_of_another_size(term: Any) -> None:
    model = attach(model_of("vit"), term(axes=2))
    for size in (16, 24, 12):
        with torch.no_grad():
            assert model(torch.randn(2, 1, size, size)).logits.isfinite().all()


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LearntPositions(0), ValueError, "max_position"),
        (lambda: LearntPositions(4, axes=3), ValueError, "axes must be 1 for texts or 2"),
        (lambda: LearntPositions(4, interpolation="cubik"), ValueError, "did you mean 'cubic'"),  # type: ignore[arg-type]
        (lambda: SinusoidalPositions(base=0), ValueError, "base"),
        (lambda: SinusoidalPositions(scale=-1), ValueError, "scale"),
        (lambda: NoPositions(axes=0), ValueError, "axes"),
        (lambda: fitted(SinusoidalPositions(axes=2), width=6), ValueError, "axes=2 need a width that 4 divides"),
        (lambda: LearntPositions(4).encode(torch.tensor([0])), RuntimeError, "belong to no model yet"),
        (lambda: attach(model_of("vit"), Alibi()), ValueError, "a picture has 2 axes"),
    ],
)
def test_what_is_wrong_is_named(make: Any, error: type[Exception], message: str, own_messages: None) -> None:
    with pytest.raises(error, match=message):
        make()
