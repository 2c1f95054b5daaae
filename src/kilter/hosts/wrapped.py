"""Look through what torch and peft put around a model: its own attributes are those of the model inside. Torch only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_SHELLS = ("_orig_mod", "module", "_fsdp_wrapped_module")
"""The only child of what `torch.compile`, `DistributedDataParallel` and its kind, and FSDP make of a module."""


def unwrapped(model: Any, *, adapters: bool = True) -> Any:
    """The model itself, of one that is compiled, distributed or carries an adapter of peft; any other as it is.

    Args:
        model: perhaps wrapped, perhaps several times.
        adapters: look through peft's wrapper too. False where it is to be saved: what is inside has the adapter's
            layers among its own, and only the wrapper knows how to write them.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(layer)) is layer
        True
    """
    while True:
        children = [*getattr(model, "_modules", ())]
        if len(children) == 1 and children[0] in _SHELLS:
            model = model._modules[children[0]]
        elif adapters and "base_model" in children and hasattr(model, "get_base_model"):
            model = model.get_base_model()
        else:
            return model


def in_use(module: Any) -> Any:
    """Of a module that peft trains as a whole (`modules_to_save`), the copy that is in use; any other as it is.

    Example:
        >>> from torch import nn
        >>> layer = nn.Linear(2, 2)
        >>> in_use(layer) is layer
        True
    """
    copies = getattr(module, "_modules", {}).get("modules_to_save")
    if copies is None or "original_module" not in module._modules:
        return module
    active = module.active_adapters
    usable = [] if module.disable_adapters else [name for name in active if name in copies]
    return copies[usable[0]] if usable else module.original_module


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in eval mode for a while; every module then has its own mode again.

    Example:
        >>> layers = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(layers):
        ...     layers[0].training
        False
        >>> [one.training for one in layers]
        [True, False]
    """
    modes = [(one, one.training) for one in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for one, mode in modes:
            one.training = mode
