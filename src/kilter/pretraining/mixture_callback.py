"""A mixture of domains in transformers' Trainer: draws its batches, resumes to the same draws, logs what was drawn.

For fixed weights (uniform, proportional, importance sampling), and what `DynamicGradientAlignment` stands on. It has a
callback's methods and does not import transformers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, SequentialSampler

from kilter import dist
from kilter.core.decoder import warn
from kilter.core.options import whole
from kilter.pretraining.domain_mixture import DomainMixture

_KEY = "kilter.mixture"
"""Of the Trainer's state, where ours is kept; no class's name, since the Trainer would make that anew."""

_OF_DOMAINS = ("drawn", "examples", "epochs", "tokens")
"""Lists of a row that are of domains, also where weights are those of bases."""
_SHOWN = 3
"""Domains beside the loss that the Trainer prints."""


class MixtureCallback:
    """Let the Trainer draw its examples by a `DomainMixture`.

    When training begins, the mixture takes the place of the sampler in the Trainer's loader; its data set is the
    concatenation of the domains. In a distributed run every process draws the same indices and takes its share of the
    batches. Checkpoints hold the mixture in their `trainer_state.json`; a resumed run draws as one that was not stopped
    (with `ignore_data_skip` it goes on where the loader, which looks ahead, was).

    A row of `history` has lists in the order of the domains: `examples` and `epochs` drawn so far, `drawn`, the share
    of the draws that each domain now has, and `weights`, the same unless a mixture has bases or a subclass says
    otherwise. Each row is also in `trainer.state.log_history`, as `{"step": …, "mixture": row}`, and all of them, by
    the names of domains (bases by number), in `mixture.json` in the output directory, written with every checkpoint and
    at the end. What the Trainer prints beside the loss has the largest three as `drawn_NAME`, if the callback is one of
    `Trainer(callbacks=[…])`: one that is added later comes after the printing.

    Args:
        mixture: of the training data set's domains.
        names: of the domains, each another; None numbers them.
        every: steps between rows of the history.

    Attributes:
        history: rows so far.

    Raises:
        TypeError, ValueError: no mixture, other names than domains, `every` below 1. When training begins: a data set
            of another size than the mixture, or one that cannot be indexed; a second such callback.

    Example:
        >>> callback = MixtureCallback(DomainMixture([3, 5]), names=["books", "pages"])
        >>> callback.row(7)["drawn"]
        [0.5, 0.5]
    """

    never = ""
    """What is said of a training of fewer steps than `every`; nothing where weights are fixed, and stay right."""

    def __init__(self, mixture: DomainMixture, *, names: Sequence[str] | None = None, every: int = 100) -> None:
        if not isinstance(mixture, DomainMixture):
            raise TypeError(f"mixture must be a DomainMixture, got {type(mixture).__name__}")
        whole("every", every, 1)
        self.mixture = mixture
        self.names = [*map(str, range(len(mixture.sizes)))] if names is None else [*names]
        if len(self.names) != len(mixture.sizes):
            raise ValueError(
                f"mixture has {len(mixture.sizes)} domains, and there are {len(self.names)} names; give one each"
            )
        if len({*self.names}) != len(self.names):
            raise ValueError(f"names must differ, got {', '.join(map(repr, self.names[:8]))}; give each its own")
        self.every = every
        self.history: list[dict[str, Any]] = []
        self._resuming = False

    def __getattr__(self, name: str) -> Any:
        """Events of the Trainer that nothing is done at."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def state_dict(self) -> dict[str, Any]:
        """All that the next draws depend on, as JSON can hold it."""
        return {"mixture": self.mixture.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: a state of other domains.
        """
        self.mixture.load_state_dict(state["mixture"])

    def row(self, step: int) -> dict[str, Any]:
        """What is logged at a step, as JSON can hold it."""
        mixture = self.mixture
        row = {"step": step, "weights": mixture.weights.tolist(), "drawn": mixture.domain_weights.tolist()}
        return {**row, "examples": [*mixture.counts], "epochs": mixture.epochs}

    # Events of the Trainer -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, *, train_dataloader: Any, **kwargs: Any) -> None:
        """Put the mixture into the loader, and take up what a checkpoint has."""
        if (other := vars(state).setdefault("_mixture", self)) is not self:  # no field, and so in no checkpoint
            raise ValueError(
                f"the Trainer has a {type(other).__name__} already, and batches come from one mixture; leave out the "
                f"{type(self).__name__} or the other"
            )
        _put(self.mixture, train_dataloader)
        if kept := state.stateful_callbacks.get(_KEY):
            self.load_state_dict(kept)
        elif state.global_step:
            raise ValueError(
                f"the checkpoint of step {state.global_step} holds no mixture: it is of a run without this callback; "
                "begin anew, or without the callback"
            )
        self._resuming = bool(kept) and not args.ignore_data_skip
        self.history = [row["mixture"] for row in state.log_history if "mixture" in row]
        if dist.world_size() > 1:
            _same_draws(self.mixture, args.device)
        if self.never and state.max_steps < self.every:
            warn(
                f"{type(self).__name__}: training has {state.max_steps} steps and every is {self.every}, so "
                f"{self.never}; give a smaller one, such as every={max(1, state.max_steps // 20)}"
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw again what a resumed Trainer passes over."""
        epoch = int((state.epoch or 0) + 1e-6)
        if self._resuming and epoch == self.mixture.epoch:
            self.mixture.replay()
        self._resuming = False
        self.mixture.set_epoch(epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Do what is due, and leave the state where a checkpoint will find it."""
        if state.global_step % self.every == 0:
            self.due(args, state, kwargs)
        state.stateful_callbacks[_KEY] = self.state_dict()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the history."""
        if state.is_world_process_zero:
            rows = {"domains": self.names, "rows": [self._by_name(row) for row in self.history]}
            file = Path(args.output_dir, "mixture.json")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8")

    on_train_end = on_save

    def due(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        """What happens every so many steps: a row of the history."""
        self.history.append(self.row(state.global_step))
        self.keep(state)

    def keep(self, state: Any) -> None:
        """Put the last row into the Trainer's history too, where a checkpoint has it."""
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, "mixture": self.history[-1]})

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show what most is drawn of beside the loss, to the callbacks after this one."""
        if logs is not None and "loss" in logs:
            drawn = self.mixture.domain_weights
            for place in drawn.argsort(descending=True, stable=True)[:_SHOWN].tolist():
                logs[f"drawn_{self.names[place]}"] = float(drawn[place])

    def _by_name(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row whose lists are dicts; the same whether it comes from a checkpoint or not."""
        bases = self.names if self.mixture.bases is None else [*map(str, range(len(self.mixture.bases)))]
        lists = {key: self.names if key in _OF_DOMAINS else bases for key, one in row.items() if isinstance(one, list)}
        return {key: dict(zip(lists[key], row[key], strict=True)) if key in lists else row[key] for key in sorted(row)}


def _nothing(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
    """An event that is of no interest."""


def _put(mixture: DomainMixture, loader: Any) -> None:
    """The mixture in the place of the sampler that the loader's batches are made of."""
    dataset: Any = getattr(loader, "dataset", None)
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"the training data set, a {type(dataset).__name__}, is a stream, of which a mixture cannot choose; "
            "give one that has a length and indices, such as torch.utils.data.ConcatDataset of the domains"
        )
    if len(dataset) != len(mixture):
        raise ValueError(
            f"the training data set has {len(dataset)} examples and the mixture's sizes sum to {len(mixture)}; train "
            "on the concatenation of the domains"
        )
    batches = loader.batch_sampler
    while hasattr(batches, "batch_sampler"):  # what deals batches out to processes
        batches = batches.batch_sampler
    if type(batches) is not BatchSampler:
        raise ValueError(f"the training loader has batches of a {type(batches).__name__} of its own; leave that out")
    if not isinstance(batches.sampler, RandomSampler | SequentialSampler | DomainMixture):
        warn(
            f"MixtureCallback: the mixture takes the place of the loader's {type(batches.sampler).__name__}, whose "
            "order is lost; leave that out, such as group_by_length"
        )
    batches.sampler = mixture


def _same_draws(mixture: DomainMixture, device: Any) -> None:
    """All processes draw as the first one does."""
    kept = torch.tensor([*json.dumps(mixture.state_dict()).encode()], dtype=torch.uint8, device=device)
    size = torch.tensor(len(kept), device=device)
    dist.as_first([size])
    if len(kept) != int(size):
        kept = kept.new_zeros(int(size))
    dist.as_first([kept])
    going_on = mixture._going_on
    mixture.load_state_dict(json.loads(bytes(kept.tolist())))
    mixture._going_on = going_on
