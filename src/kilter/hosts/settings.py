"""Generate with what is asked, whatever settings came with a model: of these only the tokens are the model's own."""

from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from kilter.hosts.wrapped import unwrapped

_FORBIDDEN = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
"""Tokens that a model has an output for and must not write, such as padding."""


def generate_as_asked(model: Any, *, tokenizer: Any = None, **asked: Any) -> Any:
    """`model.generate(**asked)`, as if the model came without settings; its `generation_config` is left as it is.

    Args:
        model: a model of transformers that generates, perhaps wrapped; what has no settings is called as it is.
        tokenizer: if given, nothing is written that it has no entry for (padded vocabularies).
        asked: of `generate`.
    """
    model = unwrapped(model)
    own = getattr(model, "generation_config", None)
    if own is None:
        return model.generate(**asked)
    if tokenizer is not None and (silent := unwritable(model, tokenizer)):
        asked["suppress_tokens"] = [*(asked.get("suppress_tokens") or own.suppress_tokens or ()), *silent]
    model.generation_config = own_tokens(own, stateful=getattr(model, "_is_stateful", False))
    try:
        return model.generate(**asked)
    finally:
        model.generation_config = own


def own_tokens(settings: GenerationConfig, *, stateful: bool = False) -> GenerationConfig:
    """Of generation settings those that say which tokens a model has; all others, also ones yet unknown, are unset.

    Args:
        settings: that came with the model.
        stateful: keep too whether there is a cache, for a model whose state no beam can move.

    Example:
        >>> found = own_tokens(GenerationConfig(eos_token_id=2, top_h=0.1, num_beams=4))
        >>> found.eos_token_id, found.top_h, found.num_beams
        (2, None, None)
    """
    kept = {
        name: value
        for name, value in vars(settings).items()
        if name.endswith("_token_id") or name in _FORBIDDEN or (stateful and name == "use_cache")
    }
    return GenerationConfig(**kept)


def unwritable(model: Any, tokenizer: Any) -> Sequence[int]:
    """Ids that the model has an output for and the tokenizer no entry."""
    head = model.get_output_embeddings()
    outputs = len(head.weight) if head is not None else model.config.get_text_config(decoder=True).vocab_size
    return sorted({*range(outputs)} - {*tokenizer.get_vocab().values()})
