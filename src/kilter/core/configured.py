"""A module that says its options: those of its constructor, stored under their own names."""

import inspect
from typing import Any

from torch import nn


class Configured(nn.Module):
    """Options that rebuild a module, and print it."""

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this, but for its weights: `type(one)(**one.config())`."""
        parameters = inspect.signature(type(self)).parameters.values()
        named = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        return {name: getattr(self, name) for name in named}

    def extra_repr(self) -> str:
        """Options in the printed form of the module."""
        return ", ".join(
            f"{name}={value!r}" for name, value in self.config().items() if not isinstance(value, nn.Module)
        )
