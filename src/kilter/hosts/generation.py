"""Step a model for a decoder: one prefill for each prompt, then one forward and one cache reorder for each token.

The only file that touches what transformers keeps private in generation: `_prefill`, `_expand_inputs_for_generation`,
`_update_model_kwargs_for_generation`, `_reorder_cache`, `_setup_cache`, the special tokens on its config, and the
layers of its caches.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, GenerationConfig, GenerationMixin, LogitsProcessorList
from transformers.cache_utils import DynamicLayer
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor
from transformers.generation.stopping_criteria import MaxLengthCriteria, StoppingCriteriaList
from transformers.utils.generic import ModelOutput

from kilter.hosts.wrapped import unwrapped

TESTED = ">=5.21,<5.25"

_ROOM = 64
"""Tokens a cache makes room for at a time, at most; a short one for an eighth of its own."""


@dataclass
class Decoded(ModelOutput):
    """What kilter's decoders return with `return_dict_in_generate=True`; the rows of one input follow each other.

    Attributes:
        sequences: token ids `(N·R, T)`, after the prompt where the model is decoder-only.
        sequences_scores: `(N·R,)`, what the rows are ranked by.
        sequences_log_probs: `(N·R,)`, Σ log p of the new tokens as the model gives it, end of sequence included.
        group_indices: `(N·R,)`, the group of each row, from 0.
        ranker_scores: `(N·R,)`, what the scorer said; reranked decoding only.
    """

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
    sequences_log_probs: Tensor | None = None
    group_indices: Tensor | None = None
    ranker_scores: Tensor | None = None


class PromptLayer(DynamicLayer):
    """Keys and values `(rows, heads, tokens, width)` of prompts and of what follows them, in one buffer.

    A token is written in place, where `DynamicLayer` copies all that came before. Rows of one prompt share it, so a
    reorder among them moves only what follows the prompt.
    """

    def __init__(self, layer: Any, parents: Tensor, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
        self._prompt = layer.keys.shape[-2]
        self._hold(layer.keys, layer.values, parents)

    def _hold(self, keys: Tensor, values: Tensor, parents: Tensor) -> None:
        length = keys.shape[-2]
        self._buffers = []
        for states in (keys, values):
            room = max(1, min(_ROOM, 1 + length // 8, self._limit - length))
            buffer = states.new_empty(len(parents), states.shape[1], length + room, states.shape[3])
            buffer[:, :, :length] = states[parents.to(states.device)]
            self._buffers.append(buffer)
        self._show(length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:, :, :length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens."""
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if stop > self._buffers[0].shape[-2]:
            self._hold(*self._show(start), torch.arange(len(key_states)))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:stop] = states
        return self._show(stop)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i goes on from row `beam_idx[i]`, which has the same prompt unless the number of rows changes."""
        states = self._show(self.get_seq_length())
        if len(beam_idx) != len(states[0]):
            return self._hold(*states, beam_idx)
        for state in states:
            follows = state[:, :, self._prompt :]
            follows.copy_(follows[beam_idx.to(state.device)])


class Continuations:
    """N prompts and of each the same number of continuations, all extended by a token at a time.

    Made of what `generate` gives a callable: it has copied each prompt `max(num_beams, num_return_sequences)` times,
    and has computed nothing yet but an encoder's states. The copies are undone.
    """

    def __init__(
        self, model: Any, input_ids: Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any]
    ) -> None:
        self.model, self.config = unwrapped(model), generation_config
        copies = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
        own = (
            type(self.model)._expand_inputs_for_generation is not vars(GenerationMixin)["_expand_inputs_for_generation"]
        )
        self._copies = copies if own else 1  # a model that copies in its own way is prefilled with its copies
        self.prompts = input_ids[::copies].contiguous()
        self._rows = self._copies
        self._ids = input_ids if own else self.prompts
        self._kwargs = model_kwargs if own else self._fewer(model_kwargs, input_ids, copies)
        self._check()
        _, cache = self._cache()
        keys = getattr(next(iter(getattr(cache, "layers", ())), None), "keys", None)
        if copies > 1 and not own and keys is not None and len(keys) == len(input_ids):
            cache.reorder_cache(torch.arange(0, len(input_ids), copies))  # a user's, copied as beam search wants it

    def _check(self) -> None:
        mask = None if self.model.config.is_encoder_decoder else self._kwargs.get("attention_mask")
        if not self.prompts.shape[1] and self._kwargs.get("inputs_embeds") is None:
            raise ValueError("input_ids: the prompts are empty; give each at least one token, such as bos_token_id")
        if mask is not None and mask.ndim == 2 and (empty := (mask.sum(-1) == 0).nonzero()).numel():
            raise ValueError(
                f"input_ids: prompt {int(empty[0]) // self._copies} is empty (all padding); leave it out or give it a "
                "token"
            )
        positions = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        length, most = self.prompts.shape[1], self.config.max_length
        if not isinstance(positions, int):
            return
        if length > positions:
            raise ValueError(
                f"input_ids: the prompt has {length} tokens, but {type(self.model).__name__} has positions for "
                f"{positions}; shorten it (truncation_side='left' keeps its end)"
            )
        if most - 1 > positions and _learnt_positions(self.model, positions):  # the last token is not read
            raise ValueError(
                f"max_new_tokens={most - length}: with a prompt of {length} tokens that is more than the {positions} "
                f"positions of {type(self.model).__name__}; ask for at most {positions + 1 - length}"
            )

    def contents(self, inputs: Tensor | None) -> list[Tensor]:
        """What tells the N inputs apart: an encoder's inputs or the prompt, without padding."""
        inputs = self.prompts if inputs is None else inputs
        mask = self._kwargs.get("attention_mask")
        mask = None if mask is None else mask[:: self._copies]
        if mask is None or mask.shape != inputs.shape:
            return list(inputs)
        return [row[here.bool()] for row, here in zip(inputs, mask, strict=True)]

    def prefill(self) -> Tensor:
        """Run the prompts; the logits of what comes next, `(N, V)`."""
        outputs = self.model._prefill(self._ids, self.config, self._kwargs, is_first_iteration=True)
        self._update(outputs)
        return self._logits(outputs)[:: self._copies]

    def step(self, sequences: Tensor) -> Tensor:
        """Run the last tokens of `sequences (rows, t)`; the logits of what comes next, `(rows, V)`."""
        length = 1 if self._cache()[1] is not None else None
        given = self.model.prepare_inputs_for_generation(sequences, next_sequence_length=length, **self._kwargs)
        outputs = self.model(**given, return_dict=True)
        self._update(outputs)
        return self._logits(outputs)

    def spread(self, rows: int) -> None:
        """Go on with `rows` continuations of each prompt, all alike so far."""
        first = torch.arange(len(self.prompts), device=self.prompts.device) * self._rows
        self.select(first.repeat_interleave(rows))

    def select(self, parents: Tensor) -> None:
        """Row i goes on from row `parents[i]`.

        Rows of one prompt follow each other. As many rows as before, or as many as the decoder wants of each prompt:
        then everything that is kept for a row is copied.
        """
        changed = len(parents) != self._rows * len(self.prompts)
        if changed:
            rows = len(parents) // len(self.prompts)
            ids = self.prompts.repeat_interleave(self._rows, 0)
            fewer = self._fewer(self._kwargs, ids, self._rows)
            _, self._kwargs = self.model._expand_inputs_for_generation(
                expand_size=rows,
                is_encoder_decoder=self.model.config.is_encoder_decoder,
                input_ids=self.prompts,
                **fewer,
            )
            self._rows = rows
        self._reorder(parents, changed)

    def _logits(self, outputs: ModelOutput) -> Tensor:
        return outputs.logits[:, -1].to(self.prompts.device, torch.float32)  # type: ignore[attr-defined]

    def _update(self, outputs: ModelOutput) -> None:
        self._kwargs = self.model._update_model_kwargs_for_generation(
            outputs, self._kwargs, is_encoder_decoder=self.model.config.is_encoder_decoder
        )

    def _cache(self) -> tuple[str, Any]:
        names = ("cache", "past_key_values", "cache_params")  # "cache" from transformers 5.24 on
        return next(
            ((name, self._kwargs[name]) for name in names if self._kwargs.get(name) is not None), (names[0], None)
        )

    def _reorder(self, parents: Tensor, changed: bool) -> None:
        name, cache = self._cache()
        own = hasattr(self.model, "_setup_cache") or (cache is None and getattr(self.model, "_is_stateful", False))
        if own and self._kwargs.get("use_cache"):
            raise ValueError(
                f"{type(self.model).__name__} keeps its state where no beam can move it: set use_cache=False"
            )
        if cache is None:
            return
        if hasattr(self.model, "_reorder_cache"):
            self._kwargs[name] = self.model._reorder_cache(cache, parents)
        elif isinstance(cache, EncoderDecoderCache):
            _move(cache.self_attention_cache, parents, self.config.max_length - 1)
            if changed:  # what beams of one prompt attend to is the same
                _move(cache.cross_attention_cache, parents, 0)
        elif hasattr(cache, "reorder_cache"):
            _move(cache, parents, self.config.max_length - 1)
        else:
            raise ValueError(f"{type(cache).__name__} of {type(self.model).__name__} has no order: set use_cache=False")

    def _fewer(self, kwargs: Mapping[str, Any], ids: Tensor, copies: int) -> dict[str, Any]:
        """Undo `_expand_inputs_for_generation`: of `copies` equal rows that follow each other, keep the first."""
        fewer = {}
        for name, value in kwargs.items():
            if isinstance(value, Tensor):
                by_rows = value[:, ::copies] if name == "position_ids" and value.ndim == 3 else value[::copies]
                fewer[name] = by_rows.contiguous()
            elif name == "encoder_outputs" and isinstance(value, Mapping):
                fewer[name] = type(value)(**self._fewer(value, ids, copies))
            elif name == "mm_encoder_outputs" and value:
                fewer[name] = {kind: self._fewer_images(kind, found, ids, copies) for kind, found in value.items()}
            else:
                fewer[name] = value
        return fewer

    def _fewer_images(self, kind: str, outputs: Any, ids: Tensor, copies: int) -> Any:
        """Of the encoded images, those of the first of `copies` equal rows; a row has as many as placeholders say."""
        if outputs is None or getattr(outputs, "pooler_output", None) is None:
            return outputs
        places = (ids == getattr(self.model.config, f"{kind}_token_id")).sum(-1).cumsum(0)
        ends = torch.tensor([len(image) for image in outputs.pooler_output], device=ids.device).cumsum(0)
        kept = (torch.searchsorted(places, ends) % copies == 0).nonzero()[:, 0].tolist()
        fewer = copy(outputs)
        images = [outputs.pooler_output[i] for i in kept]
        fewer.pooler_output = torch.stack(images) if isinstance(outputs.pooler_output, Tensor) else images
        deep = getattr(outputs, "deepstack_features", None)
        if deep is not None and isinstance(deep[0][0], Tensor):
            fewer.deepstack_features = [[features[i] for i in kept] for features in deep]
        return fewer


def _learnt_positions(model: Any, positions: int) -> bool:
    """Whether the model looks its positions up in a table, which then has an end."""
    return any(
        isinstance(module, nn.Embedding) and ("position" in name or name.endswith("wpe"))
        for name, module in model.named_modules()
        if getattr(module, "num_embeddings", None) in (positions, positions + 2)
    )


def _move(cache: Any, parents: Any, limit: int) -> None:
    """Reorder a cache; layers that only grow are exchanged for ones that need not copy their prompt."""
    for index, layer in enumerate(cache.layers):
        grows = type(layer) is DynamicLayer and not getattr(cache, "offloading", False)
        if grows and layer.get_seq_length():
            cache.layers[index] = PromptLayer(layer, parents, limit)
        else:
            layer.reorder_cache(parents)


def without_condition(model: Any, inputs: int, generation_config: GenerationConfig) -> tuple[Tensor, dict[str, Any]]:
    """The prompts `(inputs, 1)` and model arguments with which a model says what it would say to nothing."""
    model = unwrapped(model)
    if not hasattr(model, "generation_config"):
        raise TypeError(f"unconditional: {type(model).__name__} is not a model of transformers that generates")
    config, device = model.generation_config, model.device
    end = generation_config.eos_token_id if config.eos_token_id is None else config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    seq2seq = model.config.is_encoder_decoder
    if seq2seq and model.main_input_name != "input_ids":
        raise ValueError(
            f"{type(model).__name__} reads no text, so there is no empty one to give it: give MMIBeamSearch a language "
            "model of the same vocabulary as unconditional"
        )
    asked = generation_config if config.eos_token_id == generation_config.eos_token_id else config
    first = asked.decoder_start_token_id if seq2seq else asked.bos_token_id
    first = (config.decoder_start_token_id if seq2seq else config.bos_token_id) if first is None else first
    first = end if first is None else first
    if first is None or (seq2seq and end is None):
        raise ValueError(
            f"{type(model).__name__} has no token to start from without a condition: set bos_token_id or eos_token_id "
            "on its generation_config, or give MMIBeamSearch another model as unconditional"
        )
    kwargs: dict[str, Any] = {"use_cache": generation_config.use_cache}
    if seq2seq:
        nothing = torch.full((inputs, 1), end, device=device)
        kwargs["encoder_outputs"] = model.get_encoder()(nothing, return_dict=True)
        kwargs["attention_mask"] = torch.ones_like(nothing)
    return torch.full((inputs, 1), first, device=device), kwargs


def for_rows(processors: LogitsProcessorList, rows: int) -> LogitsProcessorList:
    """The processors, told that each prompt has `rows` rows; `generate` has told them `num_beams`."""
    told = LogitsProcessorList()
    for processor in processors:
        if isinstance(processor, PrefixConstrainedLogitsProcessor):
            processor = copy(processor)
            processor._num_beams = rows
        told.append(processor)
    return told


def criteria_and_length(criteria: Any, generation_config: GenerationConfig, start: int) -> tuple[Any, int]:
    """What ends a sequence beside its length, and the length, of which `start` is the prompt's."""
    by_length = [criterion for criterion in criteria if isinstance(criterion, MaxLengthCriteria)]
    others = StoppingCriteriaList([criterion for criterion in criteria if criterion not in by_length])
    limit = min([criterion.max_length for criterion in by_length] or [generation_config.max_length])
    return others, max(limit, start + 1)


def end_and_pad(generation_config: GenerationConfig) -> tuple[Tensor | None, int]:
    """Ids that end a sequence `(E,)`, and the id that fills what is behind the end."""
    end, pad = generation_config._eos_token_tensor, generation_config._pad_token_tensor
    return end, int(pad) if pad is not None else int(end[0]) if end is not None else 0
