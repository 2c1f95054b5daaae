"""What an encoder learns from: pairs with the number of their domain, in batches that are each of one domain.

Every arm has the same batches in the same order; a model of one domain alone has those of its domain.
"""

import random
from collections.abc import Iterable

from datasets import Dataset

from kilter.core.batches import SeededBatches
from kilter.tasks.domain_retrieval.corpus import Pairs


def training_rows(train: Pairs) -> Dataset:
    """Columns anchor, positive and label, the number of the domain."""
    flat = [(*pair, number) for number, pairs in enumerate(train.values()) for pair in pairs]
    return Dataset.from_dict(
        dict(zip(("anchor", "positive", "label"), map(list, zip(*flat, strict=True)), strict=True))
    )


class DomainBatches(SeededBatches):
    """Batches of a whole training: in every round one of each domain, so that all domains have as many.

    A domain begins anew, in another order, once too few of its rows are left to fill a batch.

    Args:
        labels: the domain of each row, by number.
        batch_size: rows in a batch, no more than any domain has.
        steps: how many batches.
        seed: of the order.

    Raises:
        ValueError: a domain, or all of them, has too few rows for a batch.

    Example:
        >>> batches = DomainBatches([0] * 4 + [1] * 2, 2, steps=4, seed=0)
        >>> sorted(sorted(batch) for batch in batches)[-2:]  # both rows of the small domain, twice
        [[4, 5], [4, 5]]
    """

    def __init__(self, labels: Iterable[int], batch_size: int, *, steps: int, seed: int) -> None:
        super().__init__(batch_size, seed)
        self.labels = [*labels]
        self._batches = self._drawn(steps)

    def __len__(self) -> int:
        return len(self._batches)

    def order(self) -> list[list[int]]:
        """All batches; the training has one epoch of them."""
        return self._batches

    def of(self, rows: Dataset, domain: int) -> "tuple[Dataset, DomainBatches]":
        """The rows of one domain, and the batches that are of it."""
        own = [row for row, label in enumerate(self.labels) if label == domain]
        place = {row: number for number, row in enumerate(own)}
        found = DomainBatches([domain] * len(own), self.batch_size, steps=0, seed=self.seed)
        found._batches = [[place[row] for row in batch] for batch in self._batches if batch[0] in place]
        return rows.select(own), found

    def _drawn(self, steps: int) -> list[list[int]]:
        rng = random.Random(f"batches {self.seed}")
        rows: dict[int, list[int]] = {}
        for row, label in enumerate(self.labels):
            rows.setdefault(label, []).append(row)
        few = [f"domain {label} has {len(some)}" for label, some in sorted(rows.items()) if len(some) < self.batch_size]
        if few or not rows:
            there = few[0] if few else "there are no"
            raise ValueError(f"{there} rows, and batch_size={self.batch_size}; give more, or lower it")
        left: dict[int, list[int]] = {label: [] for label in rows}
        found: list[list[int]] = []
        while len(found) < steps:
            for label in rng.sample(sorted(rows), len(rows)):
                if len(left[label]) < self.batch_size:
                    left[label] = rng.sample(rows[label], len(rows[label]))
                found.append(left[label][: self.batch_size])
                left[label] = left[label][self.batch_size :]
        return found[:steps]
