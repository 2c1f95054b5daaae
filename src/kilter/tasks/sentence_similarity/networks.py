"""The encoders of the task: small ones from wheels, a tiny random one, the user's own; and how they are changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["given", "mean", "cls"]


def fresh_encoder(name: str, texts: Sequence[str], device: str, pooling: Pooling) -> "SentenceTransformer":
    """An encoder before any training: minilm-3, minilm, random, a folder or a hub id.

    Args:
        name: of the encoder.
        texts: from which the random one learns its words.
        device: cpu, cuda or mps.
        pooling: how vectors of tokens become one of the text.

    Raises:
        ValueError: it pools by nothing that could be changed.
    """
    from kilter.data.encoders import is_ours, sentence_encoder
    from kilter.hosts.sentences import load_sentences
    from kilter.models.tiny_text import tiny_sentence_encoder

    if name == "random":
        encoder = tiny_sentence_encoder(texts[:2000], device=device)
    elif is_ours(name):
        encoder = sentence_encoder(name, device=device)
    else:  # with a Normalize at its end, if it has one: what is saved is a model of the same kind
        encoder = load_sentences("SentenceTransformer", name, device)
    return encoder if pooling == "given" else _pooled(encoder, name, pooling)


def _pooled(encoder: "SentenceTransformer", name: str, pooling: str) -> "SentenceTransformer":
    from kilter.hosts.sentence_modules import stock, width

    kind = stock().Pooling
    places = [place for place, part in enumerate(encoder) if isinstance(part, kind)]
    if len(places) != 1:
        raise ValueError(f"pooling={pooling}: {name} has {len(places)} pooling modules, and one can be changed")
    encoder[places[0]] = kind(width(encoder[0]), pooling)
    return encoder


def load(folder: Path, device: str) -> "SentenceTransformer":
    """An encoder that was saved by an arm, with the stock library alone."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device)
