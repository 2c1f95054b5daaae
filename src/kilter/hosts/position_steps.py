"""Which positions a forward pass has, and what is given to its inputs, queries and keys for them, once for all layers.

The key-value cache holds the model's own keys. It is told where they stand, so that theirs can be given anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from kilter.core.positions import PositionTerm, distinct
from kilter.hosts.position_attention import Given

ROOM = 256
"""A table of positions grows by this many rows, so that generation does not make a new one for every token."""


@dataclass(frozen=True)
class Pass:
    """What one forward pass is given.

    Attributes:
        named: arguments of the host's `forward` that take the place of the caller's.
        given: to queries and keys.
        added: to the inputs.
        keys: where all keys stand, to be kept with the cache.
        parts: of the loss.
    """

    named: dict[str, Any]
    given: Given
    added: Tensor | None = None
    keys: Tensor | None = None
    parts: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)


def text_pass(term: PositionTerm, named: dict[str, Any], memo: dict[str, Any]) -> Pass:
    """Of a text: positions as they are given, else counted from the first token that is no padding."""
    ids, vectors = named.get("input_ids"), named.get("inputs_embeds")
    like = ids if vectors is None else vectors[..., 0]
    if like is None:
        raise ValueError("input_ids is missing; give the tokens, or their vectors as inputs_embeds")
    batch, length = like[..., 0].numel(), like.shape[-1]
    cache = cache_of(named)
    past = 0 if cache is None else int(cache.get_seq_length())
    before = getattr(cache, "kilter_positions", None)
    both = [_past(named, past, before, batch), _now(named, length, past, before)]
    rows = max(map(len, both))
    if rows not in (1, batch):
        raise ValueError(
            f"position_ids and attention_mask have {rows} rows, and there are {batch} texts; give one for each, or one "
            "for all"
        )
    keys = torch.cat([each.to(like.device).expand(rows, -1) for each in both], 1)
    if rows > 1 and bool((keys == keys[:1]).all()):
        keys = keys[:1]
    given, added, parts = _given(term, keys, past, batch, memo)
    return Pass({"position_ids": keys[:, past:]}, given, added, keys, parts)


def picture_pass(
    term: PositionTerm, named: Mapping[str, Any], memo: dict[str, Any], patch: tuple[int, int], takes_flag: bool
) -> Pass:
    """Of a picture: row and column of each patch, whatever its size."""
    pixels = named["pixel_values"]
    if any(side % size for side, size in zip(pixels.shape[-2:], patch, strict=True)):
        raise ValueError(
            f"pixel_values: {pixels.shape[-2]} × {pixels.shape[-1]} pixels are not whole patches of {patch[0]} × "
            f"{patch[1]}, and those at the edge would not be seen; resize the images, or pad them"
        )
    down, across = (side // size for side, size in zip(pixels.shape[-2:], patch, strict=True))
    grid = torch.cartesian_prod(torch.arange(down, device=pixels.device), torch.arange(across, device=pixels.device))
    given, added, parts = _given(term, grid[None], 0, len(pixels), memo)
    return Pass({"interpolate_pos_encoding": True} if takes_flag else {}, given, added, None, parts)


def cache_of(found: dict[str, Any]) -> Any:
    """The cache among arguments or outputs, under its name of before transformers 5.24 too."""
    cache = dict.get(found, "cache")  # the outputs' own `get` warns of the old name
    return dict.get(found, "past_key_values") if cache is None else cache


def _counted(named: Mapping[str, Any]) -> Tensor | None:
    mask = named.get("attention_mask")
    return (mask.long().cumsum(-1) - 1).clamp(min=0) if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _now(named: Mapping[str, Any], length: int, past: int, before: Tensor | None) -> Tensor:
    """Where the tokens of this pass stand."""
    ids = named.get("position_ids")
    if ids is not None:
        if ids.ndim > 3 or ids.shape[-1] != length:
            raise ValueError(f"position_ids is {tuple(ids.shape)}; there must be one for each of {length} tokens")
        if ids.is_floating_point():
            raise TypeError(f"position_ids must be whole numbers, got {ids.dtype}; round them")
        return ids.reshape(-1, length)
    counted = _counted(named)
    if counted is not None and counted.shape[1] >= past + length:
        return counted[:, past : past + length]
    steps = torch.arange(length)[None]
    return steps + past if before is None else before[:, past - 1 : past] + 1 + steps.to(before.device)


def _past(named: Mapping[str, Any], past: int, before: Tensor | None, batch: int) -> Tensor:
    """Where the tokens of the cache stand: as was kept with it, else by the mask."""
    if before is not None and past and batch % len(before) == 0:  # a prompt's cache may have been repeated since
        kept = before[:, :past]
        return kept if len(kept) == 1 else kept.repeat_interleave(batch // len(kept), 0)
    counted = _counted(named)
    if counted is not None and counted.shape[1] >= past:
        return counted[:, :past]
    if before is not None and past:
        raise ValueError(
            f"the cache was filled by {len(before)} texts and is used for {batch}; give attention_mask, of all tokens"
        )
    return torch.arange(past)[None]


def _given(
    term: PositionTerm, keys: Int[Tensor, "rows keys *axes"], past: int, batch: int, memo: dict[str, Any]
) -> tuple[Given, Tensor | None, Mapping[str, Tensor]]:
    if term.apply_to == "none":
        return Given("none"), None, {}
    sizes = term.sizes
    assert sizes is not None  # of a term that is attached
    parts: Mapping[str, Tensor] = {}
    if torch.is_grad_enabled():  # a step may follow, and fused optimisers count no version of what they write
        memo.clear()
    if term.training and torch.is_grad_enabled() and past == 0:
        step = term(keys, batch)
        vectors, where, parts = _with_front(term, step.vectors), step.where, step.parts
        layers = _layers(term, vectors)
    elif torch.is_grad_enabled() or not term.cacheable or _has_tangents(term):
        rows, where = distinct(keys, term.axes)
        vectors = _with_front(term, term.encode(rows))
        layers = _layers(term, vectors)
    else:
        vectors, layers, where = _looked_up(term, keys, memo)
    if sizes.front:
        first = torch.arange(sizes.front, device=where.device).expand(len(where), -1)
        where = torch.cat([first, where + sizes.front], 1)
    if term.apply_to == "input_add":
        return Given("input_add"), vectors[where[:, past:]], parts
    a, b = (tuple(each) for each in zip(*layers, strict=True))
    return Given(term.apply_to, tuple(x[where[:, past:]] for x in a), tuple(x[where] for x in b)), None, parts


def _looked_up(term: PositionTerm, keys: Tensor, memo: dict[str, Any]) -> tuple[Tensor, Any, Tensor]:
    """Vectors of a table, and what layers are given of them, kept until a parameter changes."""
    flat = keys.reshape(-1, keys.shape[-1]) if term.axes > 1 else keys.reshape(-1)
    ends = (flat.amax(0).reshape(-1) + 1).tolist()
    far = term.axes == 1 and ends[0] > 2 * keys.shape[1] + ROOM
    if far or int(flat.amin()) < 0:  # few, or none that a table has
        rows, where = distinct(keys, term.axes)
        vectors = _with_front(term, term.encode(rows))
        return vectors, _layers(term, vectors), where
    state = _state(term, keys.device)
    kept = memo.get("ends", [0] * term.axes)
    if memo.get("state") != state or any(end > known for end, known in zip(ends, kept, strict=True)):
        if term.axes == 1:
            room = -(-ends[0] // ROOM) * ROOM
            ends = [room if term.longest is None else max(ends[0], min(room, term.longest))]
        lines = [torch.arange(end, device=keys.device) for end in ends]
        vectors = _with_front(term, term.encode(torch.cartesian_prod(*lines)))
        memo.clear()
        memo.update(state=state, ends=ends, vectors=vectors, layers=_layers(term, vectors))
        kept = ends
    where = keys if term.axes == 1 else sum(keys[..., axis] * math.prod(kept[axis + 1 :]) for axis in range(term.axes))
    return memo["vectors"], memo["layers"], where  # type: ignore[return-value]


def _has_tangents(term: PositionTerm) -> bool:
    """Whether derivatives are carried forward with the parameters, which a table would lose."""
    return any(unpack_dual(one).tangent is not None for one in term.parameters())


def _state(term: PositionTerm, device: torch.device) -> tuple[Any, ...]:
    """Differs once any parameter has changed, or what it is computed with."""
    each = [(p.data_ptr(), p.dtype, 0 if p.is_inference() else p._version) for p in term.parameters()]
    return device, torch.is_autocast_enabled(device.type), torch.is_inference_mode_enabled(), *each


def _with_front(term: PositionTerm, vectors: Float[Tensor, "rows out_dim"]) -> Float[Tensor, "more out_dim"]:
    count = term.sizes.front if term.sizes else 0
    if not count:
        return vectors
    front = term.front()
    return torch.cat([vectors.new_zeros(count, vectors.shape[1]) if front is None else front.to(vectors), vectors])


def _layers(term: PositionTerm, vectors: Float[Tensor, "rows out_dim"]) -> list[tuple[Tensor, Tensor]]:
    """What queries and keys are given, of each layer, or once."""
    if term.apply_to == "input_add" or term.sizes is None:
        return []
    return [term.query_key(vectors, layer) for layer in range(1 if term.shared_layers else term.sizes.layers)]
