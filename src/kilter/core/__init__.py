"""The few things every family stands on: the contracts of objectives and decoders, and the paper card.

Names are resolved on first use, so that reading a paper card does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilter.core.decoder import Decoder
    from kilter.core.objective import LossOutput, ModelObjective, Objective
    from kilter.core.paper import Claim, Paper

_HOME = {
    "Claim": "paper",
    "Decoder": "decoder",
    "LossOutput": "objective",
    "ModelObjective": "objective",
    "Objective": "objective",
    "Paper": "paper",
}

__all__ = ["Claim", "Decoder", "LossOutput", "ModelObjective", "Objective", "Paper"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kilter.core.{_HOME[name]}"), name)
