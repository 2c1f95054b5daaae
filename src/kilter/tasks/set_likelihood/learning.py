"""How a model of sets is trained in an order, or with a search for one, and how sets are judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kilter.lab.drawn import train_on_draws
from kilter.lab.recipe import Advance
from kilter.models.set_writer import SetWriter

_MOST = 500
"""Sets that are judged at once."""


@dataclass(frozen=True)
class Sets:
    """Sets by the symbols of their places: to learn from, to choose weights by, and to judge on."""

    train: Int[Tensor, "train places"]
    dev: Int[Tensor, "dev places"]
    test: Int[Tensor, "test places"]
    symbols: int
    names: Sequence[str] = ()
    """of the symbols, where they have any"""


class _Learner(nn.Module):
    """A model with its loss, as a trainer takes both; a search has a count of its own, which is kept with them."""

    def __init__(self, model: SetWriter, search: nn.Module | None) -> None:
        super().__init__()
        self.model = model
        self.search = search

    def forward(self, values: Int[Tensor, "batch places"], order: Int[Tensor, "batch places"]) -> dict[str, Tensor]:
        if self.search is not None:
            found = self.search(self.model.step_log_probs(values), values.shape[1], len(values))
            return {"loss": found.loss / values.shape[1]}
        places, symbols = self.model(values, order)
        return {"loss": -symbols.mean() - places.mean()}


def train_writer(
    model: SetWriter,
    sets: Sets,
    order: Sequence[int] | None,
    search: nn.Module | None,
    folder: Path,
    *,
    judged_in: Sequence[int] | None,
    seed: int,
    advance: Advance,
    **how: Any,
) -> None:
    """Train in place; a killed training goes on and ends with the same numbers.

    Args:
        model: changed in place.
        sets: of which batches are drawn; what is kept is what does best on `dev`, as it is judged.
        order: in which sets are written; None for another one each time.
        search: finds orders instead.
        folder: for what a killed training goes on from, until the caller removes it.
        judged_in: the order in which it is judged; None for the one that the model prefers.
        seed: of the draws.
        advance: told of every step.
        how: of `kilter.lab.training.arguments`.
    """
    places = sets.train.shape[1]

    def draw(count: int, generator: torch.Generator) -> dict[str, Tensor]:
        values = sets.train[torch.randint(len(sets.train), (count,), generator=generator)]
        if order is not None:
            return {"values": values, "order": torch.tensor(order).expand(count, -1)}
        return {"values": values, "order": torch.rand(count, places, generator=generator).argsort(1)}

    def cost() -> float:
        return float(nats(model, sets.dev, judged_in)[0].mean())

    train_on_draws(_Learner(model, search), draw, folder, seed=seed, advance=advance, cost=cost, **how)


@torch.no_grad()
def nats(
    model: SetWriter, values: Int[Tensor, "sets places"], order: Sequence[int] | None
) -> tuple[Float[Tensor, " sets"], Int[Tensor, "sets places"]]:
    """Minus the log-probability of each set in one order, which is certain, and those orders.

    Without an order it is the one that the model prefers, which it chooses place by place by what it has written; since
    what is to come has no say in it, that too is a distribution over sets.
    """
    device, found, orders = next(model.parameters()).device, [], []
    for part in values.split(_MOST):
        rows = part.to(device)
        chosen = model.preferred(rows) if order is None else torch.tensor(order, device=device).expand(len(rows), -1)
        found.append(-model(rows, chosen)[1].sum(1).cpu())
        orders.append(chosen.cpu())
    return torch.cat(found), torch.cat(orders)
