"""The encoder that learns: a pretrained one, or a tiny random one to try the machinery with."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kilter.lab.files import write_whole

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from kilter.tasks.bitext_retrieval.judging import Encoded


def fresh_encoder(name: str, texts: Iterable[str], seed: int, device: str) -> "SentenceTransformer":
    """A SentenceTransformer before any training: gemma-6 and the like, random, a folder or a hub id."""
    if name == "random":
        from kilter.models.tiny_text import tiny_sentence_encoder

        return tiny_sentence_encoder(texts, seed, device)
    from kilter.data.encoders import sentence_encoder

    return sentence_encoder(name, device=device)


def freeze(encoder: "SentenceTransformer", *, embeddings: bool, layers: int) -> None:
    """Leave the token embeddings and the lowest layers as they are.

    Raises:
        ValueError: it has no such embeddings or so few layers.
    """
    from torch import nn
    from transformers import PreTrainedModel

    model = next((one for one in encoder.modules() if isinstance(one, PreTrainedModel)), None)
    if model is None:
        if embeddings or layers:
            raise ValueError("freeze_embeddings: the encoder is no transformers model; add --no-freeze-embeddings")
        return
    if embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if not layers:
        return
    count = getattr(model.config, "num_hidden_layers", 0)
    stacks = [one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) == count]
    if layers >= count or not stacks:
        raise ValueError(f"freeze_layers={layers} must be less than the encoder's {count} layers")
    stacks[0][:layers].requires_grad_(False)


def encode(encoder: "SentenceTransformer", texts: Sequence[str], max_tokens: int) -> "Encoded":
    """Vectors of texts, which are cut at `max_tokens`."""
    from kilter.hosts import sentences
    from kilter.tasks.bitext_retrieval.judging import Encoded

    limit = encoder.max_seq_length
    encoder.max_seq_length = max_tokens if limit is None else min(limit, max_tokens)
    vectors = sentences.encode(encoder, texts, batch_size=64)
    encoder.max_seq_length = limit
    return Encoded(texts, vectors)


def kept_vectors(file: Path, texts: Sequence[str], make: "Callable[[], Encoded]") -> "Encoded":
    """Vectors of texts from a file, which is written the first time."""
    from safetensors.torch import load_file, save

    from kilter.tasks.bitext_retrieval.judging import Encoded

    if not file.exists():
        write_whole(file, save({"vectors": make().vectors.contiguous()}))
    return Encoded(texts, load_file(file)["vectors"])
