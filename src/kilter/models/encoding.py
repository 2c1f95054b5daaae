"""Vectors of many texts by a model of sentence-transformers, with a bar that moves."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_AT_ONCE = 16
"""Batches between two moves of the bar; the host sorts these by length."""


def vectors_of(
    encoder: Any, texts: Sequence[str], *, batch_size: int = 32, advance: Callable[[float], None] = lambda more: None
) -> Float[Tensor, "texts dim"]:
    """The vectors that a `SentenceTransformer` makes of texts, in their order, in float32 on the CPU.

    Args:
        encoder: the model.
        texts: one or more.
        batch_size: texts at once.
        advance: told how many more texts are done.
    """
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    pieces, step = [], _AT_ONCE * batch_size
    for start in range(0, len(order), step):
        some = [texts[row] for row in order[start : start + step]]
        found = encoder.encode(some, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
        pieces.append(found.float().cpu())
        advance(len(some))
    vectors = torch.empty(len(texts), pieces[0].shape[1])
    vectors[order] = torch.cat(pieces)
    return vectors
