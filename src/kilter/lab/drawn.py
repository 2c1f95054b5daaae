"""Training on batches that are drawn when they are needed: generated data, or small sets out of a large table.

A draw hangs on the seed and the step alone, so that a killed training goes on with the same numbers.
"""

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from kilter.core.files import write_whole
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit

Draw = Callable[[int, torch.Generator], Mapping[str, Tensor]]
"""`(rows, generator) -> a batch`"""
_COST = "cost"
"""Under this name the cost of weights is kept among them."""


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
    cost: Callable[[], float] | None = None,
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
        cost: of the module as it is; it is asked before every checkpoint, and the weights of the least cost are kept.
        how: more of `kilter.lab.training.arguments`.
    """
    rows = Draws(draw, steps * batch_size, seed)
    more: Any = {"steps": steps, "batch_size": batch_size, "seed": seed, "warm_up_steps": 0, **how}
    settings = arguments(folder, remove_unused_columns=False, lr_scheduler_type="cosine", **more)
    made_for: Any = {"train_dataset": rows, "data_collator": _as_drawn}
    best = [] if cost is None else [_KeepBest(module, cost, folder / "best.safetensors")]
    order = torch.utils.data.SequentialSampler(rows)
    fit(Trainer(module, settings, **made_for), advance, sampler=order, callbacks=best)
    if best:
        weights = load_file(best[0].file)
        weights.pop(_COST)
        module.load_state_dict(weights)
    module.eval()


class _KeepBest(TrainerCallback):
    """Keeps the weights of the least cost; where a killed training goes on, it finds again what it found."""

    def __init__(self, module: nn.Module, cost: Callable[[], float], file: Path) -> None:
        self.module, self.cost, self.file = module, cost, file

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the cost when it is time for a checkpoint, and after the last step."""
        if state.global_step % args.save_steps and state.global_step < state.max_steps:
            return
        self.module.eval()
        with torch.no_grad():
            found = self.cost()
        self.module.train()
        known = float(load_file(self.file)[_COST]) if self.file.is_file() else math.inf
        if found < known:
            kept = {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}
            write_whole(self.file, save({**kept, _COST: torch.tensor(found, dtype=torch.float64)}))


def _as_drawn(batch: Any) -> Any:
    return batch
