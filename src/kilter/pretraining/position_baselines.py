"""The positions that others are compared with: none, waves, a learnt table, a slope.

They are attached like `SeqPE`, so that rivals differ in nothing else. Rotary positions are transformers' own Llama.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import one_of, positive, whole
from kilter.core.positions import HostSizes, PositionTerm

Interpolation = Literal["linear", "cubic"]


class NoPositions(PositionTerm):
    r"""No positions at all: a causal model learns where it is from how much it sees.

    $$\mathrm{logits}_{ij} = \frac{q_i \cdot k_j}{\sqrt d}$$

    Args:
        axes: 1 for texts, 2 for images.

    Shape:
        - positions: int `(rows,)`, or `(rows, axes)`; what is made of them has no columns.

    Example:
        >>> NoPositions().apply_to
        'none'

    Reference: A. Haviv et al., "Transformer Language Models without Positional Encodings Still Learn Positional
    Information", Findings of EMNLP 2022.
    """

    def __init__(self, *, axes: int = 1) -> None:
        super().__init__()
        whole("axes", axes, 1)
        self.axes = axes
        self.apply_to = "none"

    def encode(self, positions: Int[Tensor, "rows *axes"]) -> Float[Tensor, "rows nothing"]:
        """Nothing for each position."""
        return torch.zeros(len(positions), 0, device=positions.device)


class SinusoidalPositions(PositionTerm):
    r"""Waves from short to long, added to the inputs.

    $$\mathrm{PE}_{p,2i} = s\,\sin(p\,b^{-2i/w}), \qquad \mathrm{PE}_{p,2i+1} = s\,\cos(p\,b^{-2i/w})$$

    On a grid every axis has its part of the width, w = width / axes.

    Args:
        axes: 1 for texts, 2 for images.
        base: b; the longest wave is 2πb positions long.
        scale: s. Waves are as large as token embeddings where these are multiplied by √width, as in the first
            transformer; beside those of GPT-2 or Llama, which begin at 0.02, give about that.

    Shape:
        - positions: int `(rows,)`, or `(rows, axes)`; returns float32 `(rows, width)`.

    Raises:
        TypeError: an option that is no number.
        ValueError: an option out of range; a model whose width is no multiple of 2 × axes.

    Example:
        >>> SinusoidalPositions(scale=0.02).config()
        {'axes': 1, 'base': 10000.0, 'scale': 0.02}

    Reference: A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    def __init__(self, *, axes: int = 1, base: float | int = 10_000.0, scale: float | int = 1.0) -> None:
        super().__init__()
        whole("axes", axes, 1)
        positive("base", base)
        positive("scale", scale)
        self.axes = axes
        self.base = base
        self.scale = scale

    def fit(self, sizes: HostSizes) -> None:
        """Check that the width can be shared out."""
        if sizes.width % (2 * self.axes):
            raise ValueError(f"axes={self.axes} need a width that {2 * self.axes} divides, the model has {sizes.width}")
        super().fit(sizes)

    def encode(self, positions: Int[Tensor, "rows *axes"]) -> Float[Tensor, "rows width"]:
        """Waves at each position; see the class."""
        width = _fitted(self).width // self.axes
        steps = torch.arange(0, width, 2, device=positions.device) / width
        angles = positions.view(len(positions), self.axes, 1) * torch.exp(-math.log(self.base) * steps)
        return self.scale * torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class LearntPositions(PositionTerm):
    r"""A learnt table, added to the inputs, and stretched over what is longer than it.

    $$\mathrm{PE}_p = E[p], \qquad \mathrm{PE}_p = \mathrm{stretch}_N(E)[p] \ \text{where } N > L$$

    N is the number of positions of the batch, up to the farthest. On a grid the table is fitted to the rows and columns
    that there are, smaller ones too, as is usual for images. When generating beyond L, what is in the key-value cache
    keeps the positions that it had.

    Args:
        max_position: positions L of an axis: as many as the model is trained on.
        axes: 1 for texts, 2 for images.
        interpolation: between places of the table; None is `linear` for texts and `cubic` for images.

    Shape:
        - positions: int `(rows,)`, or `(rows, axes)`; returns `(rows, width)`.

    Raises:
        TypeError: an option that is no whole number.
        ValueError: an option out of range, more than two axes.

    Example:
        >>> LearntPositions(4, axes=2).interpolation
        'cubic'

    Reference: A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; A. Dosovitskiy et al.,
    "An Image is Worth 16x16 Words", ICLR 2021.
    """

    cacheable = False

    def __init__(self, max_position: int, *, axes: int = 1, interpolation: Interpolation | None = None) -> None:
        super().__init__()
        whole("max_position", max_position, 1)
        whole("axes", axes, 1)
        if axes > 2:
            raise ValueError(f"axes must be 1 for texts or 2 for images, got {axes}")
        if interpolation is not None:
            one_of("interpolation", interpolation, Interpolation)
        self.max_position = max_position
        self.axes = axes
        self.interpolation: Interpolation = interpolation or ("linear" if axes == 1 else "cubic")

    def fit(self, sizes: HostSizes) -> None:
        """Make the table, of the size of the model's own ones in the beginning."""
        super().fit(sizes)
        self.table = nn.Parameter(0.02 * torch.randn(*[self.max_position] * self.axes, sizes.width))

    def encode(self, positions: Int[Tensor, "rows *axes"]) -> Float[Tensor, "rows width"]:
        """Places of the table, stretched where need be; see the class."""
        _fitted(self)
        if not len(positions):
            return self.table.new_zeros(0, self.table.shape[-1])
        sizes = [last + 1 for last in positions.view(-1, self.axes).amax(0).tolist()]
        if self.axes == 1:
            sizes = [max(sizes[0], self.max_position)]
        return self._stretched(sizes)[positions.unbind(-1) if self.axes > 1 else positions]

    def _stretched(self, sizes: list[int]) -> Float[Tensor, "*sizes width"]:
        if sizes == [self.max_position] * self.axes:
            return self.table
        grid = self.table if self.axes > 1 else self.table[:, None]
        wide = torch.promote_types(grid.dtype, torch.float32)  # cubic weights need their digits
        mode = "bilinear" if self.interpolation == "linear" else "bicubic"
        size = (*sizes, 1)[:2]
        found = F.interpolate(grid.permute(2, 0, 1)[None].to(wide), size=size, mode=mode, align_corners=False)
        return found[0].permute(1, 2, 0).view(*sizes, -1).to(grid.dtype)


class Alibi(PositionTerm):
    r"""A penalty on the logits that grows with the distance, steeper for some heads than for others.

    $$\mathrm{logits}_{ij} = \frac{q_i \cdot k_j}{\sqrt d} - m_h\,(i - j)$$

    Softmax ignores what depends on i alone, so that it is `attn_scalar` with $a = m_h\sqrt d$ and $b = j$; j is split
    in two, $256\,\lfloor j / 256 \rfloor$ and the rest, which half precision holds up to 65,535. Slopes $m_h$ are
    $2^{-8h/H}$ for a power of two of heads, and for other numbers those of the next smaller power, with every other one
    of the next larger. For causal models: after j there is no penalty but a reward.

    Shape:
        - positions: int `(rows,)`; returns float32 `(rows, 2)`.

    Example:
        >>> [round(slope, 3) for slope in slopes_of(4)]
        [0.25, 0.062, 0.016, 0.004]

    Reference: O. Press, N. Smith, M. Lewis, "Train Short, Test Long", ICLR 2022.
    """

    def __init__(self) -> None:
        super().__init__()
        self.apply_to = "attn_scalar"

    def encode(self, positions: Int[Tensor, " rows"]) -> Float[Tensor, "rows parts"]:
        """Each position in two parts; see the class."""
        return torch.stack([positions.div(256, rounding_mode="floor"), positions.remainder(256)], -1).float()

    def query_key(
        self, vectors: Float[Tensor, "rows parts"], layer: int
    ) -> tuple[Float[Tensor, "rows heads parts"], Float[Tensor, "rows key_heads parts"]]:
        """Slopes of the heads, and positions; see the class."""
        sizes = _fitted(self)
        slopes = torch.tensor(slopes_of(sizes.heads), device=vectors.device) * math.sqrt(sizes.head_dim)
        a = torch.stack([256 * slopes, slopes], -1).to(vectors)
        return a.expand(len(vectors), -1, -1), vectors[:, None].expand(-1, sizes.key_heads, -1)


def slopes_of(heads: int) -> list[float]:
    """Slopes of so many heads, as published.

    Example:
        >>> slopes_of(3) == [2**-4, 2**-8, 2**-2]
        True
    """
    power = 2 ** int(math.log2(heads))
    found = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2 ** (-8 * (head + 1) / (2 * power)) for head in range(0, 2 * power, 2)]
    return found + between[: heads - power]


def _fitted(term: PositionTerm) -> HostSizes:
    if term.sizes is None:
        raise RuntimeError("these positions belong to no model yet; attach(model, positions)")
    return term.sizes
