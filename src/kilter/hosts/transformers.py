"""transformers: an objective beside the CTC loss of any `…ForCTC` model, in one line.

It uses one public seam, the settable `model.loss_function`, and the callback protocol of the Trainer. Before 5.21 no
CTC model but Parakeet's called its `loss_function`, so that is the floor.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from kilter import dist
from kilter.core.checks import check_targets, frames_needed, readable
from kilter.core.objective import Objective, check_objective
from kilter.evaluation.word_errors import token_texts, word_error_counts
from kilter.ops.ctc_paths import collapse

TESTED = ">=5.21,<5.24"

if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 21):
    raise ImportError(
        f"kilter.hosts.transformers needs transformers 5.21 or newer, found {transformers.__version__}: "
        "pip install -U 'kilter[speech]'"
    )

Schedule = Literal["constant", "linear", "cosine"]

_STATE = "kilter.align_ctc"
"""Where a checkpoint's `trainer_state.json` keeps the state of the handle, in `stateful_callbacks`."""

_GIVEN = ("log_probs", "input_lengths", "targets", "target_lengths", "references")
"""What an objective may ask for, by glossary name."""

_MODEL_ATTRIBUTES = ("_loss_function", "accepts_loss_kwargs")
"""What attaching changes in the model."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """When an objective switches on; give exactly one.

    Attributes:
        step: optimiser step.
        epoch: epoch, fractions allowed.
        word_success: share of words right in the last ten steps or so (greedy decoding, 1 − WER, over all
            processes), e.g. 0.85; measured only until the objective is on. Words are read with the vocabulary of
            the objective's property; without one, every token counts as a word.

    Example:
        >>> Start(word_success=0.85)
        Start(step=None, epoch=None, word_success=0.85)
    """

    step: int | None = None
    epoch: float | None = None
    word_success: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.step, self.epoch, self.word_success) if value is not None]
        if len(given) != 1 or not given[0] >= 0 or (self.word_success or 0) > 1:
            raise ValueError(f"give exactly one of step, epoch, or word_success within 0..1, got {self}")


def align_ctc(
    model: PreTrainedModel,
    objective: Objective,
    *,
    weight: float,
    start: Start | int | None = None,
    schedule: Schedule = "constant",
    in_eval: bool = False,
    ctc_weight: float = 1.0,
) -> "AlignCTC":
    r"""Add `weight · objective` to the loss of a `…ForCTC` model, for the stock Trainer or any loop that calls it.

    $$\mathcal L = c \cdot \mathcal L_{\text{CTC}} + \alpha \cdot \texttt{objective}(\log p, \text{lengths}, \dots)$$

    The objective is given by name what its `forward` asks for (`log_probs`, `input_lengths`, `targets`,
    `target_lengths`, `references`; see `kilter.core.glossary`). It uses the model's own blank, and follows
    `config.ctc_loss_reduction`: with "sum" the term is multiplied by the batch size, with "mean" it is the batch
    mean, and the model is then marked as not scaling its loss for gradient accumulation, which its own code does
    not do (call this before building the Trainer). Weight 0 draws nothing and, with
    `ctc_weight` 1, leaves the CTC loss untouched. With `ctc_zero_infinity`, an objective that asks for targets or
    references is not given the utterances whose labels need more frames than there are.

    Args:
        model: a transformers model whose forward calls `self.loss_function(logits=, labels=, logit_lengths=, …)`.
        objective: e.g. `AlignWithPurpose(LowLatency())`; without learnable parameters.
        weight: α, at least 0.
        start: a `Start`, or an int for `Start(step=…)`; None is on from the first step.
        schedule: the weight over the training after `start`: `constant`, or falling to 0 as `linear` or `cosine`.
        in_eval: add the term in evaluation too; off, the evaluation loss is the plain CTC loss.
        ctc_weight: c; 0 puts an objective that contains CTC, such as `BayesRiskCTC`, in its place. Before the start
            the CTC loss counts whole, and a falling schedule leads back to it.

    Returns:
        The handle. `trainer.add_callback(handle)` logs parts and stats under their names, and is needed for `start`
        and `schedule`. `handle.detach()` gives the model back as it was.

    Raises:
        TypeError: no CTC model, or no objective.
        ValueError: an option out of range, a property whose blank differs from the model's, an objective with
            parameters, a term already attached.

    Example:
        >>> from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
        >>> from kilter.speech import AlignWithPurpose, LowLatency
        >>> tiny = Wav2Vec2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        ...     conv_dim=(8,), conv_kernel=(4,), conv_stride=(4,), num_feat_extract_layers=1,
        ...     num_conv_pos_embeddings=2, num_conv_pos_embedding_groups=1, ctc_loss_reduction="mean")
        >>> model = Wav2Vec2ForCTC(tiny)
        >>> handle = align_ctc(model, AlignWithPurpose(LowLatency()), weight=1.0)
        >>> handle.detach()

    Reference: Segev et al., "Align With Purpose", ICLR 2024.
    """
    if not _is_ctc(model):
        raise TypeError(
            f"model must be a transformers …ForCTC model whose forward calls self.loss_function, got "
            f"{type(model).__name__}; of a wrapped model give the inner one (ddp.module, compiled._orig_mod, "
            "peft_model.get_base_model())"
        )
    check_objective(objective)
    if any(True for _ in objective.parameters()):
        raise ValueError(f"{type(objective).__name__} has parameters; they would be neither trained nor saved here")
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be at least 0, got {weight}")
    if not (math.isfinite(ctc_weight) and ctc_weight >= 0) or weight == ctc_weight == 0:
        raise ValueError(f"ctc_weight must be at least 0, and above 0 where weight is 0, got {ctc_weight}")
    if start is not None and not isinstance(start, Start | int):
        raise TypeError(f"start must be a Start, an int (a step) or None, got {start!r}; e.g. Start(epoch=0.5)")
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
    if isinstance(model.__dict__.get("_loss_function"), AlignCTC):
        raise ValueError("the model has an objective attached already; call its handle's detach() first")
    return AlignCTC(
        model,
        _with_blank(objective, model.config.pad_token_id),
        weight=weight,
        start=Start(step=start) if isinstance(start, int) else start,
        schedule=schedule,
        in_eval=in_eval,
        ctc_weight=ctc_weight,
    )


def _is_ctc(model: Any) -> bool:
    """Whether it is a CTC model on whose loss function something can be hung."""
    if not isinstance(model, PreTrainedModel) or not any(c.__name__.endswith("ForCTC") for c in type(model).__mro__):
        return False
    forwards = [inspect.unwrap(c.__dict__["forward"]) for c in type(model).__mro__ if "forward" in c.__dict__]
    return any("loss_function" in forward.__code__.co_names for forward in forwards)


def _with_blank(objective: Objective, blank: int) -> Objective:
    config = objective.config()
    return objective if config.get("blank", blank) == blank else type(objective)(**{**config, "blank": blank})


@dataclass(frozen=True)
class _Batch:
    """One call of the loss function, and what can be had from it."""

    logits: Float[Tensor, "batch time vocab"]
    labels: Int[Tensor, "batch tokens"]
    input_lengths: Int[Tensor, " batch"]
    blank: int
    vocabulary: Sequence[str] | None

    @cached_property
    def spoken(self) -> Bool[Tensor, "batch tokens"]:
        return (self.labels != -100) & (self.labels != self.blank)

    @property
    def log_probs(self) -> Float[Tensor, "batch time vocab"]:
        return self.logits.log_softmax(-1, dtype=torch.promote_types(self.logits.dtype, torch.float32))

    @property
    def targets(self) -> Int[Tensor, "batch tokens"]:
        """The spoken labels first, so that padding on either side or in between does not matter."""
        order = torch.sort(self.spoken.to(torch.uint8), dim=-1, descending=True, stable=True).indices
        return self.labels.gather(-1, order)

    @property
    def target_lengths(self) -> Int[Tensor, " batch"]:
        return self.spoken.sum(-1)

    @property
    def references(self) -> list[str] | None:
        return None if self.vocabulary is None else self._said(self.vocabulary)

    def check(self, zero_infinity: bool) -> None:
        """The labels fit the frames (with `zero_infinity` they need not) and the vocabulary; on the CPU only."""
        if readable(self.labels):
            frames = torch.full_like(self.input_lengths, 2 * self.labels.shape[1])
            check_targets(
                frames if zero_infinity else self.input_lengths,
                self.targets,
                self.target_lengths,
                vocab=self.logits.shape[-1],
                blank=self.blank,
            )

    def fitting(self) -> tuple["_Batch", float]:
        """The utterances whose labels fit their frames, and their share of the batch."""
        needed = frames_needed(self.targets, self.target_lengths)
        fits = needed <= self.input_lengths.to(needed.device)
        if bool(fits.all()):
            return self, 1.0
        kept = self.logits[fits], self.labels[fits], self.input_lengths[fits.to(self.input_lengths.device)]
        return _Batch(*kept, self.blank, self.vocabulary), int(fits.sum()) / len(fits)

    def words_right(self) -> Float[Tensor, " 2"]:
        """Words that best-path decoding gets right, and words; every token is a word if there is no vocabulary."""
        vocabulary = self.vocabulary or [f" {i}" for i in range(self.logits.shape[-1])]
        heard = collapse(self.logits.detach().argmax(-1), self.input_lengths, self.blank)
        errors, words = word_error_counts(self._said(vocabulary), token_texts(heard, vocabulary))
        return torch.tensor([words - errors, words], dtype=torch.float32, device=self.logits.device)

    def _said(self, vocabulary: Sequence[str]) -> list[str]:
        pairs = zip(self.targets.tolist(), self.target_lengths.tolist(), strict=True)
        return token_texts([tokens[:length] for tokens, length in pairs], vocabulary)


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
        batch = _Batch(logits, labels.to(logits.device), logit_lengths, blank_token_id, vocabulary)
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
            out = self.objective(**{name: getattr(batch, name) for name in self.objective.inputs if name in _GIVEN})
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
        right, words = self._words
        return words > 0 and right / words >= (start.word_success or 0.0)

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
            added["word_success"] = self._words[0] / max(self._words[1], 1.0)
        self._forget()
        logs.update(added)
        if state.log_history and state.log_history[-1].get("step") == state.global_step:
            state.log_history[-1].update(added)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    value = value.detach().float()
    sums[name] = sums[name] + value if name in sums else value


class FollowEpochs(TrainerCallback):
    """Tells the training data which epoch it is, by its attribute `epoch` (as `TrimTail` has), also after a resume."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first example of the epoch is read."""
        dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
        if dataset is not None and hasattr(dataset, "epoch"):
            dataset.epoch = int(round(state.epoch or 0.0, 6))


@torch.no_grad()
def ctc_outputs(
    model: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
    """Log-probabilities `(B, T, V)` and valid frames `(B,)` of any `…ForCTC` model, without labels.

    The lengths come through the same seam as in training, so no model family needs a case of its own.
    """
    caught: dict[str, Tensor] = {}

    def catch(logits: Tensor, logit_lengths: Tensor, **_: Any) -> Tensor:
        caught.update(logits=logits, lengths=logit_lengths)
        return logits.new_zeros(())

    before = model.__dict__.get("_loss_function")
    model.loss_function = catch
    try:
        batch = len(next(iter(inputs.values())))
        model(**inputs, labels=torch.zeros(batch, 1, dtype=torch.long, device=model.device))
    finally:
        if before is None:
            del model._loss_function
        else:
            model.loss_function = before
    return caught["logits"].log_softmax(-1, dtype=torch.float32), caught["lengths"]
