"""The end of a SentenceTransformer: vectors before they are normalised, and an affine map in stock modules.

A module of any other package would make the saved model ask for `trust_remote_code`.
"""

from collections import OrderedDict
from copy import copy, deepcopy
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kilter.core.errors import extra
from kilter.hosts.wrapped import unwrapped


def without_normalize(model: nn.Module) -> Any:
    """The same model, whose modules it shares, without what scales its vectors to length one in the end.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> model = SentenceTransformer(modules=[nn.Identity()], device="cpu")
        >>> len(without_normalize(model))
        1
    """
    model = _encoder(model)
    found = copy(model)
    found._modules = OrderedDict([*model._modules.items()][: _normalized_from(model)])
    return found


def with_affine_end(
    model: nn.Module, weight: Float[Tensor, "out dim"], bias: Float[Tensor, " out"], *, normalized: bool = False
) -> Any:
    """A copy of a model that ends with an affine map of its vectors: one `Dense` more, and nothing that is not stock.

    Of a model that ends with `Normalize` the map stands before it; with `normalized` behind it, and another `Normalize`
    behind the map. Device and precision are those of the model.

    Args:
        model: a `SentenceTransformer`; it is not changed.
        weight: as `nn.Linear` has it.
        bias: the same.
        normalized: the map is for vectors of length one.

    Raises:
        TypeError: no SentenceTransformer.
        ValueError: its vectors have another width.
        ModuleNotFoundError: sentence-transformers is missing.
    """
    found = deepcopy(_encoder(model))
    found.truncate_dim, truncated = None, found.truncate_dim
    width = getattr(found, "get_embedding_dimension", lambda: None)()
    if width not in (None, weight.shape[1]):
        raise ValueError(f"the model's vectors are {width} wide, the map is for {weight.shape[1]}")
    found.truncate_dim = truncated
    layers, like = stock(), next((one for one in found.parameters() if one.is_floating_point()), bias)
    dense = layers.Dense(weight.shape[1], weight.shape[0], activation_function=nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(weight)
        dense.linear.bias.copy_(bias)
    dense.to(device=found.device, dtype=like.dtype).train(found.training)
    names = (name for name in map(str, range(len(found), 3 * len(found) + 2)) if name not in found._modules)
    modules, place = [*found._modules.items()], _normalized_from(found)
    if place < len(modules) and normalized:
        modules += [(next(names), dense), (next(names), layers.Normalize())]
    else:
        modules.insert(place, (next(names), dense))
    found._modules = OrderedDict(modules)
    return found


def width(part: Any) -> int:
    """Components of the vectors of a model, or of the tokens' of its first module, whatever the library calls it."""
    names = ("get_embedding_dimension", "get_sentence_embedding_dimension", "get_word_embedding_dimension")
    return next(getattr(part, name)() for name in names if hasattr(part, name))


def _encoder(model: nn.Module) -> Any:
    library = extra("sentence_transformers", "embeddings")
    if not isinstance(found := unwrapped(model), library.SentenceTransformer):
        raise TypeError(f"model must be a SentenceTransformer, got {type(model).__name__}")
    return found


def _normalized_from(model: Any) -> int:
    """Where the modules begin that only scale the vectors to length one; the number of modules if there are none."""
    modules = [*model._modules.values()]
    while len(modules) > 1 and type(modules[-1]).__name__ == "Normalize":  # whichever place the library keeps it in
        modules.pop()
    return len(modules)


def stock() -> Any:
    """The library's own modules, where it keeps them since 6.0, or before."""
    try:
        return import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:
        return import_module("sentence_transformers.models")
