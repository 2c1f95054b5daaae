"""Win rates behind a decoder, and the best policy, of finitely many answers: exact, and with ties, which curves lack.

Paper: A. Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, arXiv 2412.19792.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kilter.core.checks import first, floating, positive, readable, same_shape, whole
from kilter.preference.decoders import Decoder, procedure
from kilter.preference.extrapolation import annealed
from kilter.preference.unit_grid import uniform

_OFF = 1e-3


@dataclass(frozen=True)
class FiniteSolution:
    """What `finite_fixed_point` found, of each support.

    Attributes:
        policy: probabilities of the answers, proportional to base · exp(reward / beta).
        reward: the derivative of W by the policy there: what training with a KL penalty must be given to end there.
        win_rate: W of the policy, behind the decoder.
        kl: KL(policy || base) in nats.
        iterations: steps taken, of the support that took most.
        converged: of which supports a further step changes the reward by less than `tol`.
    """

    policy: Float[Tensor, "*lead answers"]
    reward: Float[Tensor, "*lead answers"]
    win_rate: Float[Tensor, "*lead"]
    kl: Float[Tensor, "*lead"]
    iterations: int
    converged: Bool[Tensor, "*lead"]


def finite_win_rate(
    policy: Float[Tensor, "*lead answers"],
    base: Float[Tensor, "*lead answers"],
    rewards: Float[Tensor, "*lead answers"],
    decoder: Decoder = "best_of",
    n: int = 4,
) -> Float[Tensor, "*lead"]:
    r"""How often a policy over finitely many answers wins against the base, both behind one decoder; ties count ½.

    $$W = \sum_\ell \big(T_\pi(\le \ell) - T_\pi(< \ell)\big) \tfrac12 \big(T_0(\le \ell) + T_0(< \ell)\big)$$

    over levels of equal reward, with T = G(Q) and Q the mass of lower levels. Answers of one level share what the
    decoder puts on it as the policy does.

    Args:
        policy: probabilities of the answers.
        base: those of the base model.
        rewards: of the answers; equal ones tie.
        decoder: see `win_rate`.
        n: draws of `best_of` and `worst_of`.

    Returns:
        W, at least float32; with a gradient to `policy` and `base`, each probability taken for a number of its own.

    Raises:
        TypeError: tensors that are not floating point, `n` that is no whole number, g that gives no tensor.
        ValueError: shapes that differ, no answer, an unknown decoder, `n` below 1, g that is no density; on the CPU
            also masses that are negative, NaN or do not sum to 1, and NaN in `rewards`.

    Example:
        >>> base, better = torch.tensor([0.5, 0.5]), torch.tensor([0.2, 0.8])
        >>> finite_win_rate(better, base, torch.tensor([0.0, 1.0]), "best_of", 2)
        tensor(0.6050)

    Reference: Balashankar et al., ICML 2025.
    """
    _check(base, rewards, policy)
    kind = procedure(decoder, n)
    dtype = torch.promote_types(torch.promote_types(policy.dtype, base.dtype), torch.float32)
    levels, order = rewards.contiguous().sort(-1)
    at = torch.searchsorted(levels, levels, right=True)
    last = at == torch.arange(1, levels.shape[-1] + 1, device=at.device)
    upto = torch.where(last, at, torch.searchsorted(levels, levels))  # within a level nothing is put out before its end

    def put_out(masses: Tensor) -> tuple[Tensor, Tensor]:
        below = torch.nn.functional.pad(masses.to(dtype).gather(-1, order).cumsum(-1), (1, 0))
        reached = kind.integral(below.gather(-1, upto))
        return reached, torch.cat([kind.integral(below[..., :1]), reached[..., :-1]], -1)

    ours, ours_before = put_out(policy)
    theirs, theirs_before = put_out(base)
    return ((ours - ours_before) * (theirs + theirs_before) / 2).sum(-1)


def finite_fixed_point(
    base: Float[Tensor, "*lead answers"],
    rewards: Float[Tensor, "*lead answers"],
    decoder: Decoder = "best_of",
    n: int = 4,
    beta: float | int = 0.1,
    *,
    tol: float = 1e-10,
    max_iter: int = 2000,
) -> FiniteSolution:
    r"""The policy over finitely many answers that maximises W − β KL, and the reward that leads there.

    $$\pi(y) \propto \pi_0(y)\, e^{R(y) / \beta}, \qquad R = \partial W / \partial \pi \text{ at } \pi$$

    Args:
        base: probabilities of the answers under the base model.
        rewards: of the answers; equal ones tie.
        decoder: see `win_rate`.
        n: draws of `best_of` and `worst_of`.
        beta: β, the weight of KL(policy || base).
        tol: largest change of R that counts as none; of float32 nothing below its precision is reached.
        max_iter: steps after which the search is given up.

    Returns:
        `FiniteSolution`, float64. Look at `converged`.

    Raises:
        TypeError: tensors that are not floating point, a count that is no whole number, g that gives no tensor.
        ValueError: shapes that differ, no answer, an unknown decoder, an option out of range, g that is no density; on
            the CPU also masses that are negative, NaN or do not sum to 1, and NaN in `rewards`.

    Example:
        >>> found = finite_fixed_point(torch.full((3,), 1 / 3), torch.tensor([0.0, 1.0, 1.0]), "best_of", 2, beta=0.5)
        >>> found.policy, bool(found.converged)
        (tensor([0.2373, 0.3814, 0.3814], dtype=torch.float64), True)

    Reference: Balashankar et al., ICML 2025.
    """
    _check(base, rewards)
    kind = procedure(decoder, n)
    positive("beta", beta)
    positive("tol", tol)
    whole("max_iter", max_iter, 1)
    shape = base.shape
    base, rewards = (one.detach().double().reshape(-1, shape[-1]) for one in (base, rewards))
    base = base / base.sum(-1, keepdim=True)

    def policy_of(reward: Tensor, at: float) -> Tensor:
        return (base.log() + reward / at).softmax(-1)

    def step(reward: Tensor, at: float) -> Tensor:
        found = _gradient(policy_of(reward, at), base, rewards, decoder, n)
        return found - (base * found).sum(-1, keepdim=True)

    start = step(torch.zeros_like(base), 1.0)
    highest = max(1.0, float(kind.density(uniform()).max()) / 8)
    found = annealed(step, start, float(beta), highest, tol=tol, max_iter=max_iter)
    policy = policy_of(found.values, float(beta))
    won = finite_win_rate(policy, base, rewards, decoder, n)
    kl = (torch.xlogy(policy, policy) - torch.xlogy(policy, base)).sum(-1)
    reward = _gradient(policy, base, rewards, decoder, n)
    lead = shape[:-1]
    return FiniteSolution(
        policy.view(shape),
        reward.view(shape),
        won.view(lead),
        kl.view(lead),
        found.iterations,
        found.converged.view(lead),
    )


def _gradient(policy: Tensor, base: Tensor, rewards: Tensor, decoder: Decoder, n: int) -> Float[Tensor, "rows answers"]:
    with torch.enable_grad():
        leaf = policy.detach().requires_grad_()
        (found,) = torch.autograd.grad(finite_win_rate(leaf, base, rewards, decoder, n).sum(), leaf)
    return found


def _check(base: Any, rewards: Any, policy: Any = None) -> None:
    masses = {"base": base} if policy is None else {"policy": policy, "base": base}
    for name, one in {**masses, "rewards": rewards}.items():
        floating(name, one)
    if base.ndim == 0 or not base.shape[-1]:
        raise ValueError(f"base must be (…, answers) with one answer at least, got shape {tuple(base.shape)}")
    for name, one in {**masses, "rewards": rewards}.items():
        same_shape(name, one, base.shape, "base")
    for name, one in masses.items():
        if not readable(one):
            continue
        if at := first(~(one >= 0) | one.isinf()):
            raise ValueError(f"{name} holds {float(one[tuple(at)]):.4g} at {at}; give probabilities of the answers")
        sums = one.detach().double().sum(-1)
        if at := first(((sums - 1).abs() > _OFF)[None]):
            raise ValueError(f"{name} sums to {float(sums[tuple(at[1:])]):.4g} over the answers; divide it by that")
    if readable(rewards) and (at := first(rewards.isnan())):
        raise ValueError(f"rewards is NaN at {at}; leave out answers that have no reward")
