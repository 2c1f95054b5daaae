"""One file per paper: which arms are compared on which task, and which claims that speaks to."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from kilter.lab.recipe import Recipe


def every() -> Iterator[type[Recipe]]:
    """All recipes there are; one on several jobs is a class for each."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found = import_module(module.name).RECIPE
        yield from found.values() if isinstance(found, dict) else (found,)


Recipe.kin = staticmethod(every)
