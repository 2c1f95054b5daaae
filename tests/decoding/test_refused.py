"""What was once silently wrong or failed deep inside: each is right now, or says what to do."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
)

from kilter.decoding import (
    BestOfN,
    DiverseBeamSearch,
    MMIBeamSearch,
    RankGenSearch,
    SiblingBeamSearch,
    diverse_beam_search,
)
from tests.decoding import tiny

pytestmark = pytest.mark.host

GROUPS = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "num_return_sequences": 4}
BEAMS = {"num_beams": 4, "num_return_sequences": 4}


def generate(decoder: Any, name: str = "gpt2", **asked: Any) -> Any:
    made = tiny.model(name)
    return tiny.generate(made, tiny.prompt(made, 1), **{"custom_generate": decoder, "max_new_tokens": 4} | asked)


class Spoil(LogitsProcessor):
    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return torch.full_like(scores, self.value)


@pytest.mark.parametrize("value", [float("nan"), -float("inf")])
@pytest.mark.parametrize("decoder", [BestOfN("log_prob", 2), RankGenSearch("log_prob", block=2)])
def test_no_token_to_draw(decoder: Any, value: float) -> None:
    with pytest.raises(ValueError, match=r"no token can be drawn; look at the model's logits"):
        generate(decoder, logits_processor=LogitsProcessorList([Spoil(value)]))


def test_nan_scores() -> None:
    with pytest.raises(ValueError, match="scores are NaN"):
        generate(diverse_beam_search, logits_processor=LogitsProcessorList([Spoil(float("nan"))]), **GROUPS)


@pytest.mark.parametrize(
    "decoder", [SiblingBeamSearch(rank_penalty=1.0), MMIBeamSearch(weight=0.5), BestOfN("log_prob")]
)
@pytest.mark.parametrize("groups", [{"num_beam_groups": 2}, {"diversity_penalty": 0.5}])
def test_groups_are_not_ignored(decoder: Any, groups: dict[str, Any]) -> None:
    beams = {} if isinstance(decoder, BestOfN) else {"num_beams": 4}
    with pytest.raises(
        ValueError, match=f"{next(iter(groups))}=.*has no groups; leave it out, or use DiverseBeamSearch"
    ):
        generate(decoder, **groups, **beams)


@pytest.mark.parametrize("setting", [{"top_k": 3}, {"min_p": 0.3}, {"epsilon_cutoff": 0.1}, {"top_p": 0.5}])
@pytest.mark.parametrize("decoder", [BestOfN("log_prob", 2), DiverseBeamSearch(sample_groups=True)])
@pytest.mark.filterwarnings("ignore")
def test_sampling_settings_are_not_ignored(decoder: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* has no effect without do_sample=True"):
        generate(decoder, **setting)


def test_a_token_without_prior_is_no_infinite_gain() -> None:
    """And one that is banned stays so."""
    made, other = tiny.model("gpt2"), tiny.model("gpt2", seed=1)
    head = other.get_output_embeddings()
    kept = head.bias.data.clone()
    head.bias.data[40:] = -float("inf")
    asked = {"custom_generate": MMIBeamSearch(weight=0.5, unconditional=other), "max_new_tokens": 4} | BEAMS
    try:
        found = tiny.generate(made, tiny.prompt(made, 1), bad_words_ids=[[41]], **asked)
    finally:
        head.bias.data.copy_(kept)
    assert found.sequences_scores.isfinite().all()
    assert 41 not in found.sequences[:, 7:]


def test_the_prior_of_a_model_that_reads_no_text() -> None:
    with pytest.raises(ValueError, match=r"reads no text.* as unconditional"):
        generate(MMIBeamSearch(weight=0.5), "whisper", **BEAMS)
    with pytest.raises(TypeError, match="unconditional: str is not a model"):
        generate(MMIBeamSearch(weight=0.5, unconditional="gpt2"), **BEAMS)


def test_vectors_of_the_language_that_is_written() -> None:
    """Marian may have two vocabularies; the charge is by that of the decoder."""
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    sizes = tiny.SEQ2SEQ | {"vocab_size": 12, "decoder_vocab_size": 30, "pad_token_id": 11, "eos_token_id": 2}
    model = MarianMTModel(MarianConfig(**sizes | {"decoder_start_token_id": 3}, share_encoder_decoder_embeddings=False))
    found = model.eval().generate(
        torch.tensor([[4, 5, 2]]), custom_generate=DiverseBeamSearch(diversity="embedding"), max_new_tokens=4, **GROUPS
    )
    assert len(found) == 4


def test_an_encoder_decoder_of_vision_and_gpt2() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    eye = ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
        )
    )
    mouth = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=20, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True, bos_token_id=1, eos_token_id=2
        )
    )
    model = VisionEncoderDecoderModel(encoder=eye, decoder=mouth).eval()
    model.generation_config.decoder_start_token_id, model.generation_config.pad_token_id = 1, 0
    images = torch.randn(2, 3, 8, 8)
    asked = {"max_new_tokens": 5, "num_beams": 3, "num_return_sequences": 3}
    ours = model.generate(images, custom_generate=diverse_beam_search, num_beam_groups=1, **asked)
    assert torch.equal(ours, model.generate(images, **asked))


def test_more_tokens_than_positions() -> None:
    made = tiny.model("gpt2")
    prompt = {"input_ids": torch.full((1, 60), 7)}
    with pytest.raises(
        ValueError, match=r"max_new_tokens=10: with a prompt of 60 tokens that is more than the 64 positions"
    ):
        tiny.generate(made, prompt, custom_generate=diverse_beam_search, max_new_tokens=10, **GROUPS)
    full = tiny.generate(made, prompt, custom_generate=diverse_beam_search, max_new_tokens=5, **GROUPS)
    assert full.sequences.shape[1] == 65  # the last token is not read, so that it needs no position
    with pytest.raises(ValueError, match="the prompt has 70 tokens, but GPT2LMHeadModel has positions for 64"):
        tiny.generate(made, {"input_ids": torch.full((1, 70), 7)}, custom_generate=BestOfN("log_prob"), max_length=71)


@pytest.mark.parametrize("decoder", [diverse_beam_search, BestOfN("log_prob", 4)])
def test_a_length_that_the_prompt_has_already(decoder: Any) -> None:
    """Beam search of transformers gives one token."""
    groups = GROUPS if decoder is diverse_beam_search else {}
    short = StoppingCriteriaList([MaxLengthCriteria(2)])
    assert generate(decoder, stopping_criteria=short, **groups).sequences.shape[1] == 8


def test_a_cache_of_the_users_own() -> None:
    made = tiny.model("llama")
    name = "cache" if "cache" in inspect.signature(type(made).forward).parameters else "past_key_values"
    inputs = tiny.prompt(made, 2)
    expected = tiny.generate(made, inputs, custom_generate=diverse_beam_search, max_new_tokens=4, **GROUPS)
    for copies in (1, 4):
        rows = {name: value.repeat_interleave(copies, 0) for name, value in inputs.items()}
        cache = DynamicCache(config=made.config)
        made(**{name: value[:, :5] for name, value in rows.items()}, **{name: cache})
        found = tiny.generate(
            made, inputs, custom_generate=diverse_beam_search, max_new_tokens=4, **{name: cache}, **GROUPS
        )
        assert torch.equal(found.sequences, expected.sequences)


def test_fewer_hypotheses_than_asked_for_are_not_certain_ones() -> None:
    beams = BEAMS | {"num_beam_groups": 1}
    found = generate(diverse_beam_search, prefix_allowed_tokens_fn=lambda i, ids: [9], **beams)
    assert found.sequences_log_probs[0].isfinite()
    assert (found.sequences_scores[1:] < -1e8).all()
    assert (found.sequences_log_probs[1:] < -1).all()


def test_more_answers_than_candidates() -> None:
    search = RankGenSearch("log_prob", beams=4, samples=2, block=4)
    with pytest.raises(ValueError, match="num_return_sequences=4, but the only block has 2 candidates"):
        generate(search, do_sample=True, num_return_sequences=4)
    ends = tiny.model("gpt2", eos_bias=60.0)
    found = tiny.generate(
        ends, tiny.prompt(ends, 1), custom_generate=search, max_new_tokens=8, do_sample=True, num_return_sequences=4
    )
    assert len(found.sequences) == 4
    assert found.ranker_scores.isfinite().tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"generator": 3}, TypeError, "generator: give a torch.Generator"),
        ({"scorer": 3}, TypeError, "scorer: int is no callable"),
    ],
)
def test_wrong_types(wrong: dict[str, Any], error: type, message: str, own_messages: None) -> None:
    with pytest.raises(error, match=message):
        RankGenSearch(**{"scorer": "log_prob"} | wrong)


@pytest.mark.parametrize("returned", [None, ["a", "b"], [[1], [2, 3]]])
def test_a_scorer_that_returns_no_numbers(returned: Any) -> None:
    with pytest.raises(ValueError, match="scorer:"):
        generate(BestOfN(lambda prefixes, continuations: returned, 2))


@pytest.mark.parametrize("wrong", [{"diversity": None}, {"n": 2.5}])
def test_wrong_options(wrong: dict[str, Any], own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        DiverseBeamSearch(**wrong)


def test_a_config_with_a_penalty_and_no_groups() -> None:
    """From a config an unset number of groups cannot be told from 1, which is beam search: it is said."""
    made = tiny.model("gpt2")
    config = GenerationConfig(num_beams=4, diversity_penalty=0.5, max_new_tokens=3)
    with pytest.warns(UserWarning, match="num_beam_groups is 1, so diversity_penalty=0.5 changes nothing"):
        made.generate(**tiny.prompt(made, 1), generation_config=config, custom_generate=diverse_beam_search)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "num_beam_groups is 1: this is greedy search; for diverse texts give num_beams and num_beam_groups"),
        ({"num_beams": 4}, "num_beam_groups is 1: this is beam search"),
        (
            {"num_beams": 4, "num_beam_groups": 1, "diversity_penalty": 0.5},
            "num_beam_groups is 1, so diversity_penalty=0.5 changes nothing: this is beam search",
        ),
        ({"num_beam_groups": 1, "diversity_penalty": 0.5}, "diversity_penalty=0.5 changes nothing: this is greedy"),
    ],
)
def test_no_groups_to_keep_apart(asked: dict[str, Any], said: str) -> None:
    with pytest.warns(UserWarning, match=said) as seen:
        generate(diverse_beam_search, **asked)
    assert [Path(one.filename) for one in seen] == [Path(tiny.__file__)], "the warning points at who called generate"


def test_one_group_is_no_mistake_where_it_is_asked_for() -> None:
    for beams in (1, 4):
        generate(diverse_beam_search, num_beams=beams, num_beam_groups=1)


@pytest.mark.parametrize("decoder", [BestOfN("log_prob", 2), SiblingBeamSearch(rank_penalty=1.0)])
def test_scores_of_each_step(decoder: Any) -> None:
    """A dict without them would be missed late; without a dict transformers ignores the setting."""
    beams = {} if isinstance(decoder, BestOfN) else BEAMS
    with pytest.warns(UserWarning, match="output_scores=True: .* return sequences_scores .* without it; leave it out"):
        found = generate(decoder, output_scores=True, **beams)
    assert found.sequences_scores is not None
