"""Mean and deviation of the vectors of a language, and what they make of them; for `language_calibration`."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Step = Literal["shift", "scale", "rotate"]

STEPS: tuple[Step, ...] = ("shift", "scale", "rotate")
DEAD = 1e-6
"""A component has no scale whose deviation is less than this part of the usual one, or of its own mean."""
_ROWS = 8192
"""Vectors held in double precision at once."""


class LanguageMap(NamedTuple):
    """What becomes of the vectors of one language: `(x − mean) * scale @ rotation`, in double precision."""

    mean: Float[Tensor, " dim"]
    scale: Float[Tensor, " dim"]
    rotation: Float[Tensor, "dim dim"] | None

    def affine(self) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, " dim"]]:
        """Weight and bias of a linear layer that does the same."""
        matrix = self.scale.diag() if self.rotation is None else self.scale[:, None] * self.rotation
        return matrix.mT.contiguous(), -(self.mean @ matrix)


def moments_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each component, of n and not of n - 1."""
    parts = x.split(_ROWS)
    mean = torch.stack([part.cpu().double().sum(0) for part in parts]).sum(0) / len(x)
    return mean, torch.stack([(part.cpu().double() - mean).square().sum(0) for part in parts]).sum(0) / len(x)


def together(moments: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Those of all languages together, each of the same weight however many vectors it has."""
    means, variances = (torch.stack(part) for part in zip(*moments, strict=True))
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)


def standard(mean: Tensor, variance: Tensor, steps: Sequence[Step]) -> LanguageMap:
    """Shift and scale, as far as they are asked for."""
    deviation = variance.sqrt()
    alive = deviation > DEAD * torch.maximum(variance.mean().sqrt(), mean.abs())
    scale = torch.where(alive, 1 / deviation.where(alive, 1), 0) if "scale" in steps else torch.ones_like(mean)
    return LanguageMap(mean if "shift" in steps else torch.zeros_like(mean), scale, None)


def apply(one: LanguageMap, x: Tensor) -> Tensor:
    """In single precision at least; shifted and scaled in double, as a component may vary little around a huge mean."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    mean, scale = (part.to(device=x.device, dtype=wide) for part in (one.mean, one.scale))
    found = torch.cat([((part.to(wide) - mean) * scale).to(dtype) for part in x.split(_ROWS)])
    return found if one.rotation is None else found @ one.rotation.to(found)
