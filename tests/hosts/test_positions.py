"""Positions in models of text: the host's own are gone, the others are there, with and without a cache, and undone."""

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.hosts.positioned import KINDS, Waves, model_of

pytestmark = [
    pytest.mark.host,
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning"),
]
pytest.importorskip("transformers")

APPLY = ("attn_scalar", "attn_mul", "attn_add", "input_add", "none")
IDS = torch.randint(3, 50, (3, 20), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS)
MASK[1, :5] = MASK[2, :9] = 0


def attach(model: Any, term: Any) -> Any:
    from kilter.hosts import positions

    return positions.attach(model, term)


def detach(model: Any) -> Any:
    from kilter.hosts import positions

    return positions.detach(model)


@pytest.fixture(scope="module", params=[(kind, apply) for kind in KINDS for apply in APPLY], ids="-".join)
def case(request: Any) -> Iterator[tuple[Any, Any]]:
    """A model with positions, and what it says of padded texts without a cache."""
    kind, apply = request.param
    model = attach(model_of(kind), Waves(apply=apply, shared=kind != "llama"))
    with torch.no_grad():
        yield model, model(IDS, attention_mask=MASK, use_cache=False).logits


class TestTexts:
    @torch.no_grad()
    def test_left_padding_changes_nothing(self, case: Any) -> None:
        model, full = case
        for row in range(3):
            begin = int((MASK[row] == 0).sum())
            assert_close(full[row, begin:], model(IDS[row : row + 1, begin:]).logits[0], atol=3e-5, rtol=0)

    @torch.no_grad()
    def test_step_by_step_it_says_the_same(self, case: Any) -> None:
        """Check 8 of the specification, of every way to apply positions; in steps of several tokens too."""
        model, full = case
        scale = full.abs().max()
        for size in (1, 7):
            cache, said = None, []
            for at in range(0, 20, size):
                out = model(IDS[:, at : at + size], attention_mask=MASK[:, : at + size], cache=cache, use_cache=True)
                cache = out.cache
                said.append(out.logits)
            apart = (torch.cat(said, 1) - full).abs() * MASK[..., None]
            assert apart.max() <= 1e-5 * max(1, scale)

    @torch.no_grad()
    @pytest.mark.parametrize("way", [{}, {"num_beams": 2}, {"cache_implementation": "static"}], ids=str)
    def test_it_writes_the_same_with_a_cache(self, case: Any, way: dict[str, Any]) -> None:
        model, _ = case
        asked = {"attention_mask": MASK, "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
        with_it = model.generate(IDS, **asked, **way)
        way.pop("cache_implementation", None)
        assert torch.equal(with_it, model.generate(IDS, **asked, **way, use_cache=False))

    def test_detaching_restores_every_bit(self, case: Any) -> None:
        model, _ = case
        plain = model_of(
            {"GPT2": "gpt2", "Llam": "llama", "Qwen": "qwen3", "Mist": "mistral"}[type(model).__name__[:4]]
        )
        mine = copy.deepcopy(model)
        term = detach(mine)
        assert isinstance(term, Waves)
        assert type(mine) is type(plain)
        assert mine.config.to_dict() == plain.config.to_dict()
        assert [*mine.state_dict()] == [*plain.state_dict()]
        assert all(torch.equal(one, other) for one, other in zip(mine.parameters(), plain.parameters(), strict=True))
        assert all(weight.requires_grad for weight in mine.parameters())
        assert {type(module) for module in mine.modules()} == {type(module) for module in plain.modules()}
        assert torch.equal(mine(IDS[:, :14]).logits, plain(IDS[:, :14]).logits)
        assert not [name for module in mine.modules() for name in vars(module) if name.startswith("kilter")]


@pytest.mark.parametrize("kind", KINDS)
def test_without_positions_order_does_not_matter(kind: str) -> None:
    """The host's own term is off: the last token sees a set."""
    plain, model = model_of(kind, **({"sliding_window": None} if kind == "mistral" else {})), None
    ids = IDS[:1, :10]
    turned = torch.cat([ids[:, :9].flip(1), ids[:, 9:]], 1)
    assert (plain(ids).logits[:, -1] - plain(turned).logits[:, -1]).abs().max() > 1e-3
    model = attach(copy.deepcopy(plain), Waves(apply="none"))
    model.config.num_hidden_layers = 1  # a second one would see which tokens the first ones saw
    first = model.base_model.layers if kind != "gpt2" else model.base_model.h
    del first[1]
    assert_close(model(ids).logits[:, -1], model(turned).logits[:, -1], atol=1e-5, rtol=1e-5)
    for apply in APPLY[:-1]:
        other = attach(copy.deepcopy(plain), Waves(apply=apply))
        assert (other(ids).logits[:, -1] - other(turned).logits[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_product_is_a_bias_of_the_logits(kind: str, attention: str) -> None:
    """`attn_scalar` in float64 against a bias of N × N that is handed to the model as its mask."""
    model = attach(model_of(kind, attn_implementation=attention).double(), Waves())
    term = model.kilter_positions
    a, b = term.query_key(term.encode(torch.arange(20)), 0)
    logits = torch.einsum("qhd,khd->hqk", a, b.repeat_interleave(term.sizes.heads // term.sizes.key_heads, 1))
    bias = (logits / term.sizes.head_dim**0.5).masked_fill(torch.ones(20, 20).triu(1).bool(), float("-inf"))
    said = model(IDS).logits
    detach(model)
    naive = attach(model, Waves(apply="none"))
    assert_close(said, naive(IDS, attention_mask=bias.expand(3, -1, -1, -1)).logits, atol=1e-10, rtol=1e-10)


def test_a_product_of_nothing_is_nothing() -> None:
    """Check 6: a = b = 0 gives the logits of a model without positions, exactly up to the order of sums."""
    model = attach(model_of("gpt2").double(), Waves())
    for parameter in model.kilter_positions.maps.parameters():
        torch.nn.init.zeros_(parameter)
    said = model(IDS).logits
    detach(model)
    assert_close(said, attach(model, Waves(apply="none"))(IDS).logits, atol=1e-12, rtol=0)


# Positions that are given ---------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_position_ids_are_respected(kind: str) -> None:
    model = attach(model_of(kind), Waves())
    near, far = model(IDS).logits, model(IDS, position_ids=torch.arange(7, 27)[None]).logits
    assert (near - far).abs().max() > 1e-3
    ids = torch.arange(20).repeat(3, 1) * torch.tensor([[1], [2], [3]]) + 5
    each = model(IDS, position_ids=ids).logits
    for row in range(3):
        assert_close(each[row], model(IDS[row : row + 1], position_ids=ids[row : row + 1]).logits[0], atol=3e-5, rtol=0)
    out = model(IDS[:, :12], position_ids=ids[:, :12], use_cache=True)
    rest = model(IDS[:, 12:], position_ids=ids[:, 12:], cache=out.cache).logits
    assert_close(rest, each[:, 12:], atol=3e-5, rtol=0)
    with pytest.raises(ValueError, match=r"position_ids is \(3, 19\)"):
        model(IDS, position_ids=ids[:, 1:])
    with pytest.raises(ValueError, match="have 3 rows, and there are 2 texts"):
        model(IDS[:2], position_ids=ids)
    with pytest.raises(ValueError, match="input_ids is missing"):
        model(position_ids=ids)


@torch.no_grad()
def test_far_positions_make_no_long_table() -> None:
    """A text that begins far out is encoded as it is, and is what a long table would give."""
    model = attach(model_of("gpt2"), Waves(most=100_000))
    ids = torch.arange(20)[None] + 90_000
    far = model(IDS, position_ids=ids).logits
    assert "ends" not in model.kilter_memo
    model.train(False)
    with torch.enable_grad():
        assert_close(far, model(IDS, position_ids=ids).logits.detach(), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_kept_table_is_dropped_when_a_parameter_changes() -> None:
    model = attach(model_of("gpt2"), Waves(most=30))
    first = model(IDS).logits
    assert model.kilter_memo["ends"] == [30]  # no more than there are
    kept = model.kilter_memo["vectors"]
    assert torch.equal(model(IDS[:, :9]).logits, first[:, :9]) or model.kilter_memo["vectors"] is kept
    model.kilter_positions.leave.weight.mul_(2)
    changed = model(IDS).logits
    assert (changed - first).abs().max() > 1e-3
    assert torch.equal(changed, copy.deepcopy(model)(IDS).logits)


def test_a_kept_table_is_dropped_by_a_fused_step() -> None:
    """Which counts no version of the parameters that it writes; it is what the Trainer takes by default."""
    model = attach(model_of("gpt2"), Waves())
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    with torch.no_grad():
        model(IDS)
    with torch.enable_grad():
        model(IDS, labels=IDS).loss.backward()
    optimiser.step()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, copy.deepcopy(model)(IDS).logits)


@torch.no_grad()
def test_a_prompt_is_cached_once_for_several_texts() -> None:
    """Its cache may be repeated or cut, and goes on where it stands."""
    model = attach(model_of("llama"), Waves())
    full = model(torch.cat([IDS[:1, :8].repeat(3, 1), IDS[:, 8:]], 1)).logits
    cache = model(IDS[:1, :10], use_cache=True).cache
    cache.crop(-2)
    cache.batch_repeat_interleave(3)
    assert_close(model(IDS[:, 8:], cache=cache).logits, full[:, 8:], atol=3e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("apply", APPLY)
def test_vectors_of_tokens_may_be_given(apply: str) -> None:
    for kind in ("gpt2", "llama"):
        model = attach(model_of(kind), Waves(apply=apply))
        given = model_of(kind).get_input_embeddings()(IDS)
        assert_close(model(inputs_embeds=given, attention_mask=MASK).logits, model(IDS, attention_mask=MASK).logits)


def test_outputs_come_in_the_shapes_that_are_asked_for() -> None:
    model = attach(model_of("gpt2", attn_implementation="eager"), Waves())
    out = model(IDS, labels=IDS, output_attentions=True, output_hidden_states=True)
    assert [tuple(one.shape) for one in out.attentions] == [(3, 4, 20, 20)] * 2
    assert len(out.hidden_states) == 3
    as_tuple = model(IDS, labels=IDS, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert_close(as_tuple[0], out.loss)


# What cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    import transformers as t

    model = attach(model_of("gpt2"), Waves())
    with pytest.raises(ValueError, match=r"has positions attached already \(Waves\)"):
        attach(model, Waves())
    with pytest.raises(ValueError, match="belongs to a model already"):
        attach(model_of("gpt2"), model.kilter_positions)
    with pytest.raises(RuntimeError, match="without its positions"):
        model.transformer(IDS)
    with pytest.raises(ValueError, match="use_reentrant must be False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})
    model.set_attn_implementation("eager")
    with pytest.raises(RuntimeError, match="set to eager after"):
        model(IDS)
    with pytest.raises(ValueError, match="no positions attached"):
        detach(model_of("llama"))
    with pytest.raises(ValueError, match=r"axes=2 .* a text has 1 axis"):
        attach(model_of("llama"), Waves(axes=2))
    with pytest.raises(ValueError, match=r"axes=1 .* a picture has 2 axes"):
        attach(model_of("vit"), Waves())
    with pytest.raises(ValueError, match="flex_attention; positions need sdpa or eager"):
        attach(model_of("llama", attn_implementation="flex_attention"), Waves())
    with pytest.raises(ValueError, match="reorder_and_upcast_attn"):
        attach(model_of("gpt2", attn_implementation="eager", reorder_and_upcast_attn=True), Waves())
    bert = t.BertModel(t.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(ValueError, match=r"BertModel; known are .*GPT-2-like.*Llama-like.*ViT-like"):
        attach(bert, Waves())
    with pytest.raises(TypeError, match="model of transformers, got Linear"):
        attach(torch.nn.Linear(2, 2), Waves())
    with pytest.raises(TypeError, match=r"seqpe must be a PositionTerm, .* got Linear"):
        attach(model_of("gpt2"), torch.nn.Linear(2, 2))


def test_experts_and_positions_do_not_mix() -> None:
    from kilter.embeddings import add_experts

    model = model_of("llama").model
    add_experts(model, ["a", "b"], domain_tokens=False)
    with pytest.raises(ValueError, match="model has experts"):
        attach(model, Waves())


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    import transformers as t

    from kilter.hosts.loading import Unloadable
    from kilter.hosts.transformers import load

    model = attach(model_of(kind), Waves(apply="attn_mul", shared=False))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert type(again) is type(model)
    assert not again.training
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.kilter_positions.config() == model.kilter_positions.config()
    with pytest.raises(ValueError, match="kilter-positions"):
        t.AutoModelForCausalLM.from_pretrained(tmp_path)
    detach(again)
    assert torch.equal(again(IDS[:, :14]).logits, model_of(kind)(IDS[:, :14]).logits)
    again.save_pretrained(tmp_path / "plain")
    t.AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    with pytest.raises(Unloadable):
        load(tmp_path / "plain")
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("positioned.Waves", "positioned.Nothing"))
    with pytest.raises(Unloadable, match="Nothing, which is not known here; import it"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "vit"])
def test_a_loaded_model_is_as_an_attached_one(kind: str, tmp_path: Path) -> None:
    """What an optimiser is made of is the same, so that a training goes on with either."""
    from kilter.hosts.transformers import load

    model = attach(model_of(kind), Waves(axes=2 if kind == "vit" else 1))
    model.save_pretrained(tmp_path)
    trained = [(name, weight.requires_grad) for name, weight in model.named_parameters()]
    assert not all(has for _, has in trained)
    again = load(tmp_path)
    assert [(name, weight.requires_grad) for name, weight in again.named_parameters()] == trained
    detach(again)
    assert all(weight.requires_grad for weight in again.parameters())
    assert not hasattr(again.config, "kilter")


def test_whoever_looks_into_the_folder_is_told_how_to_load_it(tmp_path: Path) -> None:
    attach(model_of("gpt2"), Waves()).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["kilter"] == "load this model with kilter.hosts.transformers.load"


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_cache_is_found_by_its_name_of_today(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import generic

    said: list[str] = []
    monkeypatch.setattr(generic.logger, "warning_once", said.append)
    model = attach(model_of(kind), Waves())
    for use_cache in (True, False):
        model(IDS, use_cache=use_cache)
    model.generate(IDS, max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert not said


def test_it_is_copied_and_sent() -> None:
    model = attach(model_of("llama"), Waves())
    said = model(IDS).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(IDS).logits, said)
        detach(other)


def test_half_precision() -> None:
    model = attach(model_of("llama").to(torch.bfloat16), Waves())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model(IDS, labels=IDS).loss.isfinite()
