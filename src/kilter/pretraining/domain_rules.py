"""Other answers to which domain comes next, beside dynamic gradient alignment: fixed weights, and two rules of others.

`doge_step` and `balance_step` stand in the place of `reweight` as the `rule` of `DynamicGradientAlignment`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kilter.core.checks import integer, shaped, whole, within
from kilter.pretraining.dga import reweight
from kilter.pretraining.rule_checks import check_step

_HIGHEST = 5.0
"""DoGE's scores are cut here, and below 0."""


def proportional_weights(sizes: Sequence[int]) -> Float[Tensor, " domains"]:
    r"""The share of all data that each domain has: $\alpha_i = n_i / \sum_j n_j$.

    Args:
        sizes: examples, or tokens, of each domain.

    Returns:
        Weights for `DomainMixture`.

    Raises:
        TypeError, ValueError: sizes that are no whole numbers, or below 0; no domains, or all empty.

    Example:
        >>> proportional_weights([30, 10])
        tensor([0.7500, 0.2500])
    """
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise TypeError(f"sizes must be a list of whole numbers, got {type(sizes).__name__}")
    for number, size in enumerate(sizes):
        whole(f"sizes[{number}]", size, 0)
    if not sum(sizes):
        raise ValueError("sizes are all 0, or none; give the number of examples of each domain")
    return torch.tensor([size / sum(sizes) for size in sizes])


def importance_weights(clusters: Int[Tensor, " batch"], domains: int) -> Float[Tensor, " domains"]:
    r"""Importance sampling (CRISP): the share of the target's examples that each domain has the like of.

    $$\alpha_i = \frac{\#\{y : c(y) = i\}}{\#\{y\}}$$

    with c(y) the domain whose centre is nearest to y; domains are clusters of the data, such as of k-means.

    Args:
        clusters: c(y) of each example of the target.
        domains: how many there are.

    Returns:
        Weights for `DomainMixture`; of no examples all are equal.

    Raises:
        TypeError: clusters that are no integers.
        ValueError: fewer than one domain; on the CPU also clusters beyond it.

    Example:
        >>> importance_weights(torch.tensor([2, 0, 2, 2]), 3)
        tensor([0.2500, 0.0000, 0.7500])

    Reference: D. Grangier, S. Fan, S. Seto, P. Ablin, "Task-Adaptive Pretrained Language Models via
    Clustered-Importance Sampling", ICLR 2025.
    """
    whole("domains", domains, 1)
    integer("clusters", clusters, "hold integers", "number the domains")
    shaped("clusters", clusters, "batch")
    within("clusters", clusters, 0, domains - 1, f"but there are {domains} domains", row="example")
    if not len(clusters):
        return torch.full((domains,), 1 / domains)
    return torch.bincount(clusters.long(), minlength=domains) / len(clusters)


def doge_step(
    log_weights: Float[Tensor, " domains"], alignments: Float[Tensor, " domains"], step_size: float | int
) -> Float[Tensor, " domains"]:
    r"""DoGE's rule: as `reweight`, with alignments cut to within 0 and 5.

    $$\alpha'_i \propto \alpha_i \exp\bigl(\mu \min(\max(a_i, 0), 5)\bigr)$$

    Its alignments are divided by the mean norm of the domains' gradients, its $\mu$ is the learning rate times 100, and
    it averages no weights:

        DynamicGradientAlignment(mixture, domains=domains, target=target, rule=doge_step, normalise="mean_norm",
                                 step_size=100, times_learning_rate=True, ema=1)

    Departures: DoGE takes the training batch itself, at every step, and trains a second model with the averages of all
    its weights.

    Args:
        log_weights: log α.
        alignments: a.
        step_size: μ.

    Returns:
        log α', normalised, in at least float32.

    Raises:
        TypeError, ValueError: see `reweight`.

    Example:
        >>> doge_step(torch.zeros(3), torch.tensor([-1.0, 0.0, 9.0]), 0.2).exp()
        tensor([0.2119, 0.2119, 0.5761])

    Reference: S. Fan, M. Pagliardini, M. Jaggi, "DoGE: Domain Reweighting with Generalization Estimation", ICML 2024.
    """
    check_step(log_weights, alignments, step_size)
    return reweight(log_weights, alignments.clamp(0, _HIGHEST), step_size)


def balance_step(
    log_weights: Float[Tensor, " domains"], alignments: Float[Tensor, " domains"], step_size: float | int
) -> Float[Tensor, " domains"]:
    r"""The rule of R&B: weights that forget those before, out of alignments scaled to length 1.

    $$\alpha' = \mathrm{softmax}\!\left(\lambda \frac{a}{\lVert a\rVert_2}\right)$$

        DynamicGradientAlignment(mixture, domains=domains, target=target, rule=balance_step, method="last_layer",
                                 step_size=1, ema=1)

    Departures: here a is measured once a round, on batches of its own; R&B sums gradients of the last layer over the
    round.

    Args:
        log_weights: log α, of which only the shape counts.
        alignments: a; all 0 gives equal weights.
        step_size: λ.

    Returns:
        log α', normalised, in at least float32.

    Raises:
        TypeError, ValueError: see `reweight`.

    Example:
        >>> balance_step(torch.zeros(2), torch.tensor([3.0, 4.0]), 5.0).exp()  # 1 / (1 + e)
        tensor([0.2689, 0.7311])

    Reference: "R&B: Domain Regrouping and Data Mixture Balancing for Efficient Foundation Model Training", arXiv
    2505.00358, 2025, Algorithm 1.
    """
    check_step(log_weights, alignments, step_size)
    a = alignments.to(torch.promote_types(alignments.dtype, torch.float32))
    return reweight(torch.zeros_like(a), a / a.norm().clamp(min=torch.finfo(a.dtype).tiny), step_size)
