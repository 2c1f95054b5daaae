"""What `kilter.hosts.generation` takes from transformers beyond its documentation: who moves it is told so here."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.decoding import tiny

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
METHODS = {
    "GenerationMixin._prefill": "input_ids generation_config model_kwargs is_first_iteration",
    "GenerationMixin._expand_inputs_for_generation": "expand_size is_encoder_decoder input_ids",
    "GenerationMixin._update_model_kwargs_for_generation": "outputs model_kwargs is_encoder_decoder",
    "GenerationMixin.prepare_inputs_for_generation": "input_ids next_sequence_length",
    "cache_utils.DynamicLayer.update": "key_states value_states",
    "cache_utils.DynamicLayer.reorder_cache": "beam_idx",
    "cache_utils.DynamicLayer.get_seq_length": "",
    "cache_utils.Cache.reorder_cache": "beam_idx",
}


def relies_on(what: str) -> str:
    import transformers

    return f"hosts/generation.py relies on {what}, and transformers {transformers.__version__} has it not"


def session(name: str, **asked: Any) -> list[Any]:
    """A `Continuations` of what `generate` hands out, its prompts read; processors and criteria."""
    from kilter.hosts.generation import Continuations

    made: list[Any] = []

    def read(model: Any, input_ids: Tensor, generation_config: Any, **kwargs: Any) -> Tensor:
        others = [kwargs.pop(name) for name in ("logits_processor", "stopping_criteria")]
        kwargs.pop("inputs_tensor", None)
        made.extend([Continuations(model, input_ids, generation_config, kwargs), *others])
        made[0].prefill()
        return input_ids

    model = tiny.model(name)
    tiny.generate(model, tiny.prompt(model, 2), custom_generate=read, num_beams=3, max_new_tokens=4, **asked)
    return made


@pytest.mark.parametrize("where", METHODS)
def test_methods_and_their_parameters(where: str) -> None:
    import transformers

    thing: Any = transformers
    for name in where.split("."):
        thing = getattr(thing, name, None)
    parameters = METHODS[where].split()
    assert thing is not None, relies_on(where)
    missing = set(parameters) - set(inspect.signature(thing).parameters)
    assert not missing, relies_on(f"{where}({', '.join(parameters)})")


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "t5", "whisper", "mamba", "lfm2"])
def test_the_cache_is_where_it_is_looked_for(name: str) -> None:
    asked_of = session(name)[0]
    cache = asked_of._cache()[1]
    assert cache is not None, relies_on(f"a cache under a name it knows, not among {sorted(asked_of._kwargs)}")
    seq2seq = tiny.model(name).config.is_encoder_decoder
    parts = [cache.self_attention_cache, cache.cross_attention_cache] if seq2seq else [cache]
    for part in parts:
        assert all(hasattr(layer, "reorder_cache") for layer in part.layers), relies_on("layers that can be reordered")


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "t5", "whisper", "mamba", "llava", "qwen2_vl"])
def test_prompts_are_copied_by_the_shared_method_and_read_once(name: str) -> None:
    asked_of = session(name)[0]
    assert asked_of._copies == 1, relies_on(f"GenerationMixin._expand_inputs_for_generation for {name}")


def test_settings_and_processors() -> None:
    asked_of, processors, criteria = session("gpt2", prefix_allowed_tokens_fn=lambda row, ids: [5, 6])
    for name in ("_eos_token_tensor", "_pad_token_tensor"):
        assert isinstance(getattr(asked_of.config, name, None), Tensor), relies_on(f"GenerationConfig.{name}")
    counts = [getattr(processor, "_num_beams", None) for processor in processors]
    assert counts == [3], relies_on("PrefixConstrainedLogitsProcessor._num_beams")
    lengths = [criterion.max_length for criterion in criteria if hasattr(criterion, "max_length")]
    assert lengths == [7 + 4], relies_on("MaxLengthCriteria.max_length")


def test_offloading_is_said_by_the_cache() -> None:
    from transformers import DynamicCache

    assert DynamicCache(offloading=False).offloading is False, relies_on("Cache.offloading")
