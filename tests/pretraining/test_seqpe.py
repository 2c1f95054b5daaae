"""SeqPE in a model: what it adds, its limits, the two losses of a training step, and what it refuses."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from kilter.pretraining import SeqPE, attach, detach, gradient_alignments, position_contrast, position_transfer
from tests.hosts.positioned import model_of

pytestmark = pytest.mark.host
pytest.importorskip("transformers")

ARGUMENTS = {
    "max_position": lambda: 200,
    "heads": lambda: 2,
    **{name: lambda: 0.1 for name in ("contrast_weight", "transfer_weight", "shift_rate")},
}
IDS = torch.randint(3, 50, (4, 12), generator=torch.Generator().manual_seed(0))
SMALL: dict[str, Any] = {"width": 16, "heads": 2}


def made(kind: str = "gpt2", most: int = 200, **options: Any) -> Any:
    torch.manual_seed(1)
    return attach(model_of(kind), SeqPE(most, **SMALL | options))


def test_the_signature_is_the_published_form() -> None:
    assert SeqPE(20_000).config() == {
        "max_position": 20_000,
        "axes": 1,
        "width": None,
        "heads": None,
        "apply": "attn_scalar",
        "qk_map": "single",
        "contrast_weight": 0.1,
        "transfer_weight": 0.1,
        "shift_rate": 0.1,
        "sampler": "released",
    }
    encoder = attach(model_of("gpt2"), SeqPE(20_000)).kilter_positions.encoder
    assert (encoder.width, encoder.heads, encoder.out_dim, encoder.num_digits) == (32, 1, 32, 5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_position": 0}, "max_position must be at least 1"),
        ({"axes": 3}, "axes must be 1 for texts or 2 for images"),
        ({"width": 0}, "width must be at least 1"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"apply": "attn_scaler"}, "apply"),
        ({"qk_map": "one"}, "qk_map"),
        ({"contrast_weight": -1}, "contrast_weight must be at least 0"),
        ({"transfer_weight": float("nan")}, "transfer_weight must be at least 0"),
        ({"shift_rate": 1.5}, "shift_rate must be within 0..1"),
        ({"sampler": "centered"}, "sampler"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_are_checked(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        SeqPE(**{"max_position": 100} | wrong)


def test_wrong_positions_are_refused() -> None:
    model = made(most=100)
    with pytest.raises(ValueError, match=r"100.* more than 2 digits"):
        model(torch.ones(1, 101).long())
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(ValueError, match="positions count from 0"):
            model(IDS, position_ids=torch.arange(-1, 11)[None])
    with pytest.raises(TypeError, match="position_ids must be whole numbers"):
        model(IDS, position_ids=torch.arange(12.0)[None])
    with pytest.raises(ValueError, match="max_position=100 leaves no window"):
        attach(model_of("gpt2"), SeqPE(100, **SMALL, shift_rate=0.0)).train()(torch.ones(1, 100).long())
    with pytest.raises(ValueError, match="width must be a multiple of heads"):
        attach(model_of("gpt2"), SeqPE(100, heads=5))


def sizes_of(model: Any) -> dict[str, int]:
    found = {name.split(".")[0]: 0 for name, _ in model.kilter_positions.named_parameters()}
    for name, weight in model.kilter_positions.named_parameters():
        found[name.split(".")[0]] += weight.numel()
    return found


def test_only_what_is_used_is_added() -> None:
    for kind, both in (("gpt2", 64), ("llama", 48)):
        for apply in ("attn_scalar", "attn_mul", "attn_add"):
            encoder = sizes_of(made(kind, apply="input_add"))
            assert encoder.keys() == {"encoder"}
            one = (32 + 1) * both
            assert sizes_of(made(kind, apply=apply)) == encoder | {"maps": one}
            assert sizes_of(made(kind, apply=apply, qk_map="multi")) == encoder | {"maps": 2 * one}
            assert sizes_of(made(kind, apply=apply, qk_map="none")).keys() == {"encoder"}
    assert sizes_of(made("vit", axes=2))["before"] == 32
    assert "before" not in sizes_of(made("vit", axes=2, apply="input_add"))


# Limits ---------------------------------------------------------------------------------------------------------------


def test_added_to_the_inputs_it_is_a_learnt_table_with_a_shared_generator() -> None:
    """Check 6 of the specification: the same logits, and the table's gradient is what the encoder is handed."""
    model, plain = made(apply="input_add", contrast_weight=0, transfer_weight=0, shift_rate=0), model_of("gpt2")
    table = model.kilter_positions.encoder(torch.arange(16))
    plain.transformer.wpe.weight.data.copy_(table.detach())
    out, wanted = model(IDS, labels=IDS), plain(IDS, labels=IDS)
    assert_close(out.logits, wanted.logits)
    wanted.loss.backward()
    table.backward(plain.transformer.wpe.weight.grad)
    expected = [weight.grad.clone() for weight in model.kilter_positions.parameters()]
    model.zero_grad()
    out.loss.backward()
    for weight, gradient in zip(model.kilter_positions.parameters(), expected, strict=True):
        assert_close(weight.grad, gradient)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "vit"])
def test_maps_of_nothing_are_no_positions(kind: str) -> None:
    """Check 6: with a = b = 0 its logits are those of a model without positions."""
    from tests.hosts.positioned import Waves

    axes = 2 if kind == "vit" else 1
    given = torch.randn(2, 1, 16, 16) if kind == "vit" else IDS
    model = made(kind, axes=axes)
    for parameter in model.kilter_positions.maps.parameters():
        torch.nn.init.zeros_(parameter)
    said = model(given).logits
    detach(model)
    assert_close(said, attach(model, Waves(apply="none", axes=axes))(given).logits)


@torch.no_grad()
@pytest.mark.parametrize("apply", ["attn_scalar", "attn_mul", "attn_add", "input_add"])
@pytest.mark.parametrize("qk_map", ["single", "multi", "none"])
def test_written_step_by_step_it_is_the_full_pass(apply: Any, qk_map: Any) -> None:
    """Check 8."""
    for kind in ("gpt2", "llama"):
        model = made(kind, apply=apply, qk_map=qk_map)
        full, cache = model(IDS).logits, None
        for at in range(12):
            out = model(IDS[:, at : at + 1], cache=cache, use_cache=True)
            cache = out.cache
            assert_close(out.logits[:, 0], full[:, at], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_it_runs_at_sixteen_times_the_length() -> None:
    for kind in ("gpt2", "llama"):
        assert made(kind, most=1000)(torch.ones(1, 256).long()).logits.isfinite().all()
    model = made("vit", most=50, axes=2)
    for side in (16, 48, 64):
        assert model(torch.randn(1, 1, side, side)).logits.isfinite().all()


# A training step ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_the_two_losses_are_those_of_the_positions_drawn(kind: str) -> None:
    axes = 2 if kind == "vit" else 1
    model = made(kind, axes=axes, most=50 if axes == 2 else 200, shift_rate=0.0).train()
    given = {"pixel_values": torch.randn(2, 1, 12, 20)} if axes == 2 else {"input_ids": IDS}
    length = (3, 5) if axes == 2 else (12,)
    term = model.kilter_positions
    term.generator = torch.Generator().manual_seed(7)
    model(**given)
    again = torch.Generator().manual_seed(7)
    drawn = term._draws.contrast(again)
    windows = term._draws.transfer(length, again)
    contrast = position_contrast(term.encoder(drawn.pivot), term.encoder(drawn.candidates), drawn.positive)
    transfer = position_transfer(term.encoder(windows.student), term.encoder(windows.teacher), heads=4)
    assert_close(model.kilter_parts["position_contrast"], 0.1 * contrast)
    assert_close(model.kilter_parts["position_transfer"], 0.1 * transfer)
    assert len(drawn.pivot) == (32 if axes == 2 else 16)


def test_a_step_encodes_once_and_each_position_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(shift_rate=0.0).train()
    encoder, calls = model.kilter_positions.encoder, []
    plain = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, p: (calls.append(p), plain(self, p))[1])
    model(IDS)
    assert len(calls) == 1
    assert len(calls[0].unique()) == len(calls[0])


def test_shifted_steps_have_no_transfer() -> None:
    model = made(shift_rate=1.0).train()
    said = model(IDS).logits
    assert model.kilter_parts.keys() == {"position_contrast"}
    assert (said - model(IDS).logits).abs().max() > 0
    model = made(shift_rate=1.0, contrast_weight=0).train()
    model(IDS)
    assert not model.kilter_parts
    rare = made(shift_rate=0.25, **{"contrast_weight": 0}).train().kilter_positions
    rare.generator = torch.Generator().manual_seed(0)
    shifted = sum("position_transfer" not in rare(torch.arange(6)[None], 4).parts for _ in range(200))
    assert 30 < shifted < 70


def test_rows_of_a_shifted_step_begin_in_different_places() -> None:
    term = made(shift_rate=1.0).train().kilter_positions
    step = term(torch.arange(12)[None], 4)
    assert step.where.shape == (4, 12)
    assert (step.where.diff() == 1).float().mean() > 0.5
    assert len(step.where[:, 0].unique()) > 1


@pytest.mark.parametrize("kind", ["gpt2", "llama", "vit"])
def test_it_is_saved_and_loaded(kind: str, tmp_path: Any) -> None:
    from kilter.hosts.transformers import load

    axes = 2 if kind == "vit" else 1
    model = made(kind, axes=axes, apply="attn_mul", qk_map="multi")
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    given = torch.randn(2, 1, 16, 16) if kind == "vit" else IDS
    assert torch.equal(again(given).logits, model(given).logits)
    assert again.kilter_positions.config() == model.kilter_positions.config()


def test_alignments_count_the_encoder_in_every_batch() -> None:
    """Also by derivatives carried forward: no table of the first batch serves the second."""
    model = made(apply="input_add", contrast_weight=0, transfer_weight=0, shift_rate=0)
    batches = [IDS, IDS.flip(1), IDS.roll(1, 1)]

    def found(method: Any) -> torch.Tensor:
        return gradient_alignments(
            model, lambda model, ids: model(ids, labels=ids).loss, batches, IDS.roll(2, 1), method=method
        )

    assert_close(found("jvp"), found("gradients"), rtol=1e-4, atol=1e-5)


def test_positions_without_a_model_say_so() -> None:
    with pytest.raises(RuntimeError, match="belong to no model yet"):
        SeqPE(10).query_key(torch.zeros(1, 4), 0)
