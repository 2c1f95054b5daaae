"""What gives a model its positions: vectors of positions, and what queries and keys are given of them.

A host attaches any `PositionTerm` without knowing which; a term knows no host.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ApplyTo = Literal["input_add", "attn_add", "attn_mul", "attn_scalar", "none"]
"""Where positions enter: added to the inputs; to, or multiplied with, queries and keys; or as a product of their own in
the logits of attention, (q·k + a·b) / √d."""


@dataclass(frozen=True)
class HostSizes:
    """The sizes of the model that a term is attached to.

    Attributes:
        width: of the inputs.
        heads: of the queries, in each layer.
        key_heads: of keys and values; fewer than `heads` where groups of queries share them.
        head_dim: size of a head.
        layers: with attention.
        axes: 1 of texts, 2 of pictures (row, then column).
        front: tokens before the positions that have none, such as the class token of a ViT.
    """

    width: int
    heads: int
    key_heads: int
    head_dim: int
    layers: int
    axes: int = 1
    front: int = 0


@dataclass(frozen=True)
class PositionStep:
    """Positions of one forward pass.

    Attributes:
        vectors: one row for each position that occurs.
        where: the row of each position, in the shape of the positions without their axes.
        parts: weighted terms of the loss by name, in training; they are added to it.
    """

    vectors: Float[Tensor, "rows out_dim"]
    where: Int[Tensor, "..."]
    parts: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)


class PositionTerm(nn.Module, ABC):
    """Base of every position scheme that hosts attach; subclasses are final.

    A subclass stores its options under the names of its constructor's arguments (one called `apply` as `apply_to`, for
    a module has a method of that name), which is all that `config()` needs; parameters whose size depends on the model
    are made in `fit`. Buffers must be persistent, or they are lost when a model is loaded.
    """

    axes: int = 1
    """Numbers that make a position; `attach` compares them with the model's."""
    apply_to: ApplyTo = "input_add"
    shared_layers: bool = True
    """Whether `query_key` gives the same for all layers, and is asked once."""
    cacheable: ClassVar[bool] = True
    """Whether the vector of a position depends on nothing else, so that a table of them can be kept."""
    longest: int | None = None
    """How many positions there are on each axis, from 0; None where there is no end."""
    sizes: HostSizes | None = None

    def fit(self, sizes: HostSizes) -> None:
        """Make what depends on the model that it is being attached to; once for each term."""
        self.sizes = sizes

    @abstractmethod
    def encode(self, positions: Int[Tensor, "rows *axes"]) -> Float[Tensor, "rows out_dim"]:
        """Vectors of positions `(n,)`, or `(n, axes)` where there are several axes; sorted, each once."""

    def front(self) -> Float[Tensor, "front out_dim"] | None:
        """Vectors of the tokens without a position; None stands for zeros, and is all that `input_add` needs."""
        return None

    def query_key(
        self, vectors: Float[Tensor, "rows out_dim"], layer: int
    ) -> tuple[Float[Tensor, "rows heads size"], Float[Tensor, "rows key_heads size"]]:
        """What queries and keys of a layer are given, a and b, where `apply_to` names attention.

        `size` is that of a head, but with `attn_scalar` any size will do. Logits are divided by √head_dim.
        """
        raise NotImplementedError(f"{type(self).__name__} gives nothing to queries and keys")

    def forward(self, positions: Int[Tensor, "rows length *axes"], batch: int = 1) -> PositionStep:
        """The positions of a training step; a term with losses of its own adds them here.

        In training a host calls this, else `encode`. There is one row where all rows of the batch share it; so may
        `where` have, or one for each of `batch`.
        """
        rows, where = distinct(positions, self.axes)
        return PositionStep(self.encode(rows), where)

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this term: `type(term)(**term.config())`."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, "apply_to" if name == "apply" else name) for name in names}

    def extra_repr(self) -> str:
        """Options in the printed form of the module."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


def distinct(positions: Int[Tensor, "..."], axes: int = 1) -> tuple[Int[Tensor, "rows *axes"], Int[Tensor, "..."]]:
    """Each position that occurs once, in order, and the row of every one of them.

    Example:
        >>> distinct(torch.tensor([5, 3, 3, 9]))
        (tensor([3, 5, 9]), tensor([1, 0, 0, 2]))
    """
    if axes == 1:
        return torch.unique(positions, return_inverse=True)
    rows, where = torch.unique(positions.reshape(-1, axes), dim=0, return_inverse=True)
    return rows, where.view(positions.shape[:-1])
