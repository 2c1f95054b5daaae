"""An objective beside the likelihood of a stock encoder–decoder: a hook on the model, and a callback of its Trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from kilter import dist
from kilter.core.objective import ModelObjective, Objective
from kilter.core.property import property_name
from kilter.hosts.objective_child import NAME, ObjectiveChild, resumed_from
from kilter.hosts.seq2seq_states import Caught, arguments, seq2seq_model

_SCALED = "accepts_loss_kwargs"
"""What a model says of whether it divides its loss by the tokens of all accumulated batches."""


class AlignSeq2Seq(TrainerCallback):
    """What `align_seq2seq` returns: it adds to the model's loss, and is a callback of the Trainer."""

    def __init__(
        self, model: PreTrainedModel, objective: ModelObjective, *, start: int, ramp: int, in_eval: bool
    ) -> None:
        self.model = model
        self.objective = objective
        self.start = start
        self.ramp = ramp
        self.in_eval = in_eval
        self._in_trainer = False
        self._step = 0  # optimiser steps done
        self._forget()
        self._before = {_SCALED: model.__dict__[_SCALED]} if _SCALED in model.__dict__ else {}
        # T5, BART and Marian take num_items_in_batch and ignore it, so the Trainer must divide by the accumulation
        model.__dict__[_SCALED] = False
        self._caught = Caught(model)
        self._child = ObjectiveChild(model, objective, _weight(model).device)
        self._learnt = [one for one in objective.parameters() if one.requires_grad]
        hook: Any = torch.compiler.disable(self._add)
        self._hook = model.register_forward_hook(hook, with_kwargs=True)

    def _forget(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._stats: dict[str, Tensor] = {}
        self._calls = self._terms = 0

    def detach(self) -> None:
        """Give the model back as it was."""
        if self.model._modules.get(NAME) is not self.objective:
            raise ValueError("this handle is not attached (any more)")
        self._hook.remove()
        self._caught.remove()
        self._child.remove()
        del self.model.__dict__[_SCALED]
        self.model.__dict__.update(self._before)

    # The loss -----------------------------------------------------------------------------------------------

    @property
    def share(self) -> float:
        """How much of the objective counts in this step: 0 before the start, then k/ramp in the k-th, at most 1."""
        begun = self._step + 1 - self.start
        return 0.0 if begun <= 0 else min(1.0, begun / self.ramp) if self.ramp else 1.0

    @property
    def weight_now(self) -> float:
        """The objective's weight in this step."""
        return self.share * getattr(self.objective, "weight", 1.0)

    def _add(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Add the objective to the loss of the pass that has just ended."""
        training = self.model.training
        given = dict(zip(arguments(self.model), args, strict=False)) | kwargs
        labels = given.get("labels")
        if training and torch.is_grad_enabled():
            self._check_caller(model, given)
        if labels is None or not (training or self.in_eval):
            self._caught.drop()
            return output
        states = self._caught.take(given, output)
        own = states.output["loss"]
        keep = training and self._in_trainer
        if keep:
            self._calls += 1
            _add(self._sums, "nll", own)
        if self.weight_now == 0:
            if training and dist.world_size() > 1:
                output["loss"] = own + self._unused()
            return output
        with torch.autocast(own.device.type, enabled=False):
            out = self.objective.from_states(  # type: ignore[operator]
                states.source_states, states.target_states, labels, states.head, source_mask=states.source_mask
            )
            output["loss"] = own + self.share * out.loss
        if keep:
            self._terms += 1
            for name, value in out.parts.items():
                _add(self._sums, name, self.share * value)
            for name, value in out.stats.items():
                _add(self._stats, name, value)
        return output

    def _unused(self) -> Tensor | float:
        """Zero, with a gradient of zero: several processes wait for those of all parameters, however many count."""
        return sum(0.0 * one.sum() for one in self.objective.parameters() if one.requires_grad)

    def _check_caller(self, model: nn.Module, given: Mapping[str, Any]) -> None:
        if model is not self.model:
            raise RuntimeError(
                "the model runs as replicas of nn.DataParallel, which objectives cannot follow: start one process for "
                "each GPU (torchrun), or show one GPU only (CUDA_VISIBLE_DEVICES=0); or it is a copy: call "
                "align_seq2seq on that, and copy what is not attached"
            )
        if not all(one.requires_grad for one in self._learnt):
            raise RuntimeError(
                f"parameters of {type(self.objective).__name__} were frozen after align_seq2seq, as peft does with all "
                "that it finds in a model; call get_peft_model first, then align_seq2seq"
            )
        if given.get("labels") is None:
            raise ValueError(
                f"labels: this batch in training has none, so {type(self.objective).__name__} has no target; give them "
                "to the model (a Trainer with label_smoothing_factor or compute_loss_func keeps them back: leave both "
                "out), or call handle.detach()"
            )
        if not self._in_trainer and (self.start or self.ramp):
            raise RuntimeError("start and ramp need to see the training: call trainer.add_callback(handle)")
        if given.get("num_items_in_batch") is not None:
            raise RuntimeError(
                "this Trainer was built before align_seq2seq and would not divide the loss by the gradient "
                "accumulation; call align_seq2seq first, then build the Trainer"
            )

    # The callback -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start afresh, or take up what a checkpoint knows of the objective."""
        if args.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor={args.label_smoothing_factor} makes the Trainer keep the labels back from the "
                "model, and then there is no target to compare; leave it out, or call handle.detach()"
            )
        self._in_trainer = True
        self._step = state.global_step
        self._forget()
        if (checkpoint := resumed_from()) is not None:
            self._child.load(checkpoint)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the weight of this step."""
        self._step = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complain where the loss is made elsewhere."""
        if not self._calls:
            raise RuntimeError(
                "the handle saw no loss in this step: it hangs on another model than the Trainer's (call align_seq2seq "
                "on that one), or was detached"
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the objective into the checkpoint."""
        folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
        if args.should_save and folder.is_dir():  # a search over settings has folders elsewhere, and does not resume
            self._child.save(folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget that a trainer was there; of the best checkpoint, if the model was taken from it, take all."""
        self._in_trainer = False
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._child.load(Path(state.best_model_checkpoint))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the means since the last log; `logs` for the callbacks after this one, and the kept history.

        The parts add up to the logged loss.
        """
        if logs is None or "loss" not in logs or not self._calls:
            return
        means = {name: value / self._calls for name, value in self._sums.items()}
        means |= {name: value / self._terms for name, value in self._stats.items()}
        names = sorted(means)
        over_all = dist.all_sum(torch.stack([means[name] for name in names])) / dist.world_size()
        added = dict(zip(names, over_all.tolist(), strict=True))
        added["objective_weight"] = self.weight_now
        self._forget()
        logs.update(added)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(added)


def align_seq2seq(
    model: PreTrainedModel | nn.Module,
    objective: ModelObjective,
    *,
    start: int = 0,
    ramp: int = 0,
    in_eval: bool = False,
) -> AlignSeq2Seq:
    r"""Add an objective of states to the loss of an encoder–decoder, for the stock Trainer or any loop that calls it.

    $$\mathcal L = \mathcal L_{\text{model}} + \min\Bigl(1, \frac{k}{\texttt{ramp}}\Bigr) \cdot
    \texttt{objective}(\text{states}),\qquad k = \text{step} - \texttt{start}$$

    Whatever calls the model with labels in training mode gets the sum as its loss. The objective's parameters are those
    of a child of the model while it is attached, so the optimiser of a stock Trainer has them; no state dict of the
    model does, so what is saved is plain. Each checkpoint holds them in `kilter_objective.safetensors` and `.json`, and
    a resumed run ends as one that was not stopped. With weight 0, and before `start`, the model trains as without this.

    The losses of T5, BART and Marian ignore the tokens of the other batches of an accumulated step
    (`num_items_in_batch`), so a stock Trainer would make steps as many times too large as there are batches; the model
    is marked (`accepts_loss_kwargs`), and the mean over batches is taken. So call this before building the Trainer.

    Args:
        model: T5, BART, Marian or any of their kind; of one that is compiled, distributed or wrapped by peft, the model
            inside is changed.
        objective: e.g. `ContrastivePerturbation(model.config.d_model)`; one that has `from_states(source_states,
            target_states, labels, output, *, source_mask=None)`, its loss weighted already. `output` is called with
            states to give logits, has `weight`, and in `logits` those of `target_states`.
        start: optimiser steps of likelihood alone.
        ramp: steps after that over which the weight rises evenly; 0 begins with all of it.
        in_eval: add it in evaluation too; off, the evaluation loss is the model's own.

    Returns:
        The handle. `trainer.add_callback(handle)` logs `nll`, the model's own loss, the objective's parts (`contrast`)
        and statistics, and `objective_weight`; saves and resumes; and is needed for `start` and `ramp`.
        `handle.detach()` gives the model back as it was.

    Raises:
        TypeError: no encoder–decoder (a causal model, e.g.), or no instance of a `ModelObjective` with `from_states`.
        ValueError: an option below 0, an objective whose `width` is not that of the model's states, an objective
            attached already; in training, a batch without labels, or label smoothing, which keeps them back.
        RuntimeError: in training, a Trainer that was built before this, a model of peft after it, `start` or `ramp`
            without `add_callback(handle)`, a copy of the model.

    Example:
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> from kilter.seq2seq import ContrastivePerturbation
        >>> tiny = T5Config(vocab_size=9, d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=2)
        >>> model = T5ForConditionalGeneration(tiny)
        >>> handle = align_seq2seq(model, ContrastivePerturbation(4), start=100, ramp=100)
        >>> handle.detach()

    Reference: Lee, Lee and Hwang, "Contrastive Learning with Adversarial Perturbations for Conditional Text
    Generation", ICLR 2021; the gradual start is of those who could not do without.
    """
    inner = seq2seq_model(model)
    _check_model_objective(objective)
    for name, value in (("start", start), ("ramp", ramp)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be a number of steps, an int, got {value!r}")
        if value < 0:
            raise ValueError(f"{name} must be at least 0 steps, got {value}")
    if NAME in inner._modules:
        raise ValueError("model has an objective attached already; call its handle's detach() first")
    width, wanted = getattr(objective, "width", None), _weight(inner).shape[-1]
    if width is not None and width != wanted:
        name = type(objective).__name__
        raise ValueError(
            f"width={width} of {name} does not fit {type(inner).__name__}, whose states are {wanted} wide; make it as "
            f"{name}(model.config.d_model)"
        )
    return AlignSeq2Seq(inner, objective, start=start, ramp=ramp, in_eval=in_eval)


def _check_model_objective(objective: Any) -> None:
    wanted = "objective must be a kilter ModelObjective with from_states, such as ContrastivePerturbation(width), got"
    if isinstance(objective, type):
        name = property_name(objective)
        raise TypeError(f"{wanted} the class {name}; give one made from it, {name}(…)")
    if isinstance(objective, Objective):
        raise TypeError(f"{wanted} {type(objective).__name__}, an Objective of tensors: call it in a loop of your own")
    if not isinstance(objective, ModelObjective) or not callable(getattr(objective, "from_states", None)):
        raise TypeError(f"{wanted} {type(objective).__name__}")


def _weight(model: PreTrainedModel) -> Tensor:
    layer: Any = model.get_output_embeddings()
    return layer.weight


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.detach().float()
    sums[name] = sums[name] + value if name in sums else value
