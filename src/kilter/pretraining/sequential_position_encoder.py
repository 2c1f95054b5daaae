"""A small transformer that reads the digits of a position and gives its vector, so that no position is out of reach.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277. Departures: no
dropout, and weights start as large as the published ones act at any width.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional as F

from kilter.core.checks import one_of, whole
from kilter.pretraining.position_digits import check_positions, digits_needed, position_digits
from kilter.pretraining.prefix_trie import tokens_of

Direction = Literal["causal", "bi"]

_AT_ONCE = 4096
"""Positions that are encoded at once without gradients, which bounds the memory of long tables."""


class SequentialPositionEncoder(nn.Module):
    r"""Vectors of positions, read off their digits by a transformer of a few layers.

    $$h^{(0)}_t = E_\mathrm{digit}[d_t] + E_\mathrm{place}[t] + E_\mathrm{axis}[a_t], \qquad
      \mathrm{PE}(p) = W_o\,\mathrm{LN}(h^{(L)}_\mathrm{summary}) + b_o$$

    Digits of all axes stand one after another, and behind them a learnt summary token; blocks are pre-LN with a
    GELU (tanh) of four times the width. Every position whose digits fit has a vector, from the first step on: also
    those beyond `max_position` that need no more digits.

    Equal positions are encoded once. In a causal encoder a digit sees those before it alone, so that equal prefixes are
    encoded once too, with gradients; in the last layer only the summary is computed. This changes no result. Under
    `torch.compile` shapes may not hang on values, and every position is encoded by itself: give each once.

    Departures: no dropout (published: 0.1), since equal positions of a step share one vector and a table must repeat;
    weights begin with the deviation $0.02\sqrt{768/\mathrm{width}}$, which at width 768 is the published 0.02: narrow
    encoders, begun with that, gave nearly the same vector for all positions.

    Args:
        max_position: positions of an axis, 0 to `max_position` - 1, which says how many digits there are.
        axes: numbers of a position: 1 for texts, 2 for images.
        width: of the encoder.
        out_dim: width of a vector; None is `width`.
        layers: blocks.
        heads: of attention, a divisor of `width`; None is one for each 64 of the width.
        base: of the digits.
        direction: `causal`, or `bi` where digits see each other both ways, and prefixes are not shared.

    Attributes:
        num_digits: digits D of an axis.
        largest: largest position of an axis, base^D - 1.

    Shape:
        - `positions`: int `(…,)`, or `(…, axes)` for more than one axis.
        - returns `(…, out_dim)`.

    Raises:
        TypeError: an option that is no whole number; positions that are not integers.
        ValueError: an option out of range, a width that `heads` does not divide, another number of axes; on the CPU
            also a negative position or one above `largest`.

    Example:
        >>> encoder = SequentialPositionEncoder(20_000, width=8, heads=2)
        >>> encoder(torch.tensor([[0, 1, 19_999], [5, 5, 5]])).shape
        torch.Size([2, 3, 8])
        >>> with torch.no_grad():
        ...     encoder.eval().table(4).shape  # kept until a parameter changes
        torch.Size([4, 8])

    Reference: Li et al., 2025.
    """

    def __init__(
        self,
        max_position: int,
        *,
        axes: int = 1,
        width: int = 768,
        out_dim: int | None = None,
        layers: int = 2,
        heads: int | None = None,
        base: int = 10,
        direction: Direction = "causal",
    ) -> None:
        super().__init__()
        for name, value, low in (
            ("max_position", max_position, 1),
            ("axes", axes, 1),
            ("width", width, 1),
            ("layers", layers, 1),
            ("base", base, 2),
        ):
            whole(name, value, low)
        one_of("direction", direction, Direction)
        if out_dim is not None:
            whole("out_dim", out_dim, 1)
        if heads is not None:
            whole("heads", heads, 1)
        if width % (asked := heads or max(1, width // 64)):
            raise ValueError(f"width must be a multiple of heads, got width={width} and heads={asked}; give heads")
        self.max_position = max_position
        self.axes = axes
        self.width = width
        self.out_dim = out_dim or width
        self.layers = layers
        self.heads = asked
        self.base = base
        self.direction: Direction = direction
        self.num_digits = digits_needed(max_position, base)
        self.largest = base**self.num_digits - 1
        check_positions(torch.tensor([0] * axes), self.num_digits, base, axes)
        slots = axes * self.num_digits
        self.digit = nn.Embedding(base, width)
        self.place = nn.Embedding(slots, width)
        self.axis = nn.Embedding(axes, width) if axes > 1 else None
        self.summary = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(_Block(width, asked) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, self.out_dim)
        self._kept: _Kept | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin anew with random weights; see the class for how large."""
        spread = 0.02 * math.sqrt(768 / self.width)
        nn.init.normal_(self.summary, std=spread)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=spread)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this encoder, but for its weights."""
        names = ("max_position", "axes", "width", "out_dim", "layers", "heads", "base", "direction")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """Options in the printed form of the module."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())

    def forward(self, positions: Int[Tensor, "..."]) -> Float[Tensor, "... dim"]:
        """Vectors of positions; see the class."""
        check_positions(positions, self.num_digits, self.base, self.axes, option="max_position")
        lead = positions.shape if self.axes == 1 else positions.shape[:-1]
        if not lead.numel():
            return self.out.weight.new_zeros(*lead, self.out_dim)
        flat = positions.long().reshape(lead.numel(), *positions.shape[len(lead) :])
        if torch.compiler.is_compiling():
            return self._encode(flat).view(*lead, self.out_dim)
        if torch.is_grad_enabled():  # a step may follow, and fused optimisers count no version of what they write
            self._kept = None
        distinct, back = flat.unique(return_inverse=True, dim=None if self.axes == 1 else 0)
        parts = (distinct,) if torch.is_grad_enabled() else distinct.split(_AT_ONCE)
        return (
            torch.cat([self._encode(part) for part in parts]).index_select(0, back.flatten()).view(*lead, self.out_dim)
        )

    def _encode(self, positions: Int[Tensor, " positions *axes"]) -> Float[Tensor, "positions dim"]:
        """Each of different positions in ascending order."""
        digits = position_digits(positions, self.num_digits, base=self.base, axes=self.axes)
        tokens = tokens_of(digits, causal=self.direction == "causal")
        x, of, seen = self._embed(tokens.slot, tokens.digit), tokens.symbol, tokens.symbol[tokens.seen]
        for number, block in enumerate(self.blocks, 1):
            asking = len(positions) if number == self.layers else len(of)
            x = block(x, of[-asking:], seen[-asking:], tokens.mask[-asking:])
            of, seen = torch.arange(len(x), device=x.device), tokens.seen
        return self.out(self.norm(x))

    def _embed(self, slot: Int[Tensor, " symbols"], digit: Int[Tensor, " symbols"]) -> Float[Tensor, "symbols width"]:
        """Tokens as they enter the first block, where they know no other."""
        slots = self.axes * self.num_digits
        place = slot.clamp(max=slots - 1)
        found = self.digit(digit) + self.place(place)
        if self.axis is not None:
            found = found + self.axis(place.div(self.num_digits, rounding_mode="floor"))
        return torch.where((slot == slots)[:, None], self.summary, found)

    @torch.compiler.disable  # what is kept hangs on the parameters as they are at the call
    def table(self, n: int | Sequence[int]) -> Float[Tensor, "*sizes dim"]:
        """Vectors of the positions 0 to `n` - 1, of every axis or of each its own; read them, but do not write.

        In eval mode and without gradients they are kept, and a larger table of one axis is built on the smaller. What
        is kept is dropped by `train()`, by a pass with gradients, by a move to another device or dtype and when a
        parameter changes; only what is written through `.data`, or by a fused optimiser, without any of these goes
        unseen.

        Args:
            n: positions of an axis, or of each.

        Returns:
            `(n, out_dim)`, or for two axes `(rows, columns, out_dim)`.

        Raises:
            TypeError: `n` no whole number.
            ValueError: `n` below 1, another number of axes, or more positions than the digits allow.

        Example:
            >>> SequentialPositionEncoder(10, axes=2, width=4).table((2, 3)).shape
            torch.Size([2, 3, 4])
        """
        sizes = self._sizes(n)
        if self.training or torch.is_grad_enabled() or self._has_tangents():
            return self(self._grid(sizes))
        state = self._state()
        if self._kept is None or self._kept.state != state:
            self._kept = _Kept(state, None)
        old = self._kept.table
        if old is None or any(size > had for size, had in zip(sizes, old.shape, strict=False)):
            with torch.inference_mode(False), torch.no_grad():
                self._kept = _Kept(state, self._grown(sizes, old))
        assert self._kept.table is not None
        return self._kept.table[tuple(slice(size) for size in sizes)]

    def _sizes(self, n: int | Sequence[int]) -> tuple[int, ...]:
        """How many positions of each axis."""
        sizes = tuple(n) if isinstance(n, Sequence) and not isinstance(n, str) else (n,) * self.axes
        if len(sizes) != self.axes:
            raise ValueError(f"n must be one number for each of axes={self.axes}, got {n!r}")
        for size in sizes:
            whole("n", size, 1)
            if size > self.largest + 1:
                raise ValueError(
                    f"n={size} is more than the {self.largest + 1} positions that {self.num_digits} digits of base "
                    f"{self.base} have; give a larger max_position"
                )
        return tuple(int(size) for size in sizes)

    def _grid(self, sizes: tuple[int, ...], start: int = 0) -> Int[Tensor, "*sizes_and_axes"]:
        """All positions of a box, from `start` on where it has one axis."""
        ranges = [torch.arange(start, size, device=self.summary.device) for size in sizes]
        return ranges[0] if self.axes == 1 else torch.stack(torch.meshgrid(*ranges, indexing="ij"), -1)

    def _grown(self, sizes: tuple[int, ...], old: Tensor | None) -> Float[Tensor, "*sizes dim"]:
        """A table of at least these sizes; one that grows step by step is made half as large again at once."""
        start = 0
        if old is not None and self.axes == 1:
            start = len(old)
            sizes = (max(sizes[0], min(start * 3 // 2, self.largest + 1)),)
        elif old is not None:
            sizes = tuple(max(pair) for pair in zip(sizes, old.shape, strict=False))
        new = self(self._grid(sizes, start))
        return torch.cat([old, new]) if start and old is not None else new

    def _has_tangents(self) -> bool:
        """Whether derivatives are carried forward with the parameters, which what is kept would lose."""
        return any(unpack_dual(one).tangent is not None for one in self.parameters())

    def _state(self) -> tuple[Any, ...]:
        """What a table depends on."""
        device = self.summary.device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        return (
            cast,
            *((id(one), one.data_ptr(), 0 if one.is_inference() else one._version) for one in self.parameters()),
        )

    def train(self, mode: bool = True) -> "SequentialPositionEncoder":
        """Set the mode; what `table` kept is dropped on the way to training."""
        if mode:
            self._kept = None
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> "SequentialPositionEncoder":
        self._kept = None
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}


class _Kept(NamedTuple):
    """A table, and the parameters it is of."""

    state: tuple[Any, ...]
    table: Tensor | None


class _Block(nn.Module):
    """A pre-LN transformer block in which each token says which others it sees."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self,
        x: Float[Tensor, "given width"],
        of: Int[Tensor, " asking"],
        seen: Int[Tensor, "asking slots"],
        mask: Bool[Tensor, "asking slots"],
    ) -> Float[Tensor, "asking width"]:
        """The tokens `of` those given, each with what it takes from those of `seen` that its `mask` lets it see."""
        normed = self.attention_norm(x)
        x = x.index_select(0, of)
        if len(of) > len(normed):  # few different tokens ask often
            query = self.query(normed).index_select(0, of)
        else:
            query = self.query(normed.index_select(0, of))
        asking, slots = seen.shape
        gathered = self.key_value(normed).index_select(0, seen.flatten())
        key, value = gathered.view(asking, slots, 2, self.heads, -1).unbind(2)
        # one query has few keys: faster so than by matrix products
        logits = (query.view(asking, 1, self.heads, -1) * key).sum(-1) / math.sqrt(key.shape[-1])
        weights = logits.masked_fill(~mask[..., None], -torch.inf).softmax(1)
        x = x + self.attention_out((weights[..., None] * value).sum(1).flatten(1))
        return x + self.contract(F.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))
