"""Fixed points of maps that are steep: Anderson extrapolation of a damped iteration, each row by itself.

After D. G. Anderson, "Iterative procedures for nonlinear integral equations", J. ACM 12, 1965.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_KEPT = 5
"""Steps that an extrapolation looks back on."""

_DAMPING, _LEAST, _SLOWER, _FASTER = 0.3, 1e-6, 4, 1.1

_WARM_TOL, _WARM_STEPS = 1e-2, 50


@dataclass(frozen=True)
class Found:
    """Where an iteration ended: the values, how many steps it took, and which rows are within the tolerance."""

    values: Float[Tensor, "rows dim"]
    iterations: int
    converged: Bool[Tensor, " rows"]


def annealed(
    step: Callable[[Tensor, float], Tensor],
    start: Float[Tensor, "rows dim"],
    beta: float,
    highest: float,
    *,
    tol: float,
    max_iter: int,
) -> Found:
    """A fixed point of `step(values, beta)`, by way of those at larger beta, from `highest` on halved.

    Args:
        step: the map; the smaller beta is, the steeper.
        start: where to begin at the largest beta.
        beta: the one that is asked for.
        highest: from where on the map is nearly flat.
        tol: the largest change of a component that counts as none.
        max_iter: steps in all.
    """
    path = [beta]
    while 2 * path[-1] < highest:
        path.append(2 * path[-1])
    values, done = start, 0
    for warm in reversed(path[1:]):
        found = extrapolated(
            lambda x, warm=warm: step(x, warm), values, tol=_WARM_TOL, max_iter=min(_WARM_STEPS, max_iter - done)
        )
        values, done = found.values, done + found.iterations
    found = extrapolated(lambda x: step(x, beta), values, tol=tol, max_iter=max_iter - done)
    return Found(found.values, done + found.iterations, found.converged)


def extrapolated(
    step: Callable[[Tensor], Tensor], start: Float[Tensor, "rows dim"], *, tol: float, max_iter: int
) -> Found:
    """A fixed point of `step` near `start`, each row for itself.

    A row whose residual has doubled goes back to its best values, forgets its past and takes shorter steps.
    """
    x = best = start
    best_residual = torch.zeros_like(x)
    least = x.new_full((len(x), 1), torch.inf)
    damping = torch.full_like(least, _DAMPING)
    moves: list[Tensor] = []
    changes: list[Tensor] = []
    last_x: Tensor | None = None
    last_residual = best_residual
    for done in range(max_iter):
        residual = step(x) - x
        size = residual.abs().amax(1, keepdim=True)
        if bool((torch.minimum(size, least) < tol).all()):
            return Found(torch.where(size < least, x, best), done + 1, torch.ones(len(x), dtype=torch.bool))
        lost = ~(size < 2 * least)
        if last_x is not None:
            moves, changes = [*moves, x - last_x][-_KEPT:], [*changes, residual - last_residual][-_KEPT:]
        moves, changes = ([one.masked_fill(lost, 0) for one in past] for past in (moves, changes))
        better = size < least
        best, best_residual = torch.where(better, x, best), torch.where(better, residual, best_residual)
        least = torch.where(better, size, least)
        damping = torch.where(better, (damping * _FASTER).clamp(max=1), damping)
        damping = torch.where(lost, (damping / _SLOWER).clamp(min=_LEAST), damping)
        x, residual = torch.where(lost, best, x), torch.where(lost, best_residual, residual)
        last_x, last_residual = x, residual
        x = torch.where(least < tol, best, _next(x, residual, damping, moves, changes))
    return Found(best, max_iter, (least < tol).squeeze(1))


def _next(x: Tensor, residual: Tensor, damping: Tensor, moves: list[Tensor], changes: list[Tensor]) -> Tensor:
    """One damped step from where the past says that the residual is smallest."""
    plain = x + damping * residual
    if not moves:
        return plain
    moved, changed = torch.stack(moves, 1), torch.stack(changes, 1)
    normal = changed @ changed.mT
    ridge = 1e-14 * normal.diagonal(dim1=1, dim2=2).amax(1) + torch.finfo(x.dtype).tiny
    normal = normal + ridge[:, None, None] * torch.eye(len(moves), dtype=x.dtype, device=x.device)
    share = torch.linalg.solve_ex(normal, changed @ residual[..., None]).result
    return plain - ((moved + damping[..., None] * changed) * share).sum(1)
