"""Tiny random encoders of both kinds, with tokenizers that know a few words: one file for all ranker tests."""

from typing import Any

import torch

TEXTS = [
    "the cat sat on the mat and the dog looked on",
    "a dark and stormy night it was",
    "rain fell in torrents",
    "the dog sat in the rain",
]
WORDS = sorted({word for text in TEXTS for word in text.split()} | {"pre", "suffi"})
KINDS = ("bert", "t5")


def tokenizer(kind: str) -> Any:
    """Words; BERT's has special tokens on both sides, T5's an end of sequence only."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<s>"]
    vocabulary = {word: i for i, word in enumerate(special + WORDS)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if kind == "bert" else "$A </s>", special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )


def encoder(kind: str, seed: int = 0, size: int = 16) -> Any:
    """Two layers, weights large enough that texts differ."""
    from transformers import BertConfig, BertModel, T5EncoderModel

    torch.manual_seed(seed)
    vocab = 4 + len(WORDS)
    if kind == "bert":
        return BertModel(
            BertConfig(
                vocab_size=vocab,
                hidden_size=size,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=40,
                initializer_range=0.5,
                hidden_dropout_prob=0.1,
            )
        ).eval()
    return T5EncoderModel(t5_config(size)).eval()


def t5_config(size: int = 16) -> Any:
    """The gated, untied T5 1.1."""
    from transformers import T5Config

    return T5Config(
        vocab_size=4 + len(WORDS),
        d_model=size,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


def scorer(kind: str = "bert", seed: int = 0, **options: Any) -> Any:
    """A ranker with a random projection."""
    from kilter.decoding import RankGenScorer

    projection = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)) / 4
    return RankGenScorer(encoder(kind, seed), tokenizer(kind), **{"projection": projection} | options)
