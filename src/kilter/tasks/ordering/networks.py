"""How networks of the task are trained on sets that are drawn, and judged on others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.lab.drawn import train_on_draws
from kilter.lab.recipe import Advance
from kilter.models.sorter import Sorter
from kilter.tasks.ordering.sources import Records

_MOST = 500
"""Sets that are judged at once."""


class _Learner(nn.Module):
    """A network with its loss, as a trainer takes both."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, items: Float[Tensor, "batch items columns"], targets: Int[Tensor, "batch steps"]
    ) -> dict[str, Tensor]:
        log_probs = self.network(items, targets)
        return {"loss": F.nll_loss(log_probs.flatten(0, 1), targets.flatten())}


def fresh(network: nn.Module, records: Records) -> Sorter:
    """A network before training, with what it reads of a record and how that is scaled."""
    return Sorter(network, records.columns, records.by, *records.scale())


def train_sorter(
    sorter: Sorter, records: Records, folder: Path, *, sizes: Sequence[int], seed: int, advance: Advance, **how: Any
) -> None:
    """Train in place; a killed training goes on and ends with the same numbers.

    Args:
        sorter: changed in place.
        records: of which sets are drawn.
        folder: for what a killed training goes on from, until the caller removes it.
        sizes: of sets; each batch has one of them.
        seed: of the draws.
        advance: told of every step.
        how: of `kilter.lab.training.arguments`.
    """

    def draw(count: int, generator: torch.Generator) -> dict[str, Tensor]:
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        items, keys = records.draw(count, size, generator)
        return {"items": sorter.scaled(items), "targets": keys.argsort(1)}

    train_on_draws(_Learner(sorter.network), draw, folder, seed=seed, advance=advance, max_grad_norm=2.0, **how)


def judge(sorter: Sorter, records: Records, metric: str, count: int, size: int, seed: int) -> list[dict[str, Any]]:
    """A row for each test set of a size: what was written, and whether that is all of it in order."""
    generator = torch.Generator().manual_seed(seed)
    items, keys = records.draw(count, size, generator)
    device = next(sorter.network.parameters()).device
    parts = sorter.scaled(items).split(_MOST)
    written = torch.cat([sorter.network.decode(part.to(device)).cpu() for part in parts])
    right = sorted_without_fault(keys, written)
    said = keys.gather(1, written)
    return [
        {
            "input": f"{size}/{place}",
            "said": [float(f"{value:.4g}") for value in said[place].tolist()],
            "totals": {metric: [float(right[place]), 1.0]},
        }
        for place in range(count)
    ]


def sorted_without_fault(keys: Float[Tensor, "sets items"], written: Int[Tensor, "sets items"]) -> Tensor:
    """Whether each order that was written has every item once, none before a smaller one.

    Example:
        >>> keys = torch.tensor([[0.3, 0.1, 0.1]]).expand(3, -1)
        >>> sorted_without_fault(keys, torch.tensor([[2, 1, 0], [1, 1, 0], [0, 1, 2]]))
        tensor([ True, False, False])
    """
    each_once = (written.sort(1).values == torch.arange(written.shape[1])).all(1)
    said = keys.gather(1, written)
    return each_once & (said[:, 1:] >= said[:, :-1]).all(1)
