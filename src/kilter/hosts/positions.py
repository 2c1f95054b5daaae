"""Positions in a model that people have: the host's own term is silenced, a `PositionTerm` takes its place.

Attention is registered with transformers, and the model's class exchanged for a subclass; no method is patched.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from kilter import dist
from kilter.core.positions import PositionTerm
from kilter.hosts.expert_models import is_converted
from kilter.hosts.position_families import family_of
from kilter.hosts.position_models import check_settings, convert, has_positions, uninstall
from kilter.hosts.wrapped import in_use, unwrapped


def attach(model: nn.Module, term: Any) -> nn.Module:
    """See `kilter.pretraining.attach`."""
    inner = _inner(model)
    if not isinstance(term, PositionTerm):
        raise TypeError(f"seqpe must be a PositionTerm, such as SeqPE(max_position), got {type(term).__name__}")
    if has_positions(inner):
        held = type(in_use(inner.kilter_positions)).__name__
        raise ValueError(f"model has positions attached already ({held}); detach(model) takes them away")
    if is_converted(inner):
        raise ValueError("model has experts; merge_experts(model) first, a model holds one of the two")
    if term.sizes is not None:
        raise ValueError("seqpe belongs to a model already; make new ones for each model")
    family = family_of(inner)
    check_settings(inner, family)
    if term.axes != family.sizes.axes:
        what = "a text has 1 axis" if family.sizes.axes == 1 else "a picture has 2 axes, row and column"
        raise ValueError(f"axes={term.axes} of the positions do not fit {type(inner).__name__}: {what}")
    convert(inner, term)
    return model


def detach(model: nn.Module) -> PositionTerm:
    """See `kilter.pretraining.detach`."""
    inner = _inner(model)
    if not has_positions(inner):
        raise ValueError("model has no positions attached; attach(model, positions) gives it some")
    term = in_use(inner.kilter_positions)
    uninstall(inner)
    return term


def _inner(model: nn.Module) -> Any:
    inner = unwrapped(model)
    if not isinstance(inner, PreTrainedModel):
        raise TypeError(f"model must be a model of transformers, got {type(inner).__name__}")
    return inner


class LogPositionParts(TrainerCallback):
    """Logs the parts that positions add to a Trainer's loss, under their names: means over the steps since the last.

    The loss has them with or without this. `model.kilter_parts` are those of the last training pass.

    `trainer.state.log_history` has them wherever this stands. A Trainer prints them too if this is among the callbacks
    that it is made with; one that is added later comes after the printing. Reports, such as to TensorBoard, come before
    both, and have them where this is put first: `trainer.callback_handler.callbacks.insert(0, LogPositionParts())`.

    Example:
        >>> callback = LogPositionParts()  # Trainer(…, callbacks=[callback])
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start afresh."""
        self._sums, self._steps = {}, 0

    def on_substep_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Add up the batches of a step."""
        for name, part in getattr(unwrapped(model), "kilter_parts", {}).items():
            self._sums[name] = self._sums.get(name, torch.zeros(())) + part.detach().float().cpu()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Add the last batch of a step."""
        self.on_substep_end(args, state, control, model)
        self._steps += 1

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the means, for the callbacks after this one and the kept history."""
        if logs is None or "loss" not in logs or not self._sums:
            return
        names = sorted(self._sums)
        means = torch.stack([self._sums[name] for name in names]) / self._steps
        means = dist.all_sum(means.to(args.device)) / dist.world_size()
        added = dict(zip(names, means.tolist(), strict=True))
        self._sums, self._steps = {}, 0
        logs.update(added)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(added)
