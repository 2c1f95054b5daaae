"""The strength of a LoRA at which the tuned model is as far from the model as given as was asked.

Arms that are to be compared at one KL divergence are trained for it, and land near it; this brings them there. Each
factor is tried on draws of the model as given, weighted by how much more likely the tuned one makes them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

_TRIES, _CLOSE = 5, 0.03
"""Factors that are tried at most, and how near, relatively, is near enough."""
_LEAST, _MOST = 0.125, 8.0


def weighted_kl(log_ratios: Tensor) -> float:
    r"""KL of policy and base, from draws of the base: $\sum w \log w / \sum w - \log \frac1N \sum w$, w = π/π₀.

    Example:
        >>> round(weighted_kl(torch.tensor([0.5, 1.5]).log()), 4)  # 1/4 and 3/4 against halves
        0.1308
    """
    weights = log_ratios.softmax(0)
    mean = log_ratios.logsumexp(0) - torch.tensor(float(len(log_ratios))).log()
    return float((weights * log_ratios).sum() - mean)


def strength_for(log_ratios: Callable[[float], Tensor], kl: float) -> float:
    """The factor at which `weighted_kl(log_ratios(factor))` is `kl`, or the nearest tried; KL grows like its square.

    Example:
        >>> draws = torch.randn(4096, generator=torch.Generator().manual_seed(0))
        >>> factor = strength_for(lambda s: s * draws, 0.5)  # of a normal log-ratio KL is half its variance
        >>> 0.9 < factor < 1.1
        True
    """
    factor, best = 1.0, (float("inf"), 1.0)
    for _ in range(_TRIES):
        found = weighted_kl(log_ratios(factor))
        best = min(best, (abs(found - kl), factor))
        if abs(found / kl - 1) < _CLOSE or found <= 0:
            break
        factor = min(_MOST, max(_LEAST, factor * min(2.0, max(0.5, (kl / found) ** 0.5))))
    return best[1]
