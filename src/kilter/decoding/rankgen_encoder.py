"""What RankGen's scorer asks of an encoder and its tokenizer, and how it cuts texts for them.

Each side of a pair is told by a leading word. Its ids, with the special tokens around a text, are the frame of that
side, which cutting leaves whole.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kilter.core.checks import same_shape, whole

Frame = tuple[list[int], list[int]]
"""Ids that stand before every text of a side, and special ones after it."""

NO_ENCODER = (
    "encoder must be a transformers encoder that returns last_hidden_state, got {}; load it with AutoModel, or of an "
    "encoder–decoder model with AutoModelForTextEncoding"
)


def check_encoder(encoder: Any) -> None:
    """Refuse what is no transformers encoder, or reads from left to right only.

    Raises:
        TypeError, ValueError: see `RankGenScorer`.
    """
    if not hasattr(encoder, "config") or getattr(encoder, "decoder", None) is not None or hasattr(encoder, "lm_head"):
        raise TypeError(NO_ENCODER.format(type(encoder).__name__))
    if any(getattr(module, "is_causal", False) is True for module in encoder.modules()):
        raise ValueError(
            f"{type(encoder).__name__} reads from left to right, so that its first position never sees the text; "
            "take an encoder that reads both ways, such as T5EncoderModel or BertModel"
        )


def positions(encoder: Any) -> int:
    """How many tokens the encoder holds; RoBERTa's kind counts positions from behind the padding index."""
    held = getattr(encoder.config, "max_position_embeddings", None) or 10**9
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    before = getattr(table, "padding_idx", None)
    return held if before is None else held - before - 1


def square(encoder: Any, projection: bool | Tensor) -> nn.Linear | None:
    """The matrix behind the encoder: of its size, without bias, on its device; None for False."""
    if projection is False:
        return None
    size = encoder.config.hidden_size
    weight = torch.eye(size) if projection is True else projection
    same_shape("projection", weight, (size, size), "the encoder's states")
    like = next(encoder.parameters())
    linear = nn.Linear(size, size, bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone().to(like.device, like.dtype))
    return linear


def frame_of(tokenizer: Any, word: str) -> Frame:
    """The frame of the side that `word` tells."""
    full, bare = tokenizer(word.strip())["input_ids"], tokenizer(word.strip(), add_special_tokens=False)["input_ids"]
    if not bare:
        raise ValueError(f"the tokenizer makes nothing of the leading word {word!r}; choose other words")
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare) + len(bare)
    return full[:start], full[start:]


def token_limit(name: str, given: int | None, default: int, holds: int, tokenizer: Any, frame: Frame) -> int:
    """How many tokens a text may have, its frame counted: as `given`, or what there is room for up to `default`."""
    limit = min(default, holds, tokenizer.model_max_length) if given is None else given
    whole(name, limit)
    least = 1 + sum(map(len, frame))
    if not least <= limit <= holds:
        raise ValueError(f"{name} must be within {least}..{holds}, what the encoder holds, got {limit}")
    return limit


def check_texts(texts: Any, name: str, *, empty: bool = False) -> None:
    """Refuse what is no list of strings, and strings with nothing in them unless `empty` allows it."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        got = "one string" if isinstance(texts, str) else "other things among them"
        raise TypeError(f"{name} must be a list of strings, got {got}; of token ids, give the search a tokenizer")
    for i, text in enumerate(() if empty else texts):
        if not text.strip():
            raise ValueError(f"{name}: text {i} is empty; there is nothing to encode, leave it out")


def prefix_ids(tokenizer: Any, texts: Sequence[str], limit: int, frame: Frame) -> list[list[int]]:
    """Ids of prefixes with their leading word; of what is too long the end is kept."""
    word = len(frame[0])
    return [
        row if len(row) <= limit else row[:word] + row[word - limit :]
        for row in tokenizer(list(texts), verbose=False)["input_ids"]
    ]


def continuation_ids(tokenizer: Any, texts: Sequence[str], limit: int, frame: Frame) -> list[list[int]]:
    """Ids of continuations with their leading word; of what is too long the start is kept, and a warning says so."""
    rows = tokenizer(list(texts), verbose=False)["input_ids"]
    if any(len(row) > limit for row in rows):
        warnings.warn(  # always in the same words, so that Python says it once
            f"there are continuations of more than continuation_tokens={limit} tokens; what is beyond is not "
            "scored: raise continuation_tokens, or write less",
            stacklevel=2,
        )
    end = len(frame[1])
    return [row if len(row) <= limit else row[: limit - end] + row[len(row) - end :] for row in rows]
