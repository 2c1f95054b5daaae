"""Tiny random models of texts, for trying the machinery in seconds: nothing they say means anything."""

from collections.abc import Iterable
from typing import Any

import torch


def tiny_tokenizer(texts: Iterable[str], size: int = 400) -> Any:
    """Byte-level BPE of these texts, with marks for begin, end and padding."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    marks = ["<pad>", "<s>", "</s>"]
    trained.train_from_iterator(
        list(texts), vocab_size=size, min_frequency=1, special_tokens=marks, show_progress=False
    )
    names: Any = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, model_max_length=512, **names)


def tiny_encoder(tokenizer: Any, seed: int = 0) -> Any:
    """A BERT of two small layers with random weights."""
    from transformers import BertConfig, BertModel

    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(seed)
    return BertModel(BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes)).eval()


def tiny_sentence_encoder(texts: Iterable[str], seed: int = 0, device: str = "cpu") -> Any:
    """A `SentenceTransformer` of two small layers with random weights, which takes the mean over tokens."""
    from tempfile import TemporaryDirectory

    from kilter.hosts.sentences import load_sentences

    tokenizer = tiny_tokenizer(texts)
    with TemporaryDirectory() as folder:
        tiny_encoder(tokenizer, seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load_sentences("SentenceTransformer", folder, device)


def tiny_lm(tokenizer: Any, seed: int = 0) -> Any:
    """A Llama of two small layers with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: Any = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    marks: Any = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **sizes, **marks)
    ).eval()
