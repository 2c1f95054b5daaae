"""One step of decoder states, and the way from them to logits: what all moves of CLAPS are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kilter.ops.info_nce import unit

Output = nn.Module | Callable[[Tensor], Tensor]
Project = Callable[[Tensor, Tensor | None], Tensor]


class Linear(NamedTuple):
    """Logits are linear in the states."""

    matrix: Float[Tensor, "vocab dim"]
    bias: Tensor | None


def linear_of(output: Any) -> Linear | None:
    """Matrix and bias of an `nn.Linear`, or of what says that it is no more: by an attribute `matrix` that is not None.

    Example:
        >>> linear_of(nn.Linear(2, 3, bias=False)).matrix.shape, linear_of(torch.tanh)
        (torch.Size([3, 2]), None)
    """
    if type(output) is nn.Linear:
        return Linear(output.weight, output.bias)
    matrix = getattr(output, "matrix", None)
    return None if matrix is None else Linear(matrix, output.bias)


def wide(states: Tensor) -> Tensor:
    """A constant in at least float32."""
    return states.detach().to(torch.promote_types(states.dtype, torch.float32))


def length_of(states: Tensor, step: float | int, relative: bool) -> Tensor | float | int:
    """Of a step, in units of the components or in lengths of the states."""
    return step * states.norm(dim=-1, keepdim=True) if relative else step


def stepped(states: Tensor, slope: Tensor, length: Tensor | float | int) -> Tensor:
    """Up the slope; where there is none, or no step, exactly where it was."""
    way = unit(slope)
    return torch.where(way == 0, states, states + length * way)


def slope_of(loss: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    """The gradient of a loss with respect to states alone, whether gradients are on or off.

    Raises:
        ValueError: what is called has no gradient.
    """
    with torch.enable_grad():
        leaf = states.detach().requires_grad_()
        value = loss(leaf)
        if not value.requires_grad:
            raise ValueError(
                "output or project has no gradient with respect to its states: leave out what cuts it off (detach, "
                "no_grad), and instead of torch.inference_mode use torch.no_grad"
            )
        return torch.autograd.grad(value, leaf)[0]


def unless_still(slope: Tensor, there: Tensor, here: Tensor) -> Tensor:
    """Where nothing moved the divergence is 0, and what rounding leaves of its slope no direction."""
    return slope.masked_fill((there == here).all(-1, keepdim=True), 0)
