"""Models of transformers that positions can be attached to, found by how they are built, and their own term silenced.

Weights of the host's own term stay where they are. Only classes of modules are exchanged, for ones that add nothing,
or what they are handed.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from kilter.core.positions import HostSizes
from kilter.hosts.exchanged import exchanged

KNOWN = (
    "GPT-2-like (a table `wpe` beside `wte`)",
    "Llama-like (rotary, as Llama, Mistral, Qwen2 and Qwen3)",
    "ViT-like (patches with `position_embeddings`, as ViT and DeiT)",
)


@dataclass(frozen=True)
class Family:
    """How a model has its positions.

    Attributes:
        base: the model without head.
        sizes: for the term.
        attentions: modules with attention to the text itself, in the order of layers.
        exchange: modules whose class is exchanged, and the function that makes the other class; the first of them adds
            to the inputs.
        frozen: weights of the host's own term, which have no gradient while it is silent.
        patch: height and width of a patch, of pictures.
    """

    base: Any
    sizes: HostSizes
    attentions: tuple[nn.Module, ...]
    exchange: tuple[tuple[nn.Module, Callable[[type], Any]], ...]
    frozen: tuple[nn.Parameter, ...] = ()
    patch: tuple[int, int] | None = None


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model.

    Raises:
        ValueError: none of those that are known.
    """
    base: Any = model.base_model
    attentions = tuple(module for module in base.modules() if _attends(module))
    takes = inspect.signature(base.forward).parameters
    if attentions and "position_ids" in takes:
        if isinstance(getattr(base, "wpe", None), nn.Embedding) and hasattr(base, "wte"):
            return Family(base, _sizes(base, attentions), attentions, ((base.wpe, silent_table),), (base.wpe.weight,))
        rotary = getattr(base, "rotary_emb", None)
        if rotary is not None and "position_ids" in inspect.signature(rotary.forward).parameters:
            places = ((base.get_input_embeddings(), adding_embedding), (rotary, silent_rotary))
            return Family(base, _sizes(base, attentions), attentions, places)
    within: Any = getattr(base, "embeddings", None)
    if attentions and "pixel_values" in takes and _has_patches(within):
        front = within.position_embeddings.shape[1] - within.patch_embeddings.num_patches
        sizes = _sizes(base, attentions, axes=2, front=front)
        patch = within.patch_embeddings.patch_size
        patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
        place = (within, silent_patches)
        return Family(base, sizes, attentions, (place,), (within.position_embeddings,), patch)
    raise ValueError(
        f"model: positions cannot be attached to {type(model).__name__}; known are models that are "
        f"{', '.join(KNOWN[:-1])}, or {KNOWN[-1]}, all with the attention interface of transformers"
    )


def _attends(module: Any) -> bool:
    """Whether it is attention of a text or picture to itself, by the interface that can be registered with."""
    names = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    by_interface = names is not None and "ALL_ATTENTION_FUNCTIONS" in names.co_names
    return by_interface and hasattr(module, "head_dim") and not getattr(module, "is_cross_attention", False)


def _has_patches(within: Any) -> bool:
    return (
        hasattr(within, "interpolate_pos_encoding")
        and isinstance(getattr(within, "position_embeddings", None), nn.Parameter)
        and hasattr(getattr(within, "patch_embeddings", None), "num_patches")
        and not hasattr(within, "register_tokens")
    )


def _sizes(base: Any, attentions: tuple[Any, ...], axes: int = 1, front: int = 0) -> HostSizes:
    heads = base.config.num_attention_heads
    return HostSizes(
        width=base.config.hidden_size,
        heads=heads,
        key_heads=heads // getattr(attentions[0], "num_key_value_groups", 1),
        head_dim=attentions[0].head_dim,
        layers=len(attentions),
        axes=axes,
        front=front,
    )


# What stands in the place of a host's own term ------------------------------------------------------------------------


@cache
def silent_table(base: type[nn.Embedding]) -> Any:
    """A table of positions that says nothing but what it is handed, however long the text."""

    def forward(self: Any, input: Tensor) -> Tensor:
        return _handed(self, self.weight.new_zeros(1, 1, self.embedding_dim))

    return exchanged(silent_table, base, "Silent", {"forward": forward})


@cache
def silent_rotary(base: type[nn.Module]) -> Any:
    """An angle of 0 for every position, which leaves queries and keys as they are."""

    def forward(self: Any, *args: Any, **named: Any) -> tuple[Tensor, Tensor]:
        cos, sin = super(made, self).forward(*args, **named)
        return torch.ones_like(cos), torch.zeros_like(sin)

    made = exchanged(silent_rotary, base, "Silent", {"forward": forward})
    made.forward.__signature__ = inspect.signature(base.forward)
    return made


@cache
def adding_embedding(base: type[nn.Module]) -> Any:
    """Vectors of tokens, to which those that it is handed are added."""

    def forward(self: Any, input: Tensor) -> Tensor:
        found = super(made, self).forward(input)
        handed = _handed(self, None)
        return found if handed is None else found + handed.to(found.dtype)

    made = exchanged(adding_embedding, base, "Adding", {"forward": forward})
    return made


@cache
def silent_patches(base: type[nn.Module]) -> Any:
    """Patches whose positions are what it is handed, of pictures of any size."""

    def interpolate(self: Any, embeddings: Tensor, height: int, width: int) -> Tensor:
        return _handed(self, embeddings.new_zeros(1, 1, embeddings.shape[-1])).to(embeddings.dtype)

    return exchanged(silent_patches, base, "Silent", {"interpolate_pos_encoding": interpolate})


def _handed(module: Any, otherwise: Any) -> Any:
    return module.__dict__.get("kilter_handed", otherwise)
