"""The contract of decoding: settings in the constructor, a search, and a `__call__` that `generate` takes.

transformers reads off the signature of a callable which arguments of `generate` belong to it and not to the model.
"""

import inspect
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar

from torch import Tensor

_HOSTS = ("kilter", "transformers", "torch", "jaxtyping", "beartype")
_MODES = ("greedy_search", "sample", "beam_search", "beam_sample", "group_beam_search")
"""What `generate` may take a call for that a decoder answers; a decoder says itself which of their settings it has."""
_ASKED_BY = {
    "contrastive_search": "penalty_alpha",
    "assisted_generation": "prompt_lookup_num_tokens, assistant_early_exit, use_mtp",
    "dola_generation": "dola_layers",
    "constrained_beam_search": "force_words_ids, constraints",
}
_PLAIN = (str, int, float, bool, tuple, type(None))


@dataclass(frozen=True)
class Request:
    """What `generate` hands to a decoder.

    Attributes:
        model: that writes.
        input_ids: prompts, of each as many copies as beams or returned sequences.
        logits_processor: changes scores of the next tokens.
        stopping_criteria: say which sequences end.
        config: the `GenerationConfig`.
        inputs_tensor: what the model reads, an encoder's inputs or the prompts.
        model_kwargs: what goes to the model.
    """

    model: Any
    input_ids: Tensor
    logits_processor: Any
    stopping_criteria: Any
    config: Any
    inputs_tensor: Tensor | None
    model_kwargs: dict[str, Any]


class Decoder(ABC):
    """Base of every decoder, a valid `custom_generate`; subclasses are final.

    A subclass stores its settings under the names of its constructor's arguments, which is all that `config()` and the
    printed form need, and searches. What `search` asks for by keyword is taken from the arguments of `generate`.

    Example:
        >>> class Shout(Decoder):
        ...     def __init__(self, *, loud: float = 1.0) -> None:
        ...         self.loud = loud
        ...     def search(self, request: Request, *, louder: float | None = None) -> Any:
        ...         return request.input_ids * int(louder or self.loud)
        >>> Shout(loud=2.0), Shout.asks
        (Shout(loud=2.0), ('louder',))
    """

    asks: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments that `generate` is to take for it, read off the signature of `search`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        asked = [one for one in inspect.signature(cls.search).parameters.values() if one.kind is one.KEYWORD_ONLY]
        cls.asks = tuple(one.name for one in asked)
        if asked:
            cls.__call__ = _asking(asked)

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        inputs_tensor: Tensor | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Decode; `generate` calls this."""
        asked = {name: model_kwargs.pop(name) for name in self.asks if name in model_kwargs}
        _check_outputs(generation_config)
        _check_mode(self, generation_config)
        request = Request(
            model, input_ids, logits_processor, stopping_criteria, generation_config, inputs_tensor, model_kwargs
        )
        return self.search(request, **asked)

    @abstractmethod
    def search(self, request: Request) -> Any:
        """What `generate` returns: sequences, or all fields with `return_dict_in_generate`."""

    def config(self) -> dict[str, Any]:
        """Constructor arguments that rebuild this decoder: `type(d)(**d.config())`."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        settings = (f"{name}={_said(value)}" for name, value in self.config().items() if value is not None)
        return f"{type(self).__name__}({', '.join(settings)})"


def warn(text: str) -> None:
    """A warning that points at the caller of `generate`."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _HOSTS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _asking(asked: list[inspect.Parameter]) -> Callable[..., Any]:
    """`Decoder.__call__`, with arguments more in the signature."""

    @wraps(Decoder.__call__)
    def call(self: Decoder, *given: Any, **named: Any) -> Any:
        return Decoder.__call__(self, *given, **named)

    signature = inspect.signature(Decoder.__call__)
    *first, rest = signature.parameters.values()
    call.__signature__ = signature.replace(parameters=[*first, *asked, rest])  # type: ignore[attr-defined]
    return call


def _check_outputs(config: Any) -> None:
    """Say so where something is asked for that is not kept."""
    for name in ("output_attentions", "output_hidden_states", "output_logits"):
        if getattr(config, name, None):
            raise ValueError(
                f"{name}=True: kilter's decoders return no such thing; run the model on the sequences for it"
            )
    if config.output_scores and config.return_dict_in_generate:
        warn(
            "output_scores=True: kilter's decoders keep no scores of each step, and return sequences_scores and "
            "sequences_log_probs without it; leave it out, or run the model on the sequences for scores of each step"
        )


def _check_mode(decoder: Decoder, config: Any) -> None:
    """Say so where another way of decoding is asked for, which would be ignored without a word."""
    mode = str(config.get_generation_mode().value)
    if mode not in _MODES:
        by = f" ({_ASKED_BY[mode]})" if mode in _ASKED_BY else ""
        raise ValueError(
            f"generation_config asks for {mode.replace('_', ' ')}, which {type(decoder).__name__} does not do; leave "
            f"out what asks for it{by}, or custom_generate"
        )


def _said(value: Any) -> str:
    return repr(value) if isinstance(value, _PLAIN) else getattr(value, "__name__", type(value).__name__)
