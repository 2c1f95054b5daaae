"""How a model of the task is trained: by the stock Trainer, which draws its rows by a mixture of the domains."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer

from kilter.lab.arms import Levers
from kilter.lab.files import read_json, write_json
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.pretraining import DomainMixture, MixtureCallback
from kilter.tasks.language_modelling.clusters import Clusters
from kilter.tasks.language_modelling.networks import Network
from kilter.tasks.language_modelling.rows import Learner, Rows, collate

if TYPE_CHECKING:
    from kilter.tasks.language_modelling.task import LanguageModelling

MIXTURE = "mixture.json"
"""Beside the model: what was drawn of each domain, and by which weights, as training went on."""
_ROWS = 50
"""Rows of it, where nothing else says how many."""
_RATES = {True: 3e-3, False: 5e-5}
"""Learning rate of a model from scratch, and of one that has been trained."""


def mixture_of(rows: Rows, seed: int, weights: Sequence[float] | None = None) -> DomainMixture:
    """A sampler of the rows, by weights of the domains; None weighs all texts alike."""
    return DomainMixture(
        [*rows.sizes.values()],
        weights=rows.weights() if weights is None else weights,
        generator=torch.Generator().manual_seed(seed),
    )


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
    sampler = levers.sampler(rows, seed) if levers.sampler is not None else mixture_of(rows, seed)
    learner = Learner(network.model, rows, sampler, seed)
    start = sampler.domain_weights.tolist() if isinstance(sampler, DomainMixture) else None
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
    if groups := task.rates(network.model, rate):
        made_for["optimizers"] = (torch.optim.AdamW(groups, lr=rate, weight_decay=0.0), None)
    callbacks = [] if levers.callbacks is None else [*levers.callbacks(learner)]
    if not any(isinstance(one, MixtureCallback) for one in callbacks) and isinstance(sampler, DomainMixture):
        every = max(1, task.steps // _ROWS)
        callbacks.append(MixtureCallback(sampler, names=[*rows.sizes], every=every))
    fit(Trainer(network.model, made, **made_for), advance, callbacks=callbacks, sampler=sampler)
    if (kept := folder / "checkpoints" / MIXTURE).exists():
        found = read_json(kept)
        if start is not None:  # what the first rows were drawn by, before anything was measured
            names = found["domains"]
            row = {"drawn": dict(zip(names, start, strict=True)), "examples": dict.fromkeys(names, 0)}
            found["rows"].insert(0, {"step": 0, **row})
        write_json(folder / MIXTURE, in_domains(rows, found))


def in_domains(rows: Rows, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and epochs of domains as training went on; of clusters, those of the domains that they are of."""
    names = [*(rows.origins if isinstance(rows, Clusters) else rows.sizes)]
    found = []
    for row in kept["rows"]:
        weights = torch.tensor([row["drawn"][name] for name in kept["domains"]])
        examples = torch.tensor([row["examples"][name] for name in kept["domains"]], dtype=torch.float64)
        sizes = torch.tensor([*rows.sizes.values()], dtype=torch.float64)
        if isinstance(rows, Clusters):
            of = rows.origin / rows.origin.sum(1, keepdim=True)
            weights, examples, sizes = weights @ of, examples @ of.double(), rows.origin.sum(0).double()
        values = {"weights": weights, "epochs": examples / sizes}
        found.append({"step": row["step"], **{k: dict(zip(names, v.tolist(), strict=True)) for k, v in values.items()}})
    return {"domains": names, "rows": found}


def clean(folder: Path) -> None:
    """Remove what a killed training would have gone on from."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
