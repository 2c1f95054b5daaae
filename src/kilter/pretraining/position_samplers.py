"""Which positions a position encoder is taught with: pivots and their candidates, windows far out, shifted sequences.

Paper: H. Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277. Departures: nothing
is kept from step to step, and of candidates that are as near as the nearest only one is used.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from kilter.core.checks import one_of, share, whole
from kilter.pretraining.digit_edits import edited
from kilter.pretraining.distinct_draws import arranged, below, different, repeated, uniform
from kilter.pretraining.position_digits import digits_needed

Sampler = Literal["released", "centred"]


class Contrasted(NamedTuple):
    """Pivots `(P, …)`, their candidates `(P, C, …)`, and which of these is nearest `(P,)`: the first."""

    pivot: Int[Tensor, "pivots *axes"]
    candidates: Int[Tensor, "pivots candidates *axes"]
    positive: Int[Tensor, " pivots"]


class Transferred(NamedTuple):
    """The same places `(W, n, …)` of windows far out and of the window at the origin."""

    student: Int[Tensor, "windows places *axes"]
    teacher: Int[Tensor, "windows places *axes"]


class PositionSampler:
    r"""Draw the positions that `position_contrast`, `position_transfer` and shifted training are given.

    Of each pivot the candidates are the first `candidates` different ones of, in this order, digit edits of the pivot
    or places of a window, and uniform draws. Positive is the one with the smallest

    $$\lVert p - c \rVert^2$$

    *Digit edits* are positions whose digits look like the pivot's and which are not near: one to three digits are
    inserted, deleted, swapped or replaced, and what is nearer than the uniform draws is left out. *Windows* have
    places close to each other; `released` puts them anywhere, which teaches little about the pivot's surroundings,
    `centred` around the pivot.

    Departures: pivots are drawn anew at every step and shifts without a fixed list, so that nothing is kept across
    steps; candidates as near as the positive (p + k beside p - k) are replaced, where the published ones are negatives.
    In a range so small that it has not enough others, all pivots have fewer candidates.

    Args:
        max_position: positions of an axis.
        axes: numbers of a position.
        sampler: where windows are.
        pivots: P, drawn at a step.
        candidates: C, of each pivot; fewer where there are not so many positions.
        windows: W, far out, at a step.
        places: n, of each of them; fewer where the window is smaller.
        edits: how often candidates begin with digit edits; None is 0.4, or on a grid 0.3.
        nearby: how often they begin with a window; None is 0.6, or on a grid 0.2. What is left is uniform.
        span: least length of such a window; None is 256, or on a grid 14 along each axis.
        base: of the digits.

    Raises:
        TypeError: an option that is no number.
        ValueError: an option out of range, `edits` and `nearby` above 1 together.

    Example:
        >>> sampler = PositionSampler(100, pivots=2, candidates=4, sampler="centred")
        >>> drawn = sampler.contrast(torch.Generator().manual_seed(0))
        >>> drawn.pivot.shape, drawn.candidates.shape, drawn.positive.shape
        (torch.Size([2]), torch.Size([2, 4]), torch.Size([2]))
        >>> far = sampler.transfer(16, torch.Generator().manual_seed(0))
        >>> (far.student - far.teacher).unique(dim=1).shape  # one start for each window
        torch.Size([16, 1])

    Reference: Li et al., 2025.
    """

    def __init__(
        self,
        max_position: int,
        *,
        axes: int = 1,
        sampler: Sampler = "released",
        pivots: int = 16,
        candidates: int = 32,
        windows: int = 16,
        places: int = 32,
        edits: float | None = None,
        nearby: float | None = None,
        span: int | None = None,
        base: int = 10,
    ) -> None:
        whole("max_position", max_position, 1)
        whole("axes", axes, 1)
        one_of("sampler", sampler, Sampler)
        whole("pivots", pivots, 1)
        whole("candidates", candidates, 2)
        whole("windows", windows, 1)
        whole("places", places, 2)
        whole("base", base, 2)
        self.max_position = max_position
        self.axes = axes
        self.sampler: Sampler = sampler
        self.pivots = pivots
        self.candidates = candidates
        self.windows = windows
        self.places = places
        self.edits = (0.4 if axes == 1 else 0.3) if edits is None else edits
        self.nearby = (0.6 if axes == 1 else 0.2) if nearby is None else nearby
        self.span = (256 if axes == 1 else 14) if span is None else span
        self.base = base
        share("edits", self.edits)
        share("nearby", self.nearby)
        whole("span", self.span, 1)
        if self.edits + self.nearby > 1:
            raise ValueError(f"edits and nearby are {self.edits} and {self.nearby}, together more than 1; lower one")

    # Near and far ---------------------------------------------------------------------------------------------------

    def contrast(self, generator: Generator | None = None) -> Contrasted:
        """Pivots with their candidates, on the generator's device.

        Raises:
            ValueError: fewer than three positions, of which no pivot has a nearest and another.
        """
        count = self.max_position**self.axes
        if count < 3:
            raise ValueError(f"max_position={self.max_position} has too few positions to contrast; three are least")
        pivot = self._unravel(different(1, min(self.pivots, count), count, generator)[0], self.max_position)
        spare = self.candidates + 1 + 4 * self.axes  # for those as near as the nearest
        drawn = self._unravel(different(len(pivot), min(spare, count), count, generator), self.max_position)
        first, usable = self._first(pivot, drawn[:, : self.candidates + 1], generator)
        everywhere = torch.ones_like(drawn[..., 0], dtype=torch.bool)
        return self._choose(pivot, torch.cat([first, drawn], 1), torch.cat([usable, everywhere], 1))

    def _first(self, pivot: Tensor, drawn: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """What stands before the uniform draws, as many of each pivot, and which of that is meant."""
        near = self._near(pivot, generator)
        hard, kept = self._edited(pivot, drawn, generator)
        mode = uniform((len(pivot), 1), generator)
        is_near = (mode < self.nearby).expand(-1, near.shape[1])
        is_hard = (mode >= self.nearby) & (mode < self.nearby + self.edits) & kept
        return torch.cat([near, hard], 1), torch.cat([is_near, is_hard], 1)

    def _near(self, pivot: Tensor, generator: Generator | None) -> Int[Tensor, "pivots candidates axes"]:
        """Places of a window of each pivot."""
        root = int((5 * self.candidates) ** (1 / self.axes) + 1e-9)
        side = min(self.max_position, max(self.span, root))
        room = self.max_position - side
        if self.sampler == "centred":
            start = (pivot - side // 2).clamp(0, room)
        else:
            start = below(room + 1, pivot.shape, generator)
        count = side**self.axes
        places = different(len(pivot), min(self.candidates, count), count, generator)
        return start[:, None] + self._unravel(places, side)

    def _edited(self, pivot: Tensor, drawn: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """Positions that look like the pivot, and which of them are there and farther than the nearest uniform draw."""
        trials = max(1, int((0.25 if self.axes == 1 else 0.2) * self.candidates))
        digits = digits_needed(self.max_position, self.base)
        asked = pivot[:, None].expand(-1, trials, -1)
        found = edited(asked, digits, base=self.base, generator=generator)
        distance = _distance(pivot, drawn)
        nearest = distance.masked_fill(distance == 0, distance.max() + 1).amin(1, keepdim=True)
        return found, (found < self.max_position).all(-1) & (_distance(pivot, found) > nearest)

    def _choose(self, pivot: Tensor, pool: Tensor, usable: Tensor) -> Contrasted:
        """The first candidates of a pool, without the pivot, without repetition and without a second nearest."""
        distance = _distance(pivot, pool)
        usable = usable & (distance > 0)
        usable &= ~repeated(self._ravel(pool).masked_fill(~usable, -1))
        pool, distance, usable = arranged((~usable).int(), pool, distance, usable)
        count = min(self.candidates, pool.shape[1])
        head = distance[:, :count].masked_fill(~usable[:, :count], torch.iinfo(distance.dtype).max)
        nearest = head.amin(1, keepdim=True)
        rank = torch.where(usable & (distance > nearest), 1, 2).scatter_(1, head.argmin(1, keepdim=True), 0)
        (pool,) = arranged(rank, pool)
        count = min(count, int((rank < 2).sum(1).min()))
        positive = torch.zeros(len(pivot), dtype=torch.long, device=pivot.device)
        return Contrasted(self._bare(pivot), self._bare(pool[:, :count]), positive)

    # Windows --------------------------------------------------------------------------------------------------------

    def transfer(self, length: int | Sequence[int], generator: Generator | None = None) -> Transferred:
        """Places of windows beyond the positions that the model is trained on, and the same places of these.

        Of texts windows start at a quarter of the length or later; on grids they reach beyond the window at the origin
        by starting below it or to its right.

        Args:
            length: positions of a sequence, or rows and columns of a grid, that the model is trained on.
            generator: of the draws.

        Raises:
            ValueError: no window of this size lies beyond them.
        """
        sizes = self._sizes(length)
        low = sizes[0] // 4 if self.axes == 1 else 0
        room = [self.max_position - size + 1 for size in sizes]
        beyond = room[0] > low if self.axes == 1 else any(at > size for at, size in zip(room, sizes, strict=True))
        if min(room) < 1 or not beyond:
            raise ValueError(
                f"max_position={self.max_position} leaves no window of length={length} beyond those trained on; give a "
                "larger max_position, or transfer_weight=0"
            )
        start = self._starts(self.windows, room, low, generator)
        if self.axes > 1:
            extent = torch.tensor(sizes, device=start.device)
            while (inside := (start < extent).all(1)).any():
                start[inside] = self._starts(int(inside.sum()), room, 0, generator)
        count = int(torch.tensor(sizes).prod())
        places = different(self.windows, min(self.places, count), count, generator)
        teacher = torch.stack(torch.unravel_index(places, sizes), -1)
        return Transferred(self._bare(start[:, None] + teacher), self._bare(teacher))

    def shift(
        self, rows: int, length: int | Sequence[int], *, groups: int = 16, generator: Generator | None = None
    ) -> Int[Tensor, "rows *axes"]:
        """Where the sequences of a shifted training step begin: neighbouring rows share one of `groups` places.

        Args:
            rows: sequences of the batch; if there are fewer than `groups`, each has a place of its own.
            length: positions of a sequence, or rows and columns of a grid.
            groups: different places.
            generator: of the draws.

        Returns:
            What to add to the positions of each row: `(rows,)`, or `(rows, axes)`.

        Raises:
            ValueError: a sequence longer than there are positions.

        Example:
            >>> PositionSampler(100).shift(4, 20, groups=2, generator=torch.Generator().manual_seed(0)).unique().shape
            torch.Size([2])
        """
        whole("rows", rows, 0)
        whole("groups", groups, 1)
        sizes = self._sizes(length)
        room = [self.max_position - size + 1 for size in sizes]
        if min(room) < 1:
            raise ValueError(f"length={length} is more than max_position={self.max_position}; give a larger one")
        start = self._starts(groups, room, 0, generator)
        group = torch.arange(rows, device=start.device) * min(groups, rows) // max(1, rows)
        return self._bare(start[group])

    def _sizes(self, length: int | Sequence[int]) -> tuple[int, ...]:
        sizes = tuple(length) if isinstance(length, Sequence) else (length,) * self.axes
        if len(sizes) != self.axes:
            raise ValueError(f"length must be one number for each of axes={self.axes}, got {length!r}")
        for size in sizes:
            whole("length", size, 1)
        return sizes

    def _starts(self, count: int, room: list[int], low: int, generator: Generator | None) -> Int[Tensor, "count axes"]:
        return torch.stack([low + below(size - low, (count,), generator) for size in room], -1)

    # One axis or several --------------------------------------------------------------------------------------------

    def _unravel(self, number: Tensor, side: int) -> Int[Tensor, "... axes"]:
        return torch.stack(torch.unravel_index(number, (side,) * self.axes), -1)

    def _ravel(self, positions: Int[Tensor, "... axes"]) -> Int[Tensor, "..."]:
        powers = [self.max_position**axis for axis in reversed(range(self.axes))]
        return (positions * torch.tensor(powers, device=positions.device)).sum(-1)

    def _bare(self, positions: Int[Tensor, "... axes"]) -> Int[Tensor, "..."]:
        """Positions as they are given to an encoder."""
        return positions[..., 0] if self.axes == 1 else positions


def _distance(
    pivot: Int[Tensor, "pivots axes"], others: Int[Tensor, "pivots count axes"]
) -> Int[Tensor, "pivots count"]:
    return (pivot[:, None] - others).square().sum(-1)
