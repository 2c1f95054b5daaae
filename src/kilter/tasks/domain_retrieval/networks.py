"""The encoders of the task: small ones from wheels, a tiny random one, the user's own; and how they are told a domain.

A domain is told by its token at the beginning of a text, which an encoder with experts and a dense one read alike.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import read_json

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_WORDS = 2000
"""Texts from which the random encoder learns its words."""


def fresh_encoder(name: str, texts: Iterable[str], seed: int, device: str) -> "SentenceTransformer":
    """An encoder before any training: minilm-3, minilm, random, a folder or a hub id."""
    from kilter.data.encoders import is_ours, sentence_encoder
    from kilter.hosts.sentences import load_sentences
    from kilter.models.tiny_text import tiny_sentence_encoder

    if name == "random":
        return tiny_sentence_encoder(islice(texts, _WORDS), seed, device)
    if is_ours(name):
        return sentence_encoder(name, device=device)
    return load_sentences("SentenceTransformer", name, device)  # with its Normalize, as it is to be saved again


def with_tokens(encoder: "SentenceTransformer", domains: Sequence[str]) -> "SentenceTransformer":
    """The same encoder, in place, with a token for each domain that begins as the token that begins every text.

    It stays an ordinary model, in which the domain is a prompt: `encode(texts, prompt_name="law")`.
    """
    import torch
    from tokenizers import AddedToken

    from kilter.hosts.expert_texts import token_of
    from kilter.hosts.experts import encoder_of

    inner, _ = encoder_of(encoder)
    tokenizer: Any = encoder.tokenizer
    tokens = [token_of(one) for one in domains]
    first = tokenizer("a")["input_ids"][0]
    rows = inner.get_input_embeddings().weight.shape[0]
    tokenizer.add_tokens([AddedToken(one, rstrip=True, normalized=False) for one in tokens], special_tokens=True)
    inner.resize_token_embeddings(max(rows, len(tokenizer)), mean_resizing=False)
    with torch.no_grad():
        weight = inner.get_input_embeddings().weight
        weight[tokenizer.convert_tokens_to_ids(tokens)] = weight[first].clone()
    encoder.prompts.update(dict(zip(domains, tokens, strict=True)))
    return encoder


def marks(encoder: "SentenceTransformer", domains: Sequence[str]) -> list[str]:
    """What is put before texts of each domain: its token and a blank, or nothing where the encoder knows none."""
    from kilter.hosts.expert_texts import token_of

    known = getattr(encoder.tokenizer, "get_vocab", dict)()
    return [f"{token} " if (token := token_of(domain)) in known else "" for domain in domains]


def with_domain(encoder: "SentenceTransformer", rows: "Dataset", domains: Sequence[str]) -> "Dataset":
    """Training rows whose texts begin with the mark of their domain; the column label says which that is."""
    from datasets import Dataset

    before, labels = marks(encoder, domains), rows["label"]
    if not any(before):
        return rows
    texts = {
        name: [before[label] + text for text, label in zip(rows[name], labels, strict=True)]
        for name in rows.column_names
        if name != "label"
    }
    return Dataset.from_dict({**texts, "label": [*labels]})


def encode(encoder: "SentenceTransformer", texts: Sequence[str], max_tokens: int, domain: str | None) -> "Tensor":
    """Vectors of texts, which are cut at `max_tokens`; of a domain, if it is told."""
    from kilter.hosts import sentences

    limit = encoder.max_seq_length
    encoder.max_seq_length = max_tokens if limit is None else min(limit, max_tokens)
    before = "" if domain is None else marks(encoder, [domain])[0]
    vectors = sentences.encode(encoder, [before + text for text in texts], batch_size=64)
    encoder.max_seq_length = limit
    return vectors


def load(folder: Path, device: str) -> "SentenceTransformer":
    """An encoder that was saved by an arm, with experts or with the stock library alone."""
    from sentence_transformers import SentenceTransformer

    from kilter.hosts import sentence_transformers as host
    from kilter.hosts.expert_models import MODEL_TYPE

    if read_json(folder / "config.json").get("model_type") == MODEL_TYPE:
        return host.load(folder, device=device)
    return SentenceTransformer(str(folder), device=device)
