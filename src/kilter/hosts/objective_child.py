"""An objective with parameters as the child of a stock model: what optimises the model optimises it too.

It is in no state dict of the model, so the saved model is plain; it lies in files of its own beside each checkpoint.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import Trainer

from kilter.hosts.st_state import load_objective, save_objective

NAME = "kilter_objective"
"""Of the child, and what its files begin with."""


class ObjectiveChild:
    """Makes an objective a child of a model, on the device that the model is on, until `remove`."""

    def __init__(self, model: nn.Module, objective: nn.Module, device: Any) -> None:
        self.model = model
        self.objective = objective
        model.add_module(NAME, objective.to(device))
        self._hooks = [
            model.register_state_dict_post_hook(_leave_out),
            model.register_load_state_dict_post_hook(_do_not_miss),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()
        delattr(self.model, NAME)

    def save(self, checkpoint: Path) -> None:
        """Write it beside the model, where there is something that it learns."""
        if self.objective.state_dict():
            save_objective(self.objective, checkpoint, NAME)

    def load(self, checkpoint: Path) -> None:
        """Take up what `save` wrote there."""
        if not self.objective.state_dict():
            return
        if (checkpoint / f"{NAME}.safetensors").is_file():
            load_objective(self.objective, checkpoint, NAME)
        else:
            warnings.warn(
                f"{checkpoint} has no {NAME}.safetensors: what {type(self.objective).__name__} learns starts afresh, "
                "so the run does not end as one that was not stopped",
                stacklevel=3,
            )


def _leave_out(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}{NAME}.")]:
        del state[name]


def _do_not_miss(model: nn.Module, keys: Any) -> None:
    missing = keys.missing_keys
    missing[:] = [name for name in missing if NAME not in name.split(".")]


def resumed_from() -> Path | None:
    """The checkpoint that the calling Trainer goes on from, which it tells no callback; None where it begins."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals
        if isinstance(found.get("self"), Trainer) and "resume_from_checkpoint" in found:
            checkpoint = found["resume_from_checkpoint"]
            return Path(checkpoint) if checkpoint else None
        frame = frame.f_back
    return None
