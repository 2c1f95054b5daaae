"""One arm's training with transformers' trainer, and what its objective costs and does at the end."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer

from kilter.hosts.transformers import align_seq2seq
from kilter.lab.arms import Levers
from kilter.lab.files import write_json
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.models.devices import clock
from kilter.tasks.text_to_text.networks import Data, Network

if TYPE_CHECKING:
    from kilter.tasks.text_to_text.task import TextToText

_TIMED, _LOOKED_AT = 12, 8
"""Batches on which a step is timed, and on which the objective's diagnostics are taken."""
LOOKED = "objective.json"
"""Beside the model: how long a step takes, in plain ones, and the objective's diagnostics."""


def train(
    task: "TextToText", network: Network, data: Data, levers: Levers, seed: int, folder: Path, advance: Advance
) -> None:
    """Train the network in place, resuming from `folder/checkpoints`, and look at its objective."""
    work, objective, callbacks = folder / "checkpoints", None, []
    if levers.objective is not None:
        torch.manual_seed(seed)
        objective = levers.objective(network.model)
        callbacks = [align_seq2seq(network.model, objective, start=task.start, ramp=task.ramp)]
    made = arguments(
        work,
        steps=task.steps,
        batch_size=data.batch_size,
        learning_rate=task.rate,
        warm_up_steps=min(200, task.steps // 4),
        seed=seed,
        device=task.device,
        precision=task.precision,
        save_steps=task.save_steps,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": task.rate / 20},
        max_grad_norm=1.0,
        remove_unused_columns=False,
    )
    trainer = Trainer(network.model, made, train_dataset=data.rows, data_collator=data.collate)
    fit(trainer, advance, callbacks=callbacks)
    if objective is None:
        write_json(folder / LOOKED, {"step_ratio": 1.0})
        return
    callbacks[0].detach()
    write_json(folder / LOOKED, looked_at(network, objective.to(network.model.device), batches(data)))


def batches(data: Data) -> list[dict[str, Any]]:
    """The first batches there are."""
    groups = range(0, len(data.rows) - data.batch_size + 1, data.batch_size) or [0]
    found = ([data.rows[at] for at in range(first, min(first + data.batch_size, len(data.rows)))] for first in groups)
    return [dict(data.collate(rows)) for rows in islice(found, _TIMED)]


def looked_at(network: Network, objective: Any, some: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The time of passes with gradients, in those of the likelihood alone, taken in turns; and mean diagnostics."""
    model = network.model.eval()
    given = [{name: value.to(model.device) for name, value in batch.items()} for batch in some]
    device = str(model.device)
    took: dict[str, list[float]] = {"plain": [], "objective": []}
    for batch in given:
        for name in took:
            began = clock(device)
            loss = model(**batch).loss if name == "plain" else objective(model, **batch).loss
            loss.backward()
            took[name].append(clock(device) - began)
            model.zero_grad(set_to_none=True)
            objective.zero_grad(set_to_none=True)
    with torch.no_grad():
        stats = [objective(model, **batch).stats for batch in given[:_LOOKED_AT]]
    means = {name: float(torch.stack([one[name] for one in stats]).mean()) for name in (stats[0] if stats else ())}
    return {"step_ratio": median(took["objective"]) / median(took["plain"]), **means}


def clean(folder: Path) -> None:
    """Remove what a killed training would have gone on from."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
