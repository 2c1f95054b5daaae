"""What a property is, and how one is called: it edits sampled alignments into better ones (Align With Purpose).

A property is any callable; it is given the alignments, and by name what else its signature asks for.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from kilter.core.errors import suggest

Property = Callable[..., Tensor]
"""`(alignments (N,B,T), input_lengths, references, generator) -> alignments`; asks by name for what it needs."""

GIVEN = ("input_lengths", "references", "generator")
"""What a property may ask for, beside the alignments."""

_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def property_name(property: Any) -> str:
    """What to call it in a message."""
    return getattr(property, "__name__", type(property).__name__)


def asked(property: Property) -> list[str]:
    """What the property's signature asks for, beside the alignments.

    Raises:
        TypeError: it cannot be called, or not with alignments alone, or it asks for what no property is given.

    Example:
        >>> asked(lambda alignments, references: alignments)
        ['references']
    """
    if not callable(property) or isinstance(property, type):
        raise TypeError(f"property must be a callable such as LowLatency(), got {property!r}")
    parameters = _parameters(property)
    if not parameters or parameters[0].kind in _NAMED:
        raise TypeError(f"property {property_name(property)} must take the alignments as its first argument")
    others = parameters[1:]
    needed = [one.name for one in others if one.default is one.empty and one.kind not in _ANY]
    if unknown := [name for name in needed if name not in GIVEN]:
        raise TypeError(
            f"property {property_name(property)} asks for {unknown[0]!r}, which no property is given"
            f"{suggest(unknown[0], GIVEN)}; set what is your own beforehand, e.g. by functools.partial"
        )
    takes_all = any(one.kind is one.VAR_KEYWORD for one in others)
    return [name for name in GIVEN if takes_all or name in [one.name for one in others]]


def is_property(thing: Any) -> bool:
    """Whether something looks like a property: a callable whose first argument is `alignments`."""
    try:
        return not isinstance(thing, type) and [one.name for one in _parameters(thing)[:1]] == ["alignments"]
    except TypeError:  # nothing to call, or nothing is known of it
        return False


def _parameters(property: Any) -> list[inspect.Parameter]:
    try:
        found = inspect.signature(property.forward if isinstance(property, nn.Module) else property)
    except ValueError as error:
        raise TypeError(f"property {property_name(property)} has no signature; wrap it in a function") from error
    return list(found.parameters.values())


def edit(
    property: Property, alignments: Int[Tensor, "samples batch time"], given: Mapping[str, Any]
) -> Int[Tensor, "samples batch time"]:
    """What the property makes of `alignments`, with what it asked for, without gradient.

    Raises:
        ValueError: it returns something that is not like the alignments.
    """
    if not len(alignments):
        return alignments
    with torch.no_grad():
        edited = property(alignments.clone(), **given)  # a copy: one that writes in place must not change the samples
    if not isinstance(edited, Tensor) or edited.shape != alignments.shape or edited.dtype != alignments.dtype:
        got = f"{edited.dtype} {tuple(edited.shape)}" if isinstance(edited, Tensor) else type(edited).__name__
        raise ValueError(
            f"the property {property_name(property)} must return {alignments.dtype} {tuple(alignments.shape)} "
            f"like the alignments it was given, got {got}"
        )
    return edited
