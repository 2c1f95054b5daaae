"""Beam search for mutual information (MMI-antiLM): log p(y|x) − λ·log U(y), against answers that fit any question.

Li, Galley, Brockett, Gao & Dolan, "A Diversity-Promoting Objective Function for Neural Conversation Models", 2016. A
rival of Diverse Beam Search. Departure: the whole answer is weighed; the paper weighs its first tokens only.
"""

from copy import copy
from typing import Any

import torch
from torch import Tensor

from kilter.core.checks import at_least
from kilter.core.decoder import Decoder, Request
from kilter.decoding.beam_search import check_no_groups, decode

_LEAST = -100.0
"""log U of what the prior rules out, so that it is no infinite gain."""


class MMIBeamSearch(Decoder):
    """Beam search that takes off what a model without the condition would say anyway.

    A valid `custom_generate`. Costs a second forward for each step.

    Args:
        weight: λ; 0 is beam search.
        unconditional: a causal language model with the same vocabulary that gives U; by default the model itself
            without its condition: a decoder-only one from its first token, an encoder–decoder given an empty source.

    Raises:
        ValueError: `weight` is negative; the vocabularies differ; or there is no token to start from.

    Example:
        >>> MMIBeamSearch(weight=0.3).weight
        0.3
    """

    def __init__(self, *, weight: float, unconditional: Any | None = None) -> None:
        at_least("weight", weight, 0)
        self.weight, self.unconditional = weight, unconditional

    def search(self, request: Request) -> Any:
        """Search; see the class."""
        check_no_groups(self, request.config)
        other = request.model if self.unconditional is None else self.unconditional
        prior = _Prior(other, request.input_ids, request.config)

        def less(log_probs: Tensor, ids: Tensor, parents: Tensor | None, count: int) -> Tensor:
            return log_probs - self.weight * prior(ids, parents, log_probs).clamp_min(_LEAST)

        return decode(self, request, rescore=less if self.weight else None)


class _Prior:
    """log U of the next token, stepped beside the search."""

    def __init__(self, model: Any, input_ids: Tensor, generation_config: Any) -> None:
        from kilter.hosts.generation import Continuations, without_condition

        config = copy(generation_config)
        copies, config.num_beams, config.num_return_sequences = config.num_beams, 1, 1
        self.start, kwargs = without_condition(model, len(input_ids) // copies, config)
        self.session, self.prompt = Continuations(model, self.start, config, kwargs), input_ids.shape[1]

    def __call__(self, ids: Tensor, parents: Tensor | None, like: Tensor) -> Tensor:
        if parents is None:
            logits = self.session.prefill()[:, None].expand(-1, like.shape[1], -1)
            self.session.spread(like.shape[1])
        else:
            self.session.select(parents)
            start = self.start.repeat_interleave(like.shape[1], 0)
            logits = self.session.step(torch.cat([start, ids[:, self.prompt :]], 1))
        if logits.shape[-1] != like.shape[-1]:
            raise ValueError(
                f"unconditional: its vocabulary has {logits.shape[-1]} tokens, the model's {like.shape[-1]}; "
                "it must be a model of the same tokenizer"
            )
        return logits.log_softmax(-1).reshape(like.shape)
