"""The encoders of the task: small ones from wheels, a tiny random one, the user's own; and how they are changed."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["given", "mean", "cls"]

BASES = {
    "minilm": ("minilm", "sentence-transformers/all-MiniLM-L6-v2", "apache-2.0"),
    "gemma": ("gemma3-270m", "google/gemma-3-270m", "gemma"),
}
"""What encoders of ours are cut from, by the beginning of their names: the asset, its hub id and its licence."""


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

    if name == "random":
        encoder = _random(texts, device)
    elif is_ours(name):
        encoder = sentence_encoder(name, device=device)
    else:  # with a Normalize at its end, if it has one: what is saved is a model of the same kind
        encoder = load_sentences("SentenceTransformer", name, device)
    return encoder if pooling == "given" else _pooled(encoder, name, pooling)


def base_of(name: str) -> tuple[str, str, str] | None:
    """Asset, hub id and licence of what an encoder of ours is made of; None for any other."""
    from kilter.data.encoders import is_ours

    return BASES[name.partition("-")[0]] if is_ours(name) else None


def modules() -> Any:
    """The layers of sentence-transformers, which have another place since its version 6."""
    try:
        return import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:
        return import_module("sentence_transformers.models")


def width(part: Any) -> int:
    """Dimensions of the vectors of an encoder, or of the tokens' of its first layer."""
    names = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
    return next(getattr(part, name)() for name in names if hasattr(part, name))


def _random(texts: Sequence[str], device: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    from kilter.models.tiny_text import tiny_encoder, tiny_tokenizer

    layers = modules()
    with TemporaryDirectory() as folder:
        tokenizer = tiny_tokenizer(texts[:2000])
        for part in (tokenizer, tiny_encoder(tokenizer)):
            part.save_pretrained(folder)
        body = layers.Transformer(folder, max_seq_length=64)
    return SentenceTransformer(modules=[body, layers.Pooling(32, "mean")], device=device)


def _pooled(encoder: "SentenceTransformer", name: str, pooling: str) -> "SentenceTransformer":
    kind = modules().Pooling
    places = [place for place, part in enumerate(encoder) if isinstance(part, kind)]
    if len(places) != 1:
        raise ValueError(f"pooling={pooling}: {name} has {len(places)} pooling modules, and one can be changed")
    encoder[places[0]] = kind(width(encoder[0]), pooling)
    return encoder


def load(folder: Path, device: str) -> "SentenceTransformer":
    """An encoder that was saved by an arm, with the stock library alone."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device=device)


def encode(encoder: "SentenceTransformer", texts: Sequence[str]) -> Any:
    """Vectors of texts, `(n, d)`, on the CPU, as the encoder gives them."""
    found: Any = encoder.encode([*texts], batch_size=64, convert_to_tensor=True, show_progress_bar=False)
    return found.float().cpu()


def without_normalize(encoder: "SentenceTransformer") -> "SentenceTransformer":
    """The same layers without a Normalize at the end; the encoder itself stays as it is."""
    from sentence_transformers import SentenceTransformer

    layers: list[Any] = [*encoder]
    while isinstance(layers[-1], modules().Normalize):
        layers.pop()
    return SentenceTransformer(modules=layers, device=str(encoder.device))
