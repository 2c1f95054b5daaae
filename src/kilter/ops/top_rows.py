"""The best rows for each query, exactly, out of scores that are rounded: chunk after chunk, in bounded memory.

A matrix product rounds a row's score one way in a full block and another way at a block's end, so that equal rows get
different scores, and the answer depends on how the rows were cut. Here rounded scores only say which rows are hopeful;
these are scored again one by one, and of equal scores the first row wins.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Exact = Callable[[Int[Tensor, " pairs"], Int[Tensor, " pairs"]], Float[Tensor, " pairs"]]
"""Scores of pairs, by the numbers of their queries and rows; each must depend on its own pair only."""

_MANY = 4
"""Times k: with more hopeful rows in a chunk it pays to look which are among the chunk's own best."""


class TopRows:
    """The best `k` rows for each query, of those that were offered so far.

    Args:
        queries: how many queries.
        k: rows kept for each.
        dtype: of the scores; equal scores are those that are equal in it.

    Attributes:
        scores: `(queries, k)` from the highest down; minus infinity where there was no row yet.
        rows: `(queries, k)` numbers of the rows, of equal scores the first.

    Example:
        >>> top = TopRows(1, 2)
        >>> scores = torch.tensor([[0.1, 0.5, 0.5, 0.3]])
        >>> top.offer(scores, 0, torch.zeros(1), lambda query, row: scores[query, row])
        >>> top.rows
        tensor([[1, 2]])
    """

    def __init__(self, queries: int, k: int, dtype: torch.dtype = torch.float32) -> None:
        self.scores = torch.full((queries, k), -torch.inf, dtype=dtype)
        self.rows = torch.zeros(queries, k, dtype=torch.long)

    def offer(
        self, rounded: Float[Tensor, "queries rows"], start: int, margin: Float[Tensor, " queries"], exact: Exact
    ) -> None:
        """Take what is better than what there is; chunks come in the order of their rows.

        Args:
            rounded: scores of the rows from `start` on; on any device.
            start: number of the first row.
            margin: how far a rounded score may be from the exact one, for each query.
            exact: asked for the rows that may be among the best.
        """
        margin = margin.to(rounded)
        least = self.scores[:, -1].to(rounded) - margin
        asking = (rounded.amax(1) >= least).nonzero().flatten()  # of most chunks few queries find anything
        if not len(asking):
            return
        query, row = self._hopeful(rounded[asking], least[asking], margin[asking]).cpu().unbind(1)
        query = asking.cpu()[query]
        count, k = self.scores.shape
        row = row + start
        scores = torch.cat([self.scores.flatten(), exact(query, row).to(self.scores)])
        rows = torch.cat([self.rows.flatten(), row])
        query = torch.cat([torch.arange(count).repeat_interleave(k), query])
        order = scores.argsort(descending=True, stable=True)  # what there was stands first, and has the lower numbers
        order = order[query[order].argsort(stable=True)]
        ends = query.bincount(minlength=count).cumsum(0)
        best = order[torch.cat([ends.new_zeros(1), ends[:-1]])[:, None] + torch.arange(k)]
        self.scores, self.rows = scores[best], rows[best]

    def _hopeful(self, rounded: Tensor, least: Tensor, margin: Tensor) -> Tensor:
        """Queries and places of what may be among the best, in order."""
        count, k = len(rounded), self.scores.shape[1]
        if k < rounded.shape[1] and (
            least.isinf().any() or (rounded >= least[:, None]).count_nonzero() > _MANY * count * k
        ):
            least = torch.maximum(least, rounded.topk(k, dim=1, sorted=False).values.amin(1) - 2 * margin)
        return (rounded >= least[:, None]).nonzero()
