"""The handle of `align_ctc`: the loss function that a CTC model calls, and the callback of its Trainer."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from kilter import dist
from kilter.core.objective import Objective
from kilter.hosts.ctc_batch import GIVEN, CTCBatch
from kilter.hosts.ctc_start import Schedule, Start

_STATE = "kilter.align_ctc"
"""Where a checkpoint's `trainer_state.json` keeps the state of the handle, in `stateful_callbacks`."""

_MODEL_ATTRIBUTES = ("_loss_function", "accepts_loss_kwargs")
"""What attaching changes in the model."""


class AlignCTC(TrainerCallback):
    """What `align_ctc` returns: the model's loss function, and a callback of the Trainer."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        *,
        weight: float,
        start: Start | None,
        schedule: Schedule,
        in_eval: bool,
        ctc_weight: float,
    ) -> None:
        self.model = model
        self.objective = objective
        self.weight = weight
        self.ctc_weight = ctc_weight
        self.start = start
        self.schedule: Schedule = schedule
        self.in_eval = in_eval
        self._in_trainer = False
        self._reset(on=start is None, began_at=0, words=[0.0, 0.0])
        self._ctc = model.loss_function
        self._before = {name: model.__dict__[name] for name in _MODEL_ATTRIBUTES if name in model.__dict__}
        model.loss_function = self
        if model.config.ctc_loss_reduction == "mean":
            # a mean over the batch is not scaled by num_items_in_batch, so the Trainer must divide by the accumulation
            model.__dict__["accepts_loss_kwargs"] = False

    def _reset(self, *, on: bool, began_at: int, words: list[float]) -> None:
        self.on = on
        """Whether the objective is part of the loss."""
        self.began_at = began_at
        """Optimiser step at which it switched on."""
        self._factor = 1.0  # of the schedule
        self._words = words  # of recent steps, over all processes: right, all
        self._heard: list[Tensor] = []  # the same of each batch of this step, here
        self._forget()

    def _forget(self) -> None:
        self._parts: dict[str, Tensor] = {}
        self._stats: dict[str, Tensor] = {}
        self._calls = self._terms = self._steps = 0

    def detach(self) -> None:
        """Give the model its own loss back."""
        if self.model.__dict__.get("_loss_function") is not self:
            raise ValueError("this handle is not attached (any more)")
        for name in _MODEL_ATTRIBUTES:
            self.model.__dict__.pop(name, None)
        self.model.__dict__.update(self._before)

    # The loss -----------------------------------------------------------------------------------------------

    @torch.compiler.disable
    def __call__(
        self,
        logits: Float[Tensor, "batch time vocab"],
        labels: Int[Tensor, "batch tokens"],
        logit_lengths: Int[Tensor, " batch"],
        blank_token_id: int,
        reduction: str = "mean",
        zero_infinity: bool = False,
        **kwargs: Any,
    ) -> Float[Tensor, ""]:
        """The CTC loss plus the weighted objective, with the signature of `model.loss_function`."""
        training = self.model.training
        if training:
            self._check_caller(reduction, kwargs)
        vocabulary = getattr(self.objective, "vocabulary", None)
        batch = CTCBatch(logits, labels.to(logits.device), logit_lengths, blank_token_id, vocabulary)
        batch.check(zero_infinity)
        ctc = self._ctc(
            logits=logits,
            labels=labels,
            logit_lengths=logit_lengths,
            blank_token_id=blank_token_id,
            reduction=reduction,
            zero_infinity=zero_infinity,
            **kwargs,
        )
        keep = training and self._in_trainer
        if keep:
            self._calls += 1
            if self._listens:
                self._heard.append(batch.words_right())
        weight = self.weight_now * (len(logits) if reduction == "sum" else 1)
        counts = training or self.in_eval
        if counts and (share := self.ctc_weight_now) != 1:
            ctc = share * ctc if share else torch.zeros_like(ctc)  # an infinite CTC loss must not become NaN
        if keep:
            _add(self._parts, "ctc", ctc)
        if not counts or weight == 0:
            return ctc
        if zero_infinity and {"targets", "references"} & set(self.objective.inputs):
            batch, fitting = batch.fitting()  # as CTC does: an utterance that does not fit adds nothing to the sum
            weight = weight * fitting
        with torch.autocast(logits.device.type, enabled=False):
            out = self.objective(**{name: getattr(batch, name) for name in self.objective.inputs if name in GIVEN})
            term = weight * out.loss
        if keep:
            self._terms += 1
            for name, value in out.parts.items():
                _add(self._parts, name, weight * value)
            for name, value in out.stats.items():
                _add(self._stats, name, value)
        return ctc + term

    @property
    def weight_now(self) -> float:
        """The weight of this step: 0 before the start, then by the schedule."""
        return self.weight * self._factor if self.on else 0.0

    @property
    def ctc_weight_now(self) -> float:
        """How much the CTC loss counts in this step: whole before the start, and again as the weight falls to 0."""
        return 1.0 + (self.ctc_weight - 1.0) * self._factor if self.on else 1.0

    @property
    def _listens(self) -> bool:
        return not self.on and self.start is not None and self.start.word_success is not None

    def _check_caller(self, reduction: str, kwargs: Mapping[str, Any]) -> None:
        if not self._in_trainer and (self.start is not None or self.schedule != "constant"):
            raise RuntimeError("start and schedule need to see the training: call trainer.add_callback(handle)")
        if reduction == "mean" and kwargs.get("num_items_in_batch") is not None:
            raise RuntimeError(
                "this Trainer was built before align_ctc and would multiply the loss by the gradient accumulation and "
                "the number of processes; call align_ctc first, then build the Trainer"
            )

    # The callback -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start afresh, or take up the state of a resumed run."""
        self._in_trainer = True
        fresh = {"on": self.start is None, "began_at": 0, "words": [0.0, 0.0]}
        self._reset(**(state.stateful_callbacks.get(_STATE) or fresh))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Switch on when it is time, and set the weight of this step."""
        if not self.on and self.start is not None and self._is_time(self.start, state):
            self.on, self.began_at = True, state.global_step
        done = (state.global_step - self.began_at) / max(1, state.max_steps - self.began_at)
        factors = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
        self._factor = factors[self.schedule]

    def _is_time(self, start: Start, state: Any) -> bool:
        if start.step is not None:
            return state.global_step >= start.step
        if start.epoch is not None:
            return (state.epoch or 0.0) >= start.epoch
        return self._words[1] > 0 and self._word_success >= (start.word_success or 0.0)

    @property
    def _word_success(self) -> float:
        right, words = self._words
        return max(right, 0.0) / max(words, 1.0)  # WER may be above 1; a share is not below 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count the words of all processes, and leave what a checkpoint of this step must hold."""
        if not self._calls:
            raise RuntimeError(
                "the handle saw no loss in this step: it hangs on another model than the Trainer's (call align_ctc on "
                "that one), was detached, or the loss is computed elsewhere (compute_loss_func, label smoothing)"
            )
        self._steps += 1
        if self._heard:
            heard = dist.all_sum(torch.stack(self._heard).sum(0)).tolist()
            self._words = [0.9 * recent + new for recent, new in zip(self._words, heard, strict=True)]
            self._heard = []
        kept = {"on": self.on, "began_at": self.began_at, "words": self._words}
        state.stateful_callbacks[_STATE] = kept

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget that a trainer was there."""
        self._in_trainer = False

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add the means since the last log; `logs` for the callbacks after this one, and the kept history.

        The parts add up to the logged loss.
        """
        if logs is None or "loss" not in logs or not self._calls:
            return
        scale = 1 / self._calls
        if self.model.config.ctc_loss_reduction == "sum":  # the Trainer sums over accumulation and processes then
            scale = (dist.world_size() if args.average_tokens_across_devices else 1) / self._steps
        sums = {name: value * scale for name, value in self._parts.items()}
        sums |= {name: value / self._terms for name, value in self._stats.items()}
        means = dist.all_sum(torch.stack([sums[name] for name in sorted(sums)])) / dist.world_size()
        added = dict(zip(sorted(sums), means.tolist(), strict=True))
        added["objective_weight"] = self.weight_now
        if self._listens:
            added["word_success"] = self._word_success
        self._forget()
        logs.update(added)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(added)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.detach().float()
    sums[name] = sums[name] + value if name in sums else value
