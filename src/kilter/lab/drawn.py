"""Training on batches that are drawn when they are needed: generated data, or small sets out of a large table.

A draw hangs on the seed and the step alone, so that a killed training goes on with the same numbers.
"""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer

from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit

Draw = Callable[[int, torch.Generator], Mapping[str, Tensor]]
"""`(rows, generator) -> a batch`"""


class Draws(torch.utils.data.Dataset[Any]):
    """Rows whose batches are drawn by `draw`, from the seed and the first row's place; made for one order of rows."""

    def __init__(self, draw: Draw, rows: int, seed: int) -> None:
        self.draw, self.rows, self.seed = draw, rows, seed

    def __len__(self) -> int:
        """How many there are."""
        return self.rows

    def __getitems__(self, places: list[int]) -> Mapping[str, Tensor]:
        """A whole batch, which torch's loader asks for where it can."""
        seed = random.Random(f"{self.seed} {places[0]}").getrandbits(63)
        return self.draw(len(places), torch.Generator().manual_seed(seed))


def train_on_draws(
    module: nn.Module,
    draw: Draw,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    advance: Advance,
    **how: Any,
) -> None:
    """Train a module in place; a killed training goes on and ends with the same numbers.

    Args:
        module: given a batch by name, returns a mapping with `loss`; changed in place.
        draw: of a batch.
        folder: for what a killed training goes on from, until the caller removes it.
        steps: optimiser steps.
        batch_size: rows of a batch.
        seed: of the draws.
        advance: told of every step.
        how: more of `kilter.lab.training.arguments`.
    """
    rows = Draws(draw, steps * batch_size, seed)
    more: Any = {"steps": steps, "batch_size": batch_size, "seed": seed, "warm_up_steps": 0, **how}
    settings = arguments(folder, remove_unused_columns=False, lr_scheduler_type="cosine", **more)
    made_for: Any = {"train_dataset": rows, "data_collator": _as_drawn}
    fit(Trainer(module, settings, **made_for), advance, sampler=torch.utils.data.SequentialSampler(rows))
    module.eval()


def _as_drawn(batch: Any) -> Any:
    return batch
