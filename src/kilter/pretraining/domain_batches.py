"""Batches of each domain and of the target, on which alignments are measured; drawn by a generator of their own."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import IterableDataset

from kilter import dist
from kilter.pretraining.domain_mixture import DomainMixture


class DomainBatches:
    """Draw a batch of each domain (or basis of a mixture) and of the target, each time at random.

    Args:
        mixture: whose domains they are.
        domains: a data set of each; None takes those of the loader's, by the mixture's sizes.
        target: a data set, or an iterable of ready batches, which is begun again at its end.
        generator: of the draws; None has seed 0.

    Raises:
        TypeError, ValueError: other data sets than the mixture has domains, or empty ones.
    """

    def __init__(
        self, mixture: DomainMixture, domains: Sequence[Any] | None, target: Any, generator: Generator | None = None
    ) -> None:
        if domains is not None and (isinstance(domains, str | Tensor) or not isinstance(domains, Sized)):
            raise TypeError(f"domains must be a list or a dict of data sets, got {type(domains).__name__}")
        if domains is not None and len(domains) != len(mixture.sizes):
            raise ValueError(
                f"domains are {len(domains)}, and mixture has {len(mixture.sizes)} sizes; give one data set for each"
            )
        each: list[Any] = [*(domains or ())]
        for number, domain in enumerate(each):
            if not _has_indices(domain):
                raise TypeError(f"domains[{number}] must be a data set with indices, got {type(domain).__name__}")
            if not len(domain):
                raise ValueError(f"domains[{number}] is empty; leave it out")
        _check_target(target)
        if generator is not None and not isinstance(generator, Generator):
            raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
        self.mixture, self.domains, self.target = mixture, domains, target
        self.generator = generator or Generator().manual_seed(0)
        self._loaded: Iterator[Any] = iter(())
        self._columns: list[str] | None = None

    def of_domains(self, size: int, loader: Any) -> tuple[list[Any], list[float]]:
        """A batch of each domain or basis, and how many tokens an example of each domain has in it.

        Args:
            size: examples of each, in each process.
            loader: that of the training data, whose collator puts batches together.
        """
        mixture = self.mixture
        if mixture.bases is None:
            each = [self._of_domain(domain, size, loader) for domain in range(len(mixture.sizes))]
        else:
            each = [self._of_basis(basis, size, loader) for basis in mixture.bases]
        found = [loader.collate_fn(rows) for rows in each]
        tokens = [_tokens(batch) / size for batch in found]
        return found, tokens if mixture.bases is None else []

    def of_target(self, size: int, part: int, loader: Any) -> list[Any]:
        """A batch of the target, in parts; of a target that is a loader its next batches, as many as there are parts.

        Args:
            size: examples, in each process.
            part: examples of a part.
            loader: that of the training data.
        """
        if not _has_indices(self.target):
            return [self._next() for _ in range(max(1, size // part))]
        rows = self._fitting(loader, [self.target[index] for index in self._indices(len(self.target), size)])
        return [loader.collate_fn(rows[start : start + part]) for start in range(0, size, part)]

    def _of_domain(self, domain: int, size: int, loader: Any) -> list[Any]:
        if self.domains is not None:
            own = self.domains[domain]
            return self._fitting(loader, [own[index] for index in self._indices(len(own), size)])
        start = sum(self.mixture.sizes[:domain])
        return [loader.dataset[start + index] for index in self._indices(self.mixture.sizes[domain], size)]

    def _of_basis(self, basis: list[float], size: int, loader: Any) -> list[Any]:
        weights = torch.tensor(basis, dtype=torch.float64)
        drawn = torch.multinomial(weights, size, replacement=True, generator=self.generator)
        return [self._of_domain(domain, 1, loader)[0] for domain in drawn.tolist()]

    def _fitting(self, loader: Any, rows: list[Any]) -> list[Any]:
        """Rows without what the training data do not have, such as texts, which the Trainer leaves out by itself."""
        if self._columns is None:
            first = loader.dataset[0]
            self._columns = [*first] if isinstance(first, Mapping) else []
        if bool(self._columns) != isinstance(rows[0], Mapping):
            kind = "a dict" if self._columns else "no dict"
            raise ValueError(
                f"rows of domains and target must be as those of the training data, each {kind}, and one is a "
                f"{type(rows[0]).__name__}; prepare them alike"
            )
        if not self._columns:
            return rows
        return [{name: row[name] for name in self._columns if name in row} for row in rows]

    def _next(self) -> Any:
        """The next batch of a target that is a loader."""
        found = next(self._loaded, None)
        if found is None:
            self._loaded = iter(self.target)
            found = next(self._loaded, None)
        if found is None:
            raise ValueError(
                "target gives no batch, or no more: give a DataLoader, which can be begun anew, with some examples of "
                "what the model should become good at"
            )
        return found

    def _indices(self, examples: int, size: int) -> list[int]:
        """This process's of as many for each; each once as long as there are enough."""
        wanted = size * dist.world_size()
        drawn = torch.randint(examples, (wanted,), generator=self.generator)
        if wanted <= examples:
            drawn = torch.randperm(examples, generator=self.generator)[:wanted]
        return drawn.tolist()[dist.rank() :: dist.world_size()]


def _has_indices(data: Any) -> bool:
    """Whether it is a data set of which an example can be asked for; one batch, a text and a stream are none."""
    whole = isinstance(data, Mapping | str | bytes | IterableDataset)
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not whole


def _check_target(target: Any) -> None:
    if isinstance(target, Mapping | str | bytes | IterableDataset):
        raise TypeError(
            f"target must be a data set with indices, or a loader of batches, got {type(target).__name__}; give a list "
            "of rows, or a DataLoader"
        )
    if target is not None and not (_has_indices(target) or hasattr(target, "__iter__")):
        raise TypeError(f"target must be a data set or a loader, got {type(target).__name__}")
    if isinstance(target, Sized) and not len(target):
        raise ValueError("target is empty; give some examples of what the model should become good at")


def loss_of_outputs(model: Any, batch: Any) -> Tensor:
    """The loss that a model of transformers computes of a batch with labels."""
    loss = model(**batch).loss
    if loss is None:
        raise ValueError("the model gives no loss of the batches to measure on; give rows with labels, or a loss_fn")
    return loss


def moved(batch: Any, device: Any) -> Any:
    """A batch with all its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(moved(value, device) for value in batch)
    return batch


def _tokens(batch: Any) -> int:
    """Those of a batch that are learnt from, as far as it says; else its rows."""
    if isinstance(batch, Mapping):
        labels, ids = batch.get("labels"), batch.get("input_ids")
        if isinstance(labels, Tensor) and labels.ndim > 1:
            return int((labels != -100).sum())
        return ids.numel() if isinstance(ids, Tensor) else len(next(iter(batch.values())))
    return len(batch)
