"""Tiny random models of many families, and inputs for them.

`MODELS` names the builders. Every model has a vocabulary of 48, its logits are spread as a trained model's are, and
`prompt` gives what its `generate` takes. `full_pass` computes next-token log-probabilities without a cache, without
padding and one input at a time, for comparison.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

VOCAB = 48
PAD, BOS, EOS, IMAGE = 0, 1, 2, 3
SPECIAL = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
DECODER = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 8}
WINDOW = {"sliding_window": 4}
LAYERS = ["sliding_attention", "full_attention"]
SEQ2SEQ = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "decoder_start_token_id": BOS,
    "forced_eos_token_id": None,
}
MAMBA = {"mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 4}
FRAMES, MELS = 16, 8


def _hf(model: str, config: str, settings: dict[str, Any]) -> Any:
    import transformers as hf

    return getattr(hf, model)(getattr(hf, config)(**SPECIAL | settings))


def _causal(name: str, **settings: Any) -> Callable[[], Any]:
    return lambda: _hf(f"{name}ForCausalLM", f"{name}Config", DECODER | settings)


def _gpt2() -> Any:
    sizes = {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return _hf("GPT2LMHeadModel", "GPT2Config", sizes | {"tie_word_embeddings": False})


def _t5() -> Any:
    sizes = {"vocab_size": VOCAB, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    other = {"decoder_start_token_id": BOS, "tie_word_embeddings": False, "dropout_rate": 0.0}
    return _hf("T5ForConditionalGeneration", "T5Config", sizes | other)


def _whisper() -> Any:
    sizes = SEQ2SEQ | {"num_mel_bins": MELS, "max_source_positions": FRAMES // 2, "max_target_positions": 64}
    del sizes["max_position_embeddings"]
    quiet = {"suppress_tokens": None, "begin_suppress_tokens": None}
    return _hf("WhisperForConditionalGeneration", "WhisperConfig", sizes | quiet)


def _llava() -> Any:
    import transformers as hf

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = hf.CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=16)
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=hf.LlamaConfig(**DECODER, **SPECIAL),
        image_token_id=IMAGE,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    return hf.LlavaForConditionalGeneration(config)


def _qwen2_vl() -> Any:
    import transformers as hf

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = hf.Qwen2VLConfig(
        text_config=DECODER | SPECIAL | {"rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4},
        image_token_id=IMAGE,
        vision_start_token_id=4,
        tie_word_embeddings=False,
    )
    return hf.Qwen2VLForConditionalGeneration(config)


MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": _gpt2,
    "llama": _causal("Llama"),
    "qwen2": _causal("Qwen2"),
    "qwen3": _causal("Qwen3", **HEADS),
    "gemma2": _causal("Gemma2", **HEADS, **WINDOW, layer_types=LAYERS, query_pre_attn_scalar=8),
    "gemma3": lambda: _hf(
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        DECODER | HEADS | WINDOW | {"layer_types": LAYERS, "query_pre_attn_scalar": 8},
    ),
    "mistral": _causal("Mistral", **WINDOW),
    "t5": _t5,
    "bart": lambda: _hf("BartForConditionalGeneration", "BartConfig", SEQ2SEQ),
    "marian": lambda: _hf("MarianMTModel", "MarianConfig", SEQ2SEQ),
    "whisper": _whisper,
    "llava": _llava,
    "qwen2_vl": _qwen2_vl,
    "mamba": _causal("Mamba", state_size=8),
    "recurrent_gemma": _causal(
        "RecurrentGemma", attention_window_size=4, lru_width=32, block_types=["recurrent", "attention"]
    ),
    "lfm2": _causal("Lfm2", layer_types=["conv", "full_attention"]),
    "jamba": _causal(
        "Jamba", num_experts=2, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False, mamba_d_state=8
    ),
    "bamba": _causal("Bamba", **MAMBA, attn_layer_indices=[1]),
    "falcon_h1": _causal("FalconH1", **MAMBA, mamba_d_ssm=64),
}
SPEECH = {"whisper"}
SEES = {"llava", "qwen2_vl"}
TEXT_TO_TEXT = {"t5", "bart", "marian"}
STATEFUL = {"mamba", "recurrent_gemma", "lfm2", "jamba", "bamba", "falcon_h1"}
CAUSAL = sorted(set(MODELS) - SPEECH - SEES - TEXT_TO_TEXT - STATEFUL)


@cache
def model(name: str, seed: int = 0, eos_bias: float = -4.0, pad_is_eos: bool = False) -> Any:
    """The model `name`, its logits of standard deviation 2.5 and that of the end raised by `eos_bias`."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.manual_seed(seed)
    made = MODELS[name]().eval()
    made.name = name
    if pad_is_eos:
        made.config.pad_token_id = made.generation_config.pad_token_id = EOS
    _decide(made, eos_bias)
    return made


@torch.no_grad()
def _decide(made: Any, eos_bias: float) -> None:
    """A new output layer, with a bias."""
    old = made.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features)
    head.weight.copy_(torch.randn(head.weight.shape))
    head.bias.zero_()
    made.set_output_embeddings(head)
    head.weight.mul_(2.5 / made(**first_pass(made, prompt(made, 1))).logits[0, -1].std())
    head.bias[[PAD, BOS, IMAGE]] = -30.0
    head.bias[EOS] = -30.0 if eos_bias is None else eos_bias


def prompt(made: Any, batch: int = 2, ragged: bool = False, seed: int = 0, length: int = 7) -> dict[str, Tensor]:
    """What `generate` takes: `ragged` shortens every input but the first, left padded where the decoder reads it."""
    draw = torch.Generator().manual_seed(seed)
    if made.name in SPEECH:
        return {"input_features": torch.randn(batch, MELS, FRAMES, generator=draw)}
    length += 4 * (made.name in SEES)
    ids = torch.randint(5, VOCAB, (batch, length), generator=draw)
    lengths = length - 2 * ragged * (torch.arange(batch) % 3)
    place = torch.arange(length).expand(batch, -1)
    mask = place < lengths[:, None] if made.name in TEXT_TO_TEXT else place >= length - lengths[:, None]
    inputs = {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long()}
    if made.name in SEES:
        inputs["input_ids"][:, -5:-1] = IMAGE
        inputs |= _picture(made, inputs["input_ids"], draw)
    return inputs


def _picture(made: Any, ids: Tensor, draw: torch.Generator) -> dict[str, Tensor]:
    """One picture of four tokens for each input."""
    batch = len(ids)
    if made.name == "llava":
        return {"pixel_values": torch.randn(batch, 3, 8, 8, generator=draw)}
    return {
        "pixel_values": torch.randn(batch * 16, 3 * 2 * 4 * 4, generator=draw),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * batch),
        "mm_token_type_ids": (ids == IMAGE).long(),
    }


def generate(made: Any, inputs: dict[str, Tensor], **settings: Any) -> Any:
    """`generate` with a dict of results. Whisper's own returns the best `num_return_sequences` times over: past it."""
    settings = {"output_scores": "custom_generate" not in settings} | settings
    from transformers import GenerationMixin

    call = GenerationMixin.generate if made.name in SPEECH else type(made).generate
    return call(made, **inputs, return_dict_in_generate=True, **settings)


def said_before(made: Any, inputs: dict[str, Tensor]) -> int:
    """Where the new tokens begin in what `generate` returns."""
    return 1 if made.config.is_encoder_decoder else inputs["input_ids"].shape[1]


def alone(made: Any, inputs: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """Input `i` of a batch by itself, its padding gone."""
    batch = len(inputs.get("attention_mask", inputs.get("input_features")))
    one = {name: value.chunk(batch)[i] for name, value in inputs.items()}
    if "attention_mask" in one:
        real = one["attention_mask"][0].bool()
        per_token = {"input_ids", "attention_mask", "mm_token_type_ids"}
        one = {name: value[:, real] if name in per_token else value for name, value in one.items()}
    return one


def first_pass(made: Any, inputs: dict[str, Tensor], said: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Arguments of one forward pass over a single input and the tokens `said` after it."""
    if made.config.is_encoder_decoder:
        return inputs | {"decoder_input_ids": torch.tensor([[BOS, *said]])}
    ids = torch.cat([inputs["input_ids"], torch.tensor([said], dtype=torch.long)], 1)
    kinds = {"mm_token_type_ids": (ids == IMAGE).long()} if "mm_token_type_ids" in inputs else {}
    return inputs | kinds | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def full_pass(made: Any, inputs: dict[str, Tensor]) -> Callable[[tuple[int, ...]], list[float]]:
    """log p of each next token after the tokens said, by a whole pass without a cache."""

    @cache
    @torch.no_grad()
    def log_probs(said: tuple[int, ...]) -> list[float]:
        logits = made(**first_pass(made, inputs, said), use_cache=False).logits
        return logits[0, -1].double().log_softmax(-1).tolist()

    return log_probs
