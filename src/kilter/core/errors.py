"""Words for what went wrong: the nearest name, the missing extra. Standard library only."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import Any


class UsageError(ValueError):
    """The command line asks for something that does not exist."""


def suggest(name: str, options: Iterable[str]) -> str:
    """A hint to append to "unknown …" messages.

    Example:
        >>> suggest("weigth", ["weight", "samples"])
        "; did you mean 'weight'?"
    """
    near = difflib.get_close_matches(name, options := list(options), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(options)}"


def extra(module: str, extra_name: str) -> Any:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is missing: pip install 'kilter[{extra_name}]' brings it", name=error.name
        ) from error
