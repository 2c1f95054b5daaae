"""States of stock encoder–decoders, and the way from them to logits."""

from typing import Any

import pytest
import torch

from tests.hosts.pairs import FAMILIES, VOCABULARY, WIDTH, batch, model_of

pytestmark = pytest.mark.host


def states_of(model: Any, **given: Any) -> Any:
    from kilter.hosts.seq2seq_states import output_states

    return output_states(model, **given)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_makes_the_model_s_logits(family: str, tied: bool) -> None:
    model, given = model_of(family, tie_word_embeddings=tied), batch()
    states = states_of(model, **given)
    plain = model(**given)
    assert torch.equal(states.output.loss, plain.loss)
    assert torch.equal(states.source_states, plain.encoder_last_hidden_state)
    assert torch.equal(states.source_mask, given["attention_mask"].bool())
    assert states.target_states.shape == (4, 5, WIDTH)
    assert states.target_states.requires_grad
    torch.testing.assert_close(states.head(states.target_states), plain.logits)
    assert torch.equal(states.head.logits, plain.logits)
    assert states.head.weight is model.get_output_embeddings().weight


def test_states_of_t5_are_the_rescaled_ones() -> None:
    model, given = model_of("t5"), batch()
    states = states_of(model, **given, output_hidden_states=True)
    last = states.output.decoder_hidden_states[-1]
    torch.testing.assert_close(states.target_states, last * WIDTH**-0.5)


def test_the_head_takes_states_of_any_lead_and_of_another_type() -> None:
    model = model_of("bart").bfloat16()
    states = states_of(model, **batch())
    made = states.head(states.target_states.float()[:, None])
    torch.testing.assert_close(made[:, 0], states.head.logits, atol=0.1, rtol=0.02)


def test_the_head_works_in_the_type_of_the_pass() -> None:
    model = model_of("t5")
    with torch.autocast("cpu", torch.bfloat16):
        states = states_of(model, **batch())
    assert states.head(states.target_states).dtype == torch.bfloat16  # outside of it too
    torch.testing.assert_close(states.head(states.target_states), states.head.logits)


def test_no_mask_is_all_and_a_tuple_is_never_asked_for() -> None:
    given = batch()
    del given["attention_mask"]
    assert states_of(model_of("marian"), **given, return_dict=False).source_mask is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails: bool) -> None:
    model = model_of("t5")
    if fails:
        with pytest.raises(ValueError, match="input_ids"):
            states_of(model)
    else:
        states_of(model, **batch())
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_what_has_no_source_or_no_output_layer_is_refused() -> None:
    import transformers as hf

    tiny = hf.GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2)
    with pytest.raises(TypeError, match="GPT2LMHeadModel, a causal model"):
        states_of(hf.GPT2LMHeadModel(tiny), **batch())
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    masked = hf.BertForMaskedLM(hf.BertConfig(vocab_size=VOCABULARY, **sizes))
    with pytest.raises(TypeError, match="BertForMaskedLM, no encoder-decoder"):
        states_of(masked, **batch())
    with pytest.raises(TypeError, match="T5EncoderModel, no encoder-decoder"):
        states_of(hf.T5EncoderModel(model_of("t5").config), **batch())
    with pytest.raises(TypeError, match="T5Model has no such layer"):
        states_of(hf.T5Model(model_of("t5").config), **batch())
    with pytest.raises(TypeError, match="got Linear"):
        states_of(torch.nn.Linear(2, 2), **batch())


def test_a_mask_of_another_shape_is_named() -> None:
    from kilter.hosts.seq2seq_states import Caught

    model, given = model_of("t5"), batch()
    caught = Caught(model)
    output = model(**given)
    with pytest.raises(ValueError, match=r"attention_mask must be \(batch, source\).*\(4, 7\), got \(4, 14\)"):
        caught.take({"attention_mask": torch.ones(4, 14)}, output)  # as of sounds, whose states are fewer
    with pytest.raises(ValueError, match="shows no states"):
        caught.take(given, output)  # once taken they are gone
