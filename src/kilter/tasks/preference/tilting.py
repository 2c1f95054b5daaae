"""The best policy for a reward that is not calibrated, among draws of the model as given, at a KL divergence.

What the curves of calibrated rewards say in closed form has to be asked of the draws here.
"""

import torch
from torch import Tensor

_HALVINGS = 60


def tilted_kl(rewards: Tensor, beta: float) -> float:
    r"""Mean over prompts of the KL divergence of $\propto e^{r/\beta}$ over a prompt's draws from all of them alike.

    Example:
        >>> round(tilted_kl(torch.tensor([[0.0, 1.0]], dtype=torch.float64), 1.0), 4)
        0.1109
    """
    scaled = rewards / beta
    log_shares = scaled.masked_fill(scaled.isnan(), -torch.inf).log_softmax(1)
    there = (~scaled.isnan()).sum(1)
    found = (
        torch.where(log_shares.isinf(), 0.0, log_shares.exp() * log_shares).sum(1) + there.clamp_min(1).to(scaled).log()
    )
    return float(found[there > 0].mean())


def beta_at_kl(rewards: Tensor, kl: float) -> float:
    """The weight β at which `tilted_kl` of rewards `(P, K)` is `kl`, by halving.

    Example:
        >>> rewards = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
        >>> round(beta_at_kl(rewards, tilted_kl(rewards, 0.7)), 6)
        0.7

    Raises:
        ValueError: it cannot be: too few draws differ.
    """
    spread = float((rewards.nan_to_num(-torch.inf).amax(1) - rewards.nan_to_num(torch.inf).amin(1)).max())
    if not spread > 0 or tilted_kl(rewards, 1e-6 * spread) < kl:
        raise ValueError(
            f"kl={kl:g} cannot be had from these draws, of which too few differ in reward; lower --kl, raise --draws, "
            "or give a reward with fewer ties"
        )
    low, high = 1e-6 * spread, 1e6 * spread
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if tilted_kl(rewards, middle) > kl else (low, middle)
    return (low * high) ** 0.5


def less_partition(rewards: Tensor, beta: float) -> Tensor:
    r"""Rewards `(P, K)` less $\beta \log Z$ of their prompt, with Z the mean of $e^{r/\beta}$ over its draws."""
    scaled = rewards / beta
    counts = (~scaled.isnan()).sum(1, keepdim=True).clamp_min(1).to(scaled)
    log_z = scaled.masked_fill(scaled.isnan(), -torch.inf).logsumexp(1, keepdim=True) - counts.log()
    return beta * (scaled - log_z)
