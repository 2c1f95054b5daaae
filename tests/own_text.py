"""Models that write or encode text as users have them: tiny, random, saved with a tokenizer of words."""

from pathlib import Path
from typing import Any

import torch

WORDS = ("the", "a", "steam", "train", "went", "to", "town", "and", "came", "back", "late", "in", "rain", "all", "day")
POSITIONS = 32
SPECIAL = ("<pad>", "</s>", "<unk>")
TEMPLATE = "{% for m in messages %}all {{ m['content'] }} day{% endfor %}"


def word_tokenizer(**tokens: Any) -> Any:
    """A word a token; what is not among `WORDS` is <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate((*SPECIAL, *WORDS))}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>", **tokens)


def writing_model(folder: Path, family: str = "gpt2", *, seed: int = 0, template: bool = False) -> Path:
    """GPT-2 without a pad token, T5, or BART, loud enough to have opinions."""
    import transformers as hf

    torch.manual_seed(seed)
    vocab = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0, "eos_token_id": 1}
    if family == "gpt2":
        tokenizer = word_tokenizer()
        config = hf.GPT2Config(
            n_embd=16, n_layer=2, n_head=2, n_positions=POSITIONS, bos_token_id=1, **vocab | {"pad_token_id": None}
        )
        model: Any = hf.GPT2LMHeadModel(config)
    elif family == "t5":
        tokenizer = word_tokenizer(pad_token="<pad>")
        config = hf.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0, **vocab)
        model = hf.T5ForConditionalGeneration(config)
    else:
        tokenizer = word_tokenizer(pad_token="<pad>")
        sizes = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")}
        config = hf.BartConfig(
            d_model=16,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=POSITIONS,
            bos_token_id=1,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
            **sizes,
            **vocab,
        )
        model = hf.BartForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    if template:
        tokenizer.chat_template = TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoding_model(folder: Path, *, seed: int = 0) -> Path:
    """An encoder of transformers, loud enough to tell texts apart."""
    import transformers as hf

    torch.manual_seed(seed)
    sizes: Any = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vocab: Any = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0, "max_position_embeddings": POSITIONS}
    hf.BertModel(hf.BertConfig(initializer_range=0.5, **sizes, **vocab)).eval().save_pretrained(folder)
    word_tokenizer(pad_token="<pad>").save_pretrained(folder)
    return folder
