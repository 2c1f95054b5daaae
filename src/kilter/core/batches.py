"""Batches of row numbers that are the same for the same seed, and go on where they were."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping


class SeededBatches(ABC):
    """A batch sampler whose every epoch has an order of its own, made of seed and epoch alone.

    Args:
        batch_size: rows in a batch.
        seed: of the order.
    """

    def __init__(self, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.epoch, self.done = batch_size, seed, 0, 0

    @abstractmethod
    def order(self) -> list[list[int]]:
        """The batches of the epoch one is in."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.order()
        while self.done < len(batches):
            self.done += 1  # before the batch is handed out: a state taken while it is in use does not repeat it
            yield batches[self.done - 1]
        self.epoch, self.done = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch; a trainer calls it. The epoch one is in goes on."""
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Where the sampler is."""
        return {"seed": self.seed, "epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there with the same batches."""
        self.seed, self.epoch, self.done = state["seed"], state["epoch"], state["done"]
