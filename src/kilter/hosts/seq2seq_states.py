"""What a stock encoder–decoder of transformers knows of a batch of pairs: its states, and how they become logits.

States of the decoder are what enters `get_output_embeddings()`, so T5's are the rescaled ones.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from kilter.hosts.wrapped import unwrapped


@dataclass(frozen=True)
class OutputLayer:
    """From states of the decoder to logits, as the model does it: called with states of any leading shape.

    Attributes:
        layer: what `get_output_embeddings()` gives.
        final_bias: the `final_logits_bias` that BART's kin add to what the layer gives, if the model has one.
        logits: those the model made of its own states in this pass, so that nobody computes them again.
        autocast: the type that autocast computed them in, if it was on; a hook on the model runs outside of it.
    """

    layer: nn.Module
    final_bias: Float[Tensor, "1 vocab"] | None
    logits: Float[Tensor, "batch tokens vocab"]
    autocast: torch.dtype | None

    @property
    def weight(self) -> Float[Tensor, "vocab dim"]:
        """Matrix of the layer."""
        return self.layer.weight  # type: ignore[return-value]

    @property
    def matrix(self) -> Float[Tensor, "vocab dim"] | None:
        """The same, if all there is to the logits is this matrix and `bias`; None of an adapter's layer."""
        return self.weight if type(self.layer) is nn.Linear else None

    @property
    def bias(self) -> Float[Tensor, " vocab"] | None:
        """What is added to the product with `matrix`."""
        found = [one for one in (getattr(self.layer, "bias", None), self.final_bias) if isinstance(one, Tensor)]
        return sum(one.flatten().to(self.weight.device) for one in found) if found else None  # type: ignore[return-value]

    def __call__(self, states: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead vocab"]:
        """Logits of any states, which need not have the type of the layer."""
        states = states.to(self.weight.dtype)
        with torch.autocast(states.device.type, self.autocast, enabled=self.autocast is not None):
            if type(self.layer) is nn.Linear:  # not called, so that hooks on it see the model's own states only
                made = F.linear(states, self.weight, self.layer.bias)
            else:  # an adapter's has more than its matrix
                made = self.layer(states)
        return made if self.final_bias is None else made + self.final_bias.to(made.device)


class OutputStates(NamedTuple):
    """A pass over a batch.

    Attributes:
        output: what the model returned, the loss among it if there were labels.
        source_states: the encoder's last.
        source_mask: True at tokens of the source; None is all.
        target_states: what entered the output layer.
        head: from such states to logits.
    """

    output: ModelOutput
    source_states: Float[Tensor, "batch source dim"]
    source_mask: Bool[Tensor, "batch source"] | None
    target_states: Float[Tensor, "batch tokens dim"]
    head: OutputLayer


class Caught:
    """Remembers what last entered the output layer of a model, until it is taken or dropped."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._states: Tensor | None = None
        self._autocast: torch.dtype | None = None
        self._layer: Any = model.get_output_embeddings()
        self._hook = self._layer.register_forward_pre_hook(self._catch)

    def _catch(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self._states, kind = args[0], args[0].device.type
        self._autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def drop(self) -> None:
        """Forget the states of a pass that nobody asks for."""
        self._states = None

    def remove(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()
        self.drop()

    def take(self, given: Mapping[str, Any], output: Any) -> OutputStates:
        """The states of the pass that has just ended.

        Args:
            given: arguments of the model's forward, by name.
            output: what it returned.
        """
        states, self._states = self._states, None
        name = type(self.model).__name__
        if not isinstance(output, ModelOutput):
            raise ValueError(
                f"return_dict must be True, in the call of the model and in its config: {name} returned a "
                f"{type(output).__name__}, whose entries have no names"
            )
        source = output.get("encoder_last_hidden_state")
        logits = output.get("logits")
        if states is None or source is None or logits is None or states.shape[:2] != logits.shape[:2]:
            raise ValueError(f"model: this pass of {name} shows no states of encoder and decoder with their logits")
        mask = given.get("attention_mask")
        if mask is not None and mask.shape != source.shape[:2]:
            raise ValueError(
                f"attention_mask must be (batch, source) as the states of the encoder {tuple(source.shape[:2])}, got "
                f"{tuple(mask.shape)}"
            )
        head = OutputLayer(self._layer, getattr(self.model, "final_logits_bias", None), logits, self._autocast)
        return OutputStates(output, source, None if mask is None else mask.bool(), states, head)


def seq2seq_model(model: Any) -> PreTrainedModel:
    """The encoder–decoder with an output layer that is inside of what may be wrapped.

    Raises:
        TypeError: it is none: a causal model, an encoder, a model without output layer, or not of transformers.
    """
    inner = unwrapped(model)
    name = type(inner).__name__
    wanted = "model must be an encoder-decoder of transformers with an output layer (T5, BART, Marian, …)"
    if not isinstance(inner, PreTrainedModel):
        raise TypeError(f"{wanted}, got {name}")
    if not inner.config.is_encoder_decoder:
        kind = "a causal model, which has no source" if inner.can_generate() else "no encoder-decoder"
        raise TypeError(f"{wanted}, got {name}, {kind}; load one by AutoModelForSeq2SeqLM")
    layer = inner.get_output_embeddings()
    if layer is None or isinstance(layer, nn.Embedding):
        raise TypeError(f"{wanted}, {name} has no such layer of its own; load it by AutoModelForSeq2SeqLM")
    if getattr(inner.config.get_text_config(decoder=True), "final_logit_softcapping", None):
        raise TypeError(f"{wanted} and no more, {name} caps its logits (final_logit_softcapping)")
    return inner


def arguments(model: nn.Module) -> list[str]:
    """Names of what the model's forward takes, in order."""
    return list(inspect.signature(type(model).forward).parameters)[1:]


def output_states(model: PreTrainedModel | nn.Module, **batch: Any) -> OutputStates:
    """Run an encoder–decoder once, and give back what it returned with the states it went through.

    Args:
        model: T5, BART, Marian or any of their kind; one that is compiled, distributed or wrapped by peft is called as
            it is.
        batch: what its forward takes; the states have a graph if the pass has one.

    Raises:
        TypeError: no encoder–decoder with an output layer, e.g. a causal model.
        ValueError: the pass shows no states, or its mask does not fit them.

    Example:
        >>> import torch
        >>> from transformers import T5Config, T5ForConditionalGeneration
        >>> model = T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=4, d_kv=2, d_ff=4, num_layers=1,
        ...     num_heads=2, decoder_start_token_id=0)).eval()
        >>> pair = {"input_ids": torch.tensor([[5, 6, 1]]), "labels": torch.tensor([[7, 1]])}
        >>> states = output_states(model, **pair)
        >>> states.source_states.shape, states.target_states.shape
        (torch.Size([1, 3, 4]), torch.Size([1, 2, 4]))
        >>> torch.equal(states.head(states.target_states), states.output.logits)
        True
    """
    caught = Caught(seq2seq_model(model))
    try:
        return caught.take(batch, model(**batch | {"return_dict": True}))
    finally:
        caught.remove()
