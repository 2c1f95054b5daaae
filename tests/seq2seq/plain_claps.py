"""CLAPS by plain autograd, pair by pair in NumPy where it can be: what the family is compared with."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def pooled(projection: Any, states: Tensor, mask: Tensor) -> Tensor:
    """Affine, ReLU, mean over tokens."""
    matrix, bias = projection.linear.weight, projection.linear.bias
    rows = [torch.relu(h[m] @ matrix.T + bias).mean(0) for h, m in zip(states, mask, strict=True)]
    return torch.stack(rows)


def contrasts(source: Tensor, target: Tensor, tau: float) -> Tensor:
    """Mean cross-entropy of each source among all targets."""
    scores = F.cosine_similarity(source[:, None], target[None], dim=-1) / tau
    return F.cross_entropy(scores, torch.arange(len(source)))


def stepped(states: Tensor, slope: Tensor, step: float) -> Tensor:
    return states + step * slope / (slope.norm(dim=-1, keepdim=True) + 1e-12)


class Made(NamedTuple):
    """What is made of a batch, and what it costs."""

    imposter: Tensor
    moved: Tensor
    distant: Tensor
    contrast: Tensor
    infonce: Tensor
    divergence: Tensor


def claps(
    source_states: Tensor,
    hidden: Tensor,
    source_mask: Tensor,
    labels: Tensor,
    output: Any,
    projection: Any,
    *,
    tau: float = 0.1,
    second_tau: float = 0.1,
    negative: float = 1.0,
    positive: float = 3.0,
) -> Made:
    """All of it, with the graphs that the losses have."""
    mask = labels != -100
    leaf = hidden.detach().clone().requires_grad_()
    surprise = F.cross_entropy(output(leaf).flatten(0, 1), labels.flatten(), ignore_index=-100)
    imposter = stepped(leaf.detach(), torch.autograd.grad(surprise, leaf)[0], negative)

    infonce = contrasts(pooled(projection, source_states.detach(), source_mask), pooled(projection, leaf, mask), tau)
    moved = stepped(leaf.detach(), torch.autograd.grad(infonce, leaf, retain_graph=True)[0], positive)
    leaf = moved.clone().requires_grad_()
    own, other = output(hidden.detach()).log_softmax(-1).detach(), output(leaf).log_softmax(-1)
    divergence = ((own.exp() * (own - other)).sum(-1) * mask).sum() / mask.sum()
    distant = stepped(moved, -torch.autograd.grad(divergence, leaf, retain_graph=True)[0], positive)

    x, y = pooled(projection, source_states, source_mask), pooled(projection, hidden, mask)
    wrong, far = pooled(projection, imposter, mask), pooled(projection, distant, mask)
    scores = torch.cat([cosine(x[:, None], y[None]), cosine(x, wrong)[:, None]], 1)
    others = scores.clone()
    others.diagonal().copy_(cosine(x, far))
    row = torch.arange(len(x))
    contrast = (F.cross_entropy(scores / tau, row) + F.cross_entropy(others / second_tau, row)) / 2
    return Made(imposter, moved, distant, contrast, infonce, divergence)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=-1)


def in_numpy(x: Any, y: Any, wrong: Any, far: Any, tau: float, second_tau: float, batch_negatives: bool) -> float:
    """The two terms row by row; `wrong` and `far` may be None."""

    def cos(a: Any, b: Any) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    def term(tau: float, positives: Any) -> float:
        total = 0.0
        for i in range(len(x)):
            scores = [cos(x[i], positives[i])]
            scores += [cos(x[i], y[j]) for j in range(len(y)) if j != i and batch_negatives]
            scores += [] if wrong is None else [cos(x[i], wrong[i])]
            powers = np.exp(np.array(scores) / tau)
            total -= float(np.log(powers[0] / powers.sum()))
        return total / len(x)

    return term(tau, y) if far is None else (term(tau, y) + term(second_tau, far)) / 2
