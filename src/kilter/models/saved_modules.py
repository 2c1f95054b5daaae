"""Modules of torch that are no models of a library, in a folder: `config.json` and `model.safetensors`, no pickle."""

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from kilter.core.files import write_whole

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


def save_module(folder: str | PathLike[str], module: nn.Module, **about: Any) -> None:
    """Write the weights, and what is said about them; each file is whole or not there."""
    from safetensors.torch import save

    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_whole(Path(folder, _WEIGHTS), save(weights))
    write_whole(Path(folder, _CONFIG), json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def load_module(
    folder: str | PathLike[str], what: str, make: Callable[[dict[str, Any]], nn.Module]
) -> tuple[Any, dict[str, Any]]:
    """Read what `save_module` wrote: the module that `make` makes of what was said, with its weights, and that.

    Raises:
        ValueError: the folder holds no such model that is whole.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        about = json.loads(Path(folder, _CONFIG).read_bytes())
        module = make(about)
        module.load_state_dict(load(Path(folder, _WEIGHTS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: holds no {what} that is whole ({error}); save it anew") from error
    return module, about
