"""A tiny random encoder as people have them: a folder of sentence-transformers that ends with `Normalize`."""

from pathlib import Path

import pytest

TEXTS = [
    "the cat sat on the mat",
    "a dark and stormy night",
    "rain fell",
    "the dog sat in the rain",
    "the mat",
    "it was",
]


def tiny_encoder(place: Path, *, normalize: bool = True) -> Path:
    """Two layers of 16, the mean over tokens, and a prompt; written to a folder in `place`."""
    library = pytest.importorskip("sentence_transformers")
    from kilter.hosts.sentence_modules import stock
    from tests.decoding.encoders import encoder, tokenizer

    encoder("bert").save_pretrained(place / "bert")
    tokenizer("bert").save_pretrained(place / "bert")
    layers = stock()
    modules = [layers.Transformer(str(place / "bert")), layers.Pooling(16, pooling_mode="mean")]
    modules += [layers.Normalize()] * normalize
    model = library.SentenceTransformer(modules=modules, device="cpu", prompts={"query": "the"})
    model.save_pretrained(str(place / "encoder"), create_model_card=False)
    return place / "encoder"
