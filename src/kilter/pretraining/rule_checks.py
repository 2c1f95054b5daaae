"""What every rule that changes the weights of domains checks of its arguments; see `reweight` in `dga.py`."""

import torch
from torch import Tensor

from kilter.core.checks import at_least, finite, first, floating, same_shape, shaped


def check_step(log_weights: Tensor, alignments: Tensor, step_size: float | int) -> None:
    """Check what a rule takes.

    Raises:
        TypeError, ValueError: see `reweight`.
    """
    at_least("step_size", step_size, 0)
    floating("log_weights", log_weights)
    shaped("log_weights", log_weights, "domains")
    floating("alignments", alignments)
    shaped("alignments", alignments, "domains")
    same_shape("alignments", alignments, log_weights.shape, "log_weights")
    finite("alignments", alignments, mend="skip that step")
    kept = log_weights.detach()
    if kept.device.type == "cpu" and len(kept):
        if at := first(kept.isnan() | (kept == torch.inf)):
            raise ValueError(f"row {at[0]}: log_weights is {kept[at[0]]:g}; give logarithms of weights")
        if not (kept > -torch.inf).any():
            raise ValueError("log_weights are all minus infinity, weights of 0; give one domain at least a weight")
