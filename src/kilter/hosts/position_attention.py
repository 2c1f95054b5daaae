"""Attention with positions, registered beside the host's own: queries and keys are given theirs, then it runs as ever.

A product a·b of positions in the logits is more columns of queries and keys, so fused kernels need no bias of N × N.
"""

import sys
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from kilter.core.positions import ApplyTo

NAME = "kilter_positions"
"""Of the argument that goes from the model's `forward` through its layers to attention."""
PREFIX = "kilter_positions_"
PLAIN = ("sdpa", "eager")
"""The host's attention that can be used: those with a fused kernel of their own name take no more columns."""
_EIGHT = 8
"""Fused kernels take heads whose size is a multiple of this, the same for keys and values."""


class Given(NamedTuple):
    """What queries and keys of each layer are given; one entry where it is the same for all.

    Lengths are those of the queries, and of all keys that are known; rows are 1 where the batch shares them.
    """

    apply_to: ApplyTo
    queries: tuple[Float[Tensor, "rows queries heads size"], ...] = ()
    keys: tuple[Float[Tensor, "rows keys key_heads size"], ...] = ()


def register() -> None:
    """Make the attention known to transformers, with the masks of the one that it calls."""
    for plain in PLAIN:
        ALL_ATTENTION_FUNCTIONS.register(PREFIX + plain, _over(plain))
        ALL_MASK_ATTENTION_FUNCTIONS.register(PREFIX + plain, ALL_MASK_ATTENTION_FUNCTIONS[plain])


def _over(plain: str) -> Any:
    def attend(
        module: Any,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch key_heads keys head_dim"],
        value: Float[Tensor, "batch key_heads keys head_dim"],
        attention_mask: Tensor | None,
        kilter_positions: Given | None = None,
        **named: Any,
    ) -> tuple[Tensor, Tensor | None]:
        own = sys.modules[type(module).__module__].eager_attention_forward if plain == "eager" else None
        call = own or ALL_ATTENTION_FUNCTIONS[plain]
        layer = module.__dict__.get("kilter_layer")
        if layer is None:  # attention to another text
            return call(module, query, key, value, attention_mask, **named)
        if kilter_positions is None:
            raise RuntimeError(
                "a part of the model was called without its positions; call the model that they were attached to, or "
                "attach them to that part"
            )
        if not kilter_positions.queries:
            return call(module, query, key, value, attention_mask, **named)
        size = value.shape[-1]
        query, key = _positioned(kilter_positions, layer, query, key)
        if plain == "sdpa" and query.shape[-1] != size:
            wide = -(-query.shape[-1] // _EIGHT) * _EIGHT
            query, key, value = (F.pad(each, (0, wide - each.shape[-1])) for each in (query, key, value))
        out, weights = call(module, query, key, value, attention_mask, **named)
        return out[..., :size], weights

    return attend


def _positioned(given: Given, layer: int, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    a = given.queries[min(layer, len(given.queries) - 1)].transpose(1, 2).to(query.dtype)
    b = _as_long(given.keys[min(layer, len(given.keys) - 1)].transpose(1, 2).to(key.dtype), key.shape[2])
    if given.apply_to == "attn_add":
        return query + a, key + b
    if given.apply_to == "attn_mul":
        return query * a, key * b
    return _beside(query, a), _beside(key, b)


def _as_long(b: Tensor, keys: int) -> Tensor:
    """Of keys that a cache holds: the last ones where it forgets; where it has room, which is masked, nothing."""
    known = b.shape[2]
    return b[:, :, known - keys :] if known >= keys else F.pad(b, (0, 0, 0, keys - known))


def _beside(x: Tensor, positions: Tensor) -> Tensor:
    return torch.cat([x, positions.expand(len(x), -1, -1, -1)], -1)
