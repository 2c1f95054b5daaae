"""How a model of the task is trained: by the stock Trainer, which draws its rows by a mixture of the domains."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback

from kilter.lab.arms import Levers
from kilter.lab.files import read_rows, write_rows
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.tasks.language_modelling.networks import Network
from kilter.tasks.language_modelling.rows import Learner, Rows, collate

if TYPE_CHECKING:
    from kilter.pretraining import DomainMixture
    from kilter.tasks.language_modelling.task import LanguageModelling

MIXTURE = "mixture.jsonl"
"""Beside the model: what was drawn of each domain, and by which weights, as training went on."""
_RATES = {True: 3e-3, False: 5e-5}
"""Learning rate of a model from scratch, and of one that has been trained."""


def mixture_of(rows: Rows, seed: int, weights: Sequence[float] | None = None) -> "DomainMixture":
    """A sampler of the rows, by weights of the domains; None weighs all alike."""
    from kilter.pretraining import DomainMixture

    return DomainMixture([*rows.sizes.values()], weights=weights, generator=torch.Generator().manual_seed(seed))


def train(
    task: "LanguageModelling",
    network: Network,
    rows: Rows,
    levers: Levers,
    seed: int,
    folder: Path,
    advance: Advance,
) -> None:
    """Train the model in place with the options of the task, resuming from `folder/checkpoints`."""
    sampler = (
        levers.sampler(rows, seed) if levers.sampler is not None else mixture_of(rows, seed, [*rows.sizes.values()])
    )
    learner = Learner(network.model, rows, sampler, seed)
    rate = task.learning_rate or _RATES[task.model is None]
    made = arguments(
        folder / "checkpoints",
        steps=task.steps,
        batch_size=task.batch_size,
        learning_rate=rate,
        warm_up_steps=task.steps // 10,
        seed=seed,
        device=task.device,
        precision=task.precision,
        save_steps=task.save_steps,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": rate / 10},
        max_grad_norm=1.0,
        remove_unused_columns=False,
    )
    made_for: Any = {"train_dataset": rows, "data_collator": collate}
    callbacks = [] if levers.callbacks is None else [*levers.callbacks(learner)]
    follow = Follow([*rows.sizes], sampler, folder / MIXTURE, every=max(1, task.steps // 100))
    fit(Trainer(network.model, made, **made_for), advance, callbacks=[*callbacks, follow], sampler=sampler)


def clean(folder: Path) -> None:
    """Remove what a killed training would have gone on from."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class Follow(TrainerCallback):
    """Keeps by which weights domains were drawn, and how often each was passed through.

    What a killed training had kept beyond the checkpoint it goes on from is written again.

    Args:
        domains: their names.
        sampler: that draws; one that tells no weights and counts is not followed.
        file: where it is kept.
        every: steps between two rows.
    """

    def __init__(self, domains: Sequence[str], sampler: Any, file: Path, *, every: int) -> None:
        self.domains, self.sampler, self.file, self.every = [*domains], sampler, file, every

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget what comes after the step that is gone on from."""
        kept = read_rows(self.file) if self.file.exists() else []
        write_rows(self.file, [row for row in kept if row["step"] <= state.global_step])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep a row."""
        if not hasattr(self.sampler, "domain_weights") or (
            state.global_step % self.every and state.global_step < state.max_steps
        ):
            return
        weights = self.sampler.domain_weights.tolist()
        row = {
            "step": state.global_step,
            "weights": dict(zip(self.domains, weights, strict=True)),
            "epochs": dict(zip(self.domains, self.sampler.epochs, strict=True)),
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
