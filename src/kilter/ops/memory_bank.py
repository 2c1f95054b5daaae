"""A queue of vectors with tags, as negatives for the steps to come.

Source: MoCo's queue (He et al., 2020), without its momentum encoder. The departure: each row has a tag, and the place
to write at is a tensor, so that a step neither waits for a device nor forgets its place in a checkpoint.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.core.checks import whole

NONE = -1
"""Tag of a row that nobody has written yet."""


class MemoryBank(nn.Module):
    """The last `size` rows that were pushed: first in, first out.

    Everything is a registered buffer, so that `state_dict` takes a run up where it stopped. Rows are written in place
    and without gradient: give away copies (`rows.clone()`, or anything computed of them) where a backward pass is to
    come. Of several processes each pushes what it is given; push the same rows in the same order on all of them.

    Args:
        size: most rows held; 0 holds none.
        dim: components of a row.

    Attributes:
        rows: float `(size, dim)`, in no particular order; zeros where nothing was written.
        tags: int64 `(size,)`; `NONE` (-1) where nothing was written.

    Raises:
        TypeError, ValueError: a size or dim that is no whole number, or too small.

    Example:
        >>> bank = MemoryBank(3, 1)
        >>> bank.push(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([0, 0, 0, 1]))
        >>> bank.in_order()
        (tensor([[2.],
                [3.],
                [4.]]), tensor([0, 0, 1]))
    """

    rows: Float[Tensor, "size dim"]
    tags: Int[Tensor, " size"]
    place: Int[Tensor, ""]

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        whole("size", size, 0)
        whole("dim", dim, 1)
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("tags", torch.full((size,), NONE))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "batch dim"], tags: Int[Tensor, " batch"]) -> None:
        """Write rows over the oldest; of more than `size` the last are kept.

        Args:
            rows: what to keep, in order.
            tags: one for each row, from 0.
        """
        size = len(self.rows)
        if not size:
            return
        rows, tags = rows[-size:], tags[-size:]
        at = (self.place + torch.arange(len(rows), device=self.place.device)) % size
        self.rows.index_copy_(0, at, rows.to(self.rows))
        self.tags.index_copy_(0, at, tags.to(self.tags))
        self.place.add_(len(rows)).remainder_(size)

    def in_order(self) -> tuple[Float[Tensor, "rows dim"], Int[Tensor, " rows"]]:
        """What was written, the oldest first, with its tags."""
        order = (self.place + torch.arange(len(self.rows), device=self.place.device)) % max(len(self.rows), 1)
        order = order[self.tags[order] != NONE]
        return self.rows[order], self.tags[order]

    @torch.no_grad()
    def spread(self, sample: int = 256) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        r"""Effective rank and uniformity of the directions of the rows: whether they have collapsed.

        $$r = \frac{1}{\mathrm{mean}_{i \ne j} \cos^2(b_i, b_j)}, \qquad
          u = \log \mathrm{mean}_{i \ne j} e^{-2 \lVert b_i - b_j \rVert^2}$$

        The rank is that of order two (participation ratio of the eigenvalues of the mean of $b b^\top$), without
        decomposing anything: 1 where all lie on a line, `dim` where all directions are alike. Uniformity is 0 where
        all rows are one, and negative.

        Args:
            sample: rows that are looked at, spread evenly over those written; a step must not pay for them all.

        Returns:
            The two; both 0 while there are fewer than two rows.
        """
        written = (self.tags != NONE).sum()  # the first ones, until all are
        places = torch.arange(min(sample, len(self.rows)), device=self.tags.device)
        at = places * written.clamp(min=len(places)) // max(len(places), 1)
        rows, there = self.rows[at], self.tags[at] != NONE
        unit = F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
        cosines = unit @ unit.T
        pairs = (there[:, None] & there).fill_diagonal_(False)
        count = pairs.sum()
        squares = (cosines.square() * pairs).sum() / count.clamp(min=1)
        gauss = ((4 * cosines - 4).exp() * pairs).sum() / count.clamp(min=1)
        rank = squares.clamp(min=1 / rows.shape[1]).reciprocal()
        return rank * (count > 0), gauss.log().masked_fill(count == 0, 0.0)
