"""Words for what went wrong: the nearest name, the missing extra. Standard library only."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from kilter.core.installed import extras_of, hint


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


def extra(module: str, *extras: str) -> Any:
    """Import an optional dependency, or say which extra brings it: the one that is named, else each that does."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(missing(error, *extras), name=error.name) from error


def missing(error: ModuleNotFoundError, *extras: str) -> str:
    """What to do about a module that is not there: which of kilter's extras brings it, and how to get that.

    One place for every optional import, however deep: whoever shows an error to a person asks here. An error that says
    more than Python does, or is about a module that kilter knows nothing of, keeps its words.

    Args:
        error: as Python raised it.
        extras: which extra to name; by default each that brings the module.

    Example:
        >>> print(missing(ModuleNotFoundError("No module named 'jiwer'", name="jiwer")))  # doctest: +ELLIPSIS
        jiwer is missing: pip install ..."...[speech]..." brings it
    """
    found = extras or tuple(extras_of(error.name or ""))
    if not found or not str(error).startswith(("No module named", "import of")):
        return str(error)
    return f"{error.name} is missing: {' or '.join(map(hint, found))} brings it"
