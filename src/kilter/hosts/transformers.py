"""transformers: an objective beside the CTC loss of any `…ForCTC` model, or the likelihood of an encoder–decoder.

With CTC it uses one public seam, the settable `model.loss_function`, and the callback protocol of the Trainer. Before
5.21 no CTC model but Parakeet's called its `loss_function`, so that is the floor.
"""

import inspect
import math
from collections.abc import Mapping
from os import PathLike
from typing import Any, get_args

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from kilter.core.installed import hint, numbers
from kilter.core.objective import Objective, check_objective
from kilter.hosts.ctc_handle import AlignCTC
from kilter.hosts.ctc_start import Schedule, Start
from kilter.hosts.positions import LogPositionParts
from kilter.hosts.seq2seq_handle import AlignSeq2Seq, align_seq2seq
from kilter.hosts.wrapped import unwrapped

__all__ = [
    "TESTED",
    "AlignCTC",
    "AlignSeq2Seq",
    "FollowEpochs",
    "LogPositionParts",
    "Schedule",
    "Start",
    "align_ctc",
    "align_seq2seq",
    "blank_token",
    "ctc_outputs",
    "load",
]

TESTED = ">=5.21,<5.25"

_LEAST = TESTED.split(",")[0].removeprefix(">=")
if numbers(transformers.__version__) < numbers(_LEAST):
    raise ImportError(
        f"kilter.hosts.transformers needs transformers {_LEAST} or newer, found {transformers.__version__}: "
        f"{hint('speech')}"
    )


def align_ctc(
    model: PreTrainedModel | nn.Module,
    objective: Objective,
    *,
    weight: float,
    start: Start | int | None = None,
    schedule: Schedule = "constant",
    in_eval: bool = False,
    ctc_weight: float = 1.0,
) -> AlignCTC:
    r"""Add `weight · objective` to the loss of a `…ForCTC` model, for the stock Trainer or any loop that calls it.

    $$\mathcal L = c \cdot \mathcal L_{\text{CTC}} + \alpha \cdot \texttt{objective}(\log p, \text{lengths}, \dots)$$

    The objective is given by name what its `forward` asks for (`log_probs`, `input_lengths`, `targets`,
    `target_lengths`, `references`; see `kilter.core.glossary`). It uses the model's own blank, and follows
    `config.ctc_loss_reduction`: with "sum" the term is multiplied by the batch size, with "mean" it is the batch
    mean, and the model is then marked as not scaling its loss for gradient accumulation, which its own code does
    not do (call this before building the Trainer). `input_lengths` are the frames that the model's own CTC loss counts:
    behind adapters and features too, and without an attention mask those of the padding as well, which such a model
    hears. Weight 0 draws nothing and, with
    `ctc_weight` 1, leaves the CTC loss untouched. With `ctc_zero_infinity`, an objective that asks for targets or
    references is not given the utterances whose labels need more frames than there are.

    Args:
        model: a transformers model whose forward calls `self.loss_function(logits=, labels=, logit_lengths=, …)`; of
            one that is compiled, distributed or wrapped by peft, the model inside is changed.
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
    inner = unwrapped(model)
    if not _is_ctc(inner):
        raise TypeError(
            f"model must be a transformers …ForCTC model whose forward calls self.loss_function, got "
            f"{type(inner).__name__}; of a model that another object holds give the inner one"
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
    if isinstance(inner.__dict__.get("_loss_function"), AlignCTC):
        raise ValueError("the model has an objective attached already; call its handle's detach() first")
    return AlignCTC(
        inner,
        _with_blank(objective, blank_token(inner)),
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


def blank_token(model: PreTrainedModel) -> int:
    """The blank of a CTC model: what its settings call so, else the padding."""
    blank = getattr(model.config, "blank_token_id", None)
    return int(model.config.pad_token_id if blank is None else blank)


def load(name: str | PathLike[str], **how: Any) -> PreTrainedModel:
    """A saved model with what kilter attached, which `AutoModel` refuses: experts, or positions.

    See `kilter.embeddings.add_experts` and `kilter.pretraining.attach`. Its tokenizer is loaded as always. Of a
    `SentenceTransformer` it is the encoder inside.

    Args:
        name: folder or hub id.
        how: more for `from_pretrained`, such as `dtype`.

    Raises:
        Unloadable: there is none, it is not whole, or kilter attached nothing to it.
    """
    from kilter.hosts.expert_models import load_encoder
    from kilter.hosts.position_models import load_with_positions, saved_with_positions

    return load_with_positions(name, **how) if saved_with_positions(name) else load_encoder(name, **how)


class FollowEpochs(TrainerCallback):
    """Tells the training data which epoch it is, by its attribute `epoch` (as `TrimTail` has), also after a resume."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first example of the epoch is read."""
        dataset = getattr(kwargs.get("train_dataloader"), "dataset", None)
        if dataset is not None and hasattr(dataset, "epoch"):
            dataset.epoch = int(round(state.epoch or 0.0, 6))


@torch.no_grad()
def ctc_outputs(
    model: PreTrainedModel | nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[Float[Tensor, "batch time vocab"], Int[Tensor, " batch"]]:
    """Log-probabilities `(B, T, V)` and valid frames `(B,)` of any `…ForCTC` model, without labels.

    The lengths come through the same seam as in training, so no model family needs a case of its own. Without a mask
    the model reads all there is, and every frame is valid.
    """
    inner = unwrapped(model)
    if not any(name.endswith("mask") for name in inputs):
        logits = model(**inputs).logits
        lengths = torch.full((len(logits),), logits.shape[1], device=logits.device)
        return logits.log_softmax(-1, dtype=torch.float32), lengths
    caught: dict[str, Tensor] = {}

    def catch(logits: Tensor, logit_lengths: Tensor, **_: Any) -> Tensor:
        caught.update(logits=logits, lengths=logit_lengths)
        return logits.new_zeros(())

    before = inner.__dict__.get("_loss_function")
    inner.loss_function = catch
    try:
        batch = len(next(iter(inputs.values())))
        inner(**inputs, labels=torch.zeros(batch, 1, dtype=torch.long, device=inner.device))
    finally:
        if before is None:
            del inner._loss_function
        else:
            inner.loss_function = before
    return caught["logits"].log_softmax(-1, dtype=torch.float32), caught["lengths"]
