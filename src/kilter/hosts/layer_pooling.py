"""Sentence vectors out of the last few layers side by side, without the first token, for sentence-transformers.

Pooling of Barkan et al., "Scalable Attentive Sentence-Pair Modeling via Distilled Sentence Embedding", AAAI 2020. The
library's own modules cannot concatenate layers; a model saved with this one needs kilter and `trust_remote_code=True`.
"""

from collections import OrderedDict
from copy import deepcopy
from importlib import import_module
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kilter.core.options import one_of, share, whole
from kilter.hosts.sentence_modules import stock, width
from kilter.hosts.wrapped import unwrapped

Mode = Literal["mean", "sqrt", "max"]
Combine = Literal["concat", "mean"]


def _base() -> Any:
    """What the library's modules are made of, where it keeps that since 5.4, or before."""
    try:
        return import_module("sentence_transformers.base.modules").Module
    except ModuleNotFoundError:
        return import_module("sentence_transformers.models").Module


_Module: Any = _base()


class LayerPooling(_Module):
    """One vector of a text: each of the last layers pooled over tokens, and all of them side by side.

    Args:
        dim: width D of a layer.
        layers: how many of the last ones, K.
        mode: of the tokens: their mean, their sum divided by the root of their number, or the largest of each
            component.
        combine: layers side by side, K·D wide; or their mean, D wide.
        skip_first: leave out the first token, BERT's [CLS]; the last, [SEP], counts. Of a text that has but one it
            stays.

    Raises:
        TypeError, ValueError: an option out of range.

    Example:
        >>> states = tuple(torch.randn(2, 5, 8) for _ in range(7))
        >>> features = {"all_layer_embeddings": states, "attention_mask": torch.ones(2, 5)}
        >>> LayerPooling(8)(features)["sentence_embedding"].shape
        torch.Size([2, 32])
    """

    config_keys: ClassVar[list[str]] = ["dim", "layers", "mode", "combine", "skip_first"]

    def __init__(
        self, dim: int, layers: int = 4, mode: Mode = "mean", combine: Combine = "concat", skip_first: bool = True
    ) -> None:
        super().__init__()
        whole("dim", dim, 1)
        whole("layers", layers, 1)
        one_of("mode", mode, Mode)
        one_of("combine", combine, Combine)
        self.dim = dim
        self.layers = layers
        self.mode: Mode = mode
        self.combine: Combine = combine
        self.skip_first = skip_first

    def forward(self, features: Any, **kwargs: Any) -> Any:
        """Add `sentence_embedding` to what the transformer gives.

        Raises:
            ValueError: it gives no states of its layers, or has too few.
        """
        states = features.get("all_layer_embeddings")
        if states is None:
            raise ValueError(
                "there are no states of the layers; set output_hidden_states=True in the config of the transformer, "
                "which with_layer_pooling does"
            )
        if len(states) <= self.layers:  # the first is what the layers read
            raise ValueError(f"layers={self.layers}, but the transformer has {len(states) - 1}; give fewer")
        last = states[-self.layers :]
        if self.combine == "mean":
            last = [torch.stack([*last]).mean(0)]
        mask = features.get("attention_mask")
        mask = torch.ones(last[0].shape[:2], device=last[0].device) if mask is None else mask
        kept = _counted(mask.bool(), self.skip_first)
        features["sentence_embedding"] = torch.cat([self._pooled(layer, kept) for layer in last], 1)
        return features

    def _pooled(
        self, layer: Float[Tensor, "batch tokens dim"], kept: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        out = ~kept[..., None]
        if self.mode == "max":
            found = layer.masked_fill(out, -torch.inf).amax(1)
            return found.masked_fill(out.all(1), 0)
        count = kept.sum(1, keepdim=True).clamp(min=1)
        total = layer.masked_fill(out, 0).sum(1, dtype=torch.promote_types(layer.dtype, torch.float32))
        return (total / (count.sqrt() if self.mode == "sqrt" else count)).to(layer.dtype)

    def get_embedding_dimension(self) -> int:
        """Width of the vectors."""
        return self.dim * (self.layers if self.combine == "concat" else 1)

    get_sentence_embedding_dimension = get_embedding_dimension  # before 5.4

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the options; there are no weights."""
        self.save_config(output_path)


def _counted(mask: Bool[Tensor, "batch tokens"], skip_first: bool) -> Bool[Tensor, "batch tokens"]:
    """Tokens that count: all but the first, wherever the padding is; of a single one it."""
    if not skip_first:
        return mask
    rest = mask & (mask.cumsum(1) > 1)
    return torch.where(rest.any(1, keepdim=True), rest, mask)


def with_layer_pooling(
    model: nn.Module,
    layers: int | None = 4,
    *,
    mode: Mode = "mean",
    combine: Combine = "concat",
    skip_first: bool = True,
    projection: int | None = None,
    dropout: float | int = 0.1,
) -> Any:
    """A copy of a model with the pooling of distilled sentence embedding in the place of its own, and no `Normalize`.

    Args:
        model: a `SentenceTransformer` that begins with a transformer; it is not changed.
        layers: how many of the last layers; of a transformer that has fewer, all. None is the portable form, the mean
            over the tokens of the last layer: stock modules only, so that the saved model loads without kilter and
            without `trust_remote_code`. Any number makes it ask for both:

                SentenceTransformer("student", trust_remote_code=True)
        mode: see `LayerPooling`.
        combine: see `LayerPooling`.
        skip_first: see `LayerPooling`.
        projection: width of a linear map behind the pooling, for vectors that are to be stored; None for none.
        dropout: of the pooled vector, in training.

    Returns:
        The copy; vectors of four layers are four times as wide as before. They are as a `PairHead` wants them, and not
        of length 1.

    Raises:
        TypeError: no SentenceTransformer.
        ValueError: it does not begin with a transformer of transformers, or an option is out of range.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> with_layer_pooling(SentenceTransformer(modules=[nn.Identity()], device="cpu"))
        Traceback (most recent call last):
        ValueError: the model begins with Identity, not with a transformer; give one that does
    """
    from sentence_transformers import SentenceTransformer

    if not isinstance(unwrapped(model), SentenceTransformer):
        raise TypeError(f"model must be a SentenceTransformer, got {type(model).__name__}")
    share("dropout", dropout)
    if projection is not None:
        whole("projection", projection, 1)
    found: Any = deepcopy(unwrapped(model))
    config = getattr(getattr(found[0], "auto_model", None), "config", None)
    if config is None:
        raise ValueError(f"the model begins with {type(found[0]).__name__}, not with a transformer; give one that does")
    dim, parts = width(found[0]), stock()
    if layers is None:
        modules = [found[0], parts.Pooling(dim, pooling_mode="mean")]
    else:
        whole("layers", layers, 1)
        config.output_hidden_states = True
        modules = [found[0], LayerPooling(dim, min(layers, config.num_hidden_layers), mode, combine, skip_first)]
    if dropout:
        modules.append(parts.Dropout(float(dropout)))
    if projection is not None:
        like = next(found[0].parameters())
        dense = parts.Dense(width(modules[1]), projection, activation_function=nn.Identity())
        modules.append(dense.to(device=like.device, dtype=like.dtype))
    found._modules = OrderedDict((str(place), module.train(found.training)) for place, module in enumerate(modules))
    return found
