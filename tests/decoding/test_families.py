"""The decoders on tiny models of many families: whole passes without a cache lead to the same hypotheses."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kilter.decoding import DiverseBeamSearch, MMIBeamSearch, RankGenSearch, SiblingBeamSearch, diverse_beam_search
from kilter.decoding.streams import Streams
from tests.decoding import reference, tiny
from tests.decoding.compare import same, until_end
from tests.decoding.test_block_search import calls, liked, noise, plain_search

pytestmark = pytest.mark.host

OWN_STATE = {"recurrent_gemma"}
"""Keeps its state on the module, where no beam search can move it."""
MOVABLE = sorted(set(tiny.MODELS) - OWN_STATE)
GROUPS = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.6, "num_return_sequences": 4}


def referred(
    model: Any, inputs: dict[str, Tensor], new: int, order: str = "score", **how: Any
) -> list[list[tuple[int, reference.Hypothesis]]]:
    batch = len(next(iter(inputs.values())))
    how = {"groups": 2, "penalty": 0.6, "diversity": reference.hamming} | how
    found = []
    for i in range(batch):
        passes = tiny.full_pass(model, tiny.alone(model, inputs, i))
        groups = reference.search(passes, beams=4, max_new=new, eos=[tiny.EOS], **how)
        found.append(reference.ranked(groups, order))
    return found


@pytest.mark.parametrize("pad_is_eos", [False, True])
@pytest.mark.parametrize("name", MOVABLE)
def test_a_ragged_batch_with_a_cache_is_whole_passes_alone(name: str, pad_is_eos: bool) -> None:
    model = tiny.model(name, eos_bias=1.0, pad_is_eos=pad_is_eos)
    inputs = tiny.prompt(model, 3, ragged=True, seed=int(pad_is_eos))
    found = tiny.generate(model, inputs, custom_generate=diverse_beam_search, max_new_tokens=6, **GROUPS)
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 6), [tiny.EOS])


@pytest.mark.parametrize("name", tiny.MODELS)
def test_without_a_cache_it_is_the_same(name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    found = tiny.generate(
        model, inputs, custom_generate=diverse_beam_search, max_new_tokens=4, use_cache=False, **GROUPS
    )
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 4), [tiny.EOS])


@pytest.mark.parametrize("name", sorted(OWN_STATE))
def test_a_model_that_keeps_its_state_to_itself_is_told_so(name: str) -> None:
    model = tiny.model(name)
    with pytest.raises(ValueError, match="use_cache=False"):
        tiny.generate(model, tiny.prompt(model), custom_generate=diverse_beam_search, max_new_tokens=4, **GROUPS)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gemma3", "mistral", "t5", "bart", "marian", "whisper"])
def test_a_static_cache_is_moved_too(name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    found = tiny.generate(
        model,
        inputs,
        custom_generate=diverse_beam_search,
        max_new_tokens=5,
        cache_implementation="static",
        disable_compile=True,
        **GROUPS,
    )
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 5), [tiny.EOS])


@pytest.mark.parametrize("name", ["llama", "gemma2", "t5", "jamba", "llava"])
@pytest.mark.parametrize("kind", ["cumulative", "embedding", "sibling"])
def test_what_charges_each_beam_on_its_own(name: str, kind: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    vectors = model.get_input_embeddings().weight.tolist()
    decoder, asked, how = {
        "cumulative": (DiverseBeamSearch(diversity="cumulative"), GROUPS, {"diversity": reference.cumulative()}),
        "embedding": (DiverseBeamSearch(diversity="embedding"), GROUPS, {"diversity": reference.embedding(vectors)}),
        "sibling": (
            SiblingBeamSearch(rank_penalty=0.4),
            {"num_beams": 4, "num_return_sequences": 4},
            {"groups": 1, "penalty": 0.0, "adjust": reference.sibling(0.4)},
        ),
    }[kind]
    found = tiny.generate(model, inputs, custom_generate=decoder, max_new_tokens=5, **asked)
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 5, **how), [tiny.EOS])


@pytest.mark.parametrize("name", ["gpt2", "mistral", "t5", "marian", "lfm2"])
def test_mutual_information_asks_the_model_without_its_condition(name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    nothing = {"input_ids": torch.tensor([[tiny.EOS if model.config.is_encoder_decoder else tiny.BOS]])}
    nothing["attention_mask"] = torch.ones_like(nothing["input_ids"])
    how = {"groups": 1, "penalty": 0.0, "adjust": reference.mmi(tiny.full_pass(model, nothing), 0.5)}
    found = tiny.generate(
        model,
        inputs,
        custom_generate=MMIBeamSearch(weight=0.5),
        max_new_tokens=5,
        num_beams=4,
        num_return_sequences=4,
    )
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 5, **how), [tiny.EOS])


@pytest.mark.parametrize("name", MOVABLE)
def test_each_prompt_is_read_once_and_each_step_is_one_forward(name: str) -> None:
    model = tiny.model(name, eos_bias=None)
    calls: list[tuple[int, int]] = []

    def count(_: Any, args: Any, given: dict[str, Any], __: Any) -> None:
        ids = given.get("decoder_input_ids", given.get("input_ids"))
        calls.append(tuple(ids.shape))

    inputs = tiny.prompt(model, 2)
    watched = model.register_forward_hook(count, with_kwargs=True)
    tiny.generate(model, inputs, custom_generate=diverse_beam_search, max_new_tokens=5, **GROUPS)
    watched.remove()
    assert calls == [(2, tiny.said_before(model, inputs)), *[(8, 1)] * 4]


@pytest.mark.parametrize("name", ["whisper", "t5", "bart"])
def test_an_encoder_runs_once_for_each_input(name: str) -> None:
    model = tiny.model(name)
    rows: list[int] = []
    watched = model.get_encoder().register_forward_hook(lambda *_: rows.append(len(_[-1].last_hidden_state)))
    tiny.generate(model, tiny.prompt(model, 2), custom_generate=diverse_beam_search, max_new_tokens=3, **GROUPS)
    watched.remove()
    assert rows == [2]


def test_a_cache_is_reordered_once_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from kilter.hosts.generation import PromptLayer

    moved: list[int] = []
    before = PromptLayer.reorder_cache
    monkeypatch.setattr(
        PromptLayer, "reorder_cache", lambda self, rows: (moved.append(len(rows)), before(self, rows))[1]
    )
    model = tiny.model("llama", eos_bias=None)
    tiny.generate(model, tiny.prompt(model, 2), custom_generate=diverse_beam_search, max_new_tokens=6, **GROUPS)
    assert moved == [8] * (5 * 2)  # two layers; nothing is moved before the first step or after the last


def test_whisper_as_its_users_call_it() -> None:
    model = tiny.model("whisper", eos_bias=1.0)
    inputs = tiny.prompt(model, 2)
    found = model.generate(
        **inputs, custom_generate=diverse_beam_search, max_new_tokens=5, **GROUPS | {"num_return_sequences": 1}
    )
    for row, ((_, best), *_) in zip(found.tolist(), referred(model, inputs, 5), strict=True):
        assert row[: len(best.tokens)] == list(best.tokens)  # it leaves out the token it starts from


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_half_precision_scores_in_full(name: str) -> None:
    """Near ties fall differently on different processors, so what was found is scored again, token by token."""
    model = tiny.model(name, seed=1).to(torch.bfloat16)
    inputs = tiny.prompt(model, 2, ragged=True)
    found = tiny.generate(model, inputs, custom_generate=diverse_beam_search, max_new_tokens=5, **GROUPS)
    assert found.sequences_scores.dtype == found.sequences_log_probs.dtype == torch.float32
    each, best = len(found.sequences) // 2, referred(model, inputs, 5)
    for i, row in enumerate(found.sequences[:, tiny.said_before(model, inputs) :].tolist()):
        passes, said = tiny.full_pass(model, tiny.alone(model, inputs, i // each)), until_end(row, [tiny.EOS])
        told = sum(passes(said[:place])[token] for place, token in enumerate(said))
        assert found.sequences_log_probs[i].item() == pytest.approx(told, abs=0.1)
        if not found.group_indices[i]:  # the first group pays nothing
            assert found.sequences_scores[i].item() == pytest.approx(told / len(said), abs=0.1)
        if i % each == 0:
            assert found.sequences_scores[i].item() == pytest.approx(best[i // each][0][1].score, abs=0.1)


class Int8(nn.Module):
    """A linear layer with weights of 8 bits and a scale for each output."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.scale, self.bias = weight.abs().amax(1, keepdim=True) / 127, layer.bias
        self.weight = (weight / self.scale).round().to(torch.int8)

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.weight * self.scale, self.bias)


def of_8_bits(model: Any, library: str) -> Any:
    """The model with quantised weights. Its activations are not: theirs would depend on what shares the batch."""
    found, model = pytest.importorskip(library), deepcopy(model)
    if library == "optimum.quanto":
        found.quantize(model, weights=found.qint8)
        found.freeze(model)
    elif library == "torchao.quantization":
        found.quantize_(model, found.Int8WeightOnlyConfig())
    else:
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) is nn.Linear:
                    setattr(parent, name, Int8(layer))
    return model


@pytest.mark.parametrize("library", ["torch", "optimum.quanto", "torchao.quantization"])
def test_a_quantised_model_is_searched_as_it_is(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    whole = tiny.model("llama", eos_bias=1.0)
    model = of_8_bits(whole, library)
    inputs, one = tiny.prompt(model, 3, ragged=True), tiny.prompt(model, 1)
    asked = {"custom_generate": diverse_beam_search, "max_new_tokens": 6} | GROUPS
    found = tiny.generate(model, inputs, **asked)
    same(found, tiny.said_before(model, inputs), referred(model, inputs, 6), [tiny.EOS])
    assert not torch.equal(found.sequences_scores, tiny.generate(whole, inputs, **asked).sequences_scores)

    monkeypatch.setattr(Streams, "exponential", lambda self, like: noise(like))
    calls[0] = 0
    search = RankGenSearch(liked, beams=2, samples=3, block=2)
    asked = {"custom_generate": search, "max_new_tokens": 8, "num_return_sequences": 2, "do_sample": True, "top_k": 0}
    drawn = tiny.generate(model, one, **asked)
    calls[0] = 0
    expected = plain_search(tiny.full_pass(model, one), liked, beams=2, samples=3, block=2, copies=False)
    rows = drawn.sequences[:, tiny.said_before(model, one) :].tolist()
    assert [tuple(row[: len(ids)]) for row, (ids, _, _) in zip(rows, expected, strict=True)] == [x[0] for x in expected]
    assert drawn.sequences_log_probs.tolist() == pytest.approx([log_prob for *_, log_prob in expected], abs=1e-4)


@pytest.mark.parametrize(
    ("backend", "library", "how"),
    [
        ("fp8", "torch", {}),
        ("quanto", "optimum.quanto", {"nbits": 4}),
        ("hqq", "hqq", {"nbits": 8, "axis_key": 1, "axis_value": 1}),
    ],
)
def test_a_quantised_cache_is_moved_too(backend: str, library: str, how: dict[str, Any]) -> None:
    """Beam search, as transformers has no other to compare with; groups of 8 lie within a head of one row."""
    pytest.importorskip(library)
    model = tiny.model("llama", seed=1)
    inputs = tiny.prompt(model, 3)
    if backend != "fp8":
        how = how | {"q_group_size": 8, "residual_length": 2}
    found, expected = (
        tiny.generate(
            model,
            inputs,
            max_new_tokens=7,
            num_beams=4,
            num_return_sequences=4,
            cache_implementation="quantized",
            cache_config={"backend": backend} | how,
            **asked,
        )
        for asked in ({"custom_generate": diverse_beam_search, "num_beam_groups": 1}, {})
    )
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.sequences_scores, expected.sequences_scores)
