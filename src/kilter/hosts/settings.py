"""Generate with what is asked, whatever settings came with a model: of these only the tokens are the model's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import GenerationConfig

from kilter.hosts.loading import Unloadable
from kilter.hosts.weight_files import fault_in
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


def loadable_settings(folder: Path | None) -> dict[str, Any]:
    """What `from_pretrained` needs where the host refuses a model for its settings: their tokens alone.

    Raises:
        Unloadable: the file is no JSON object, which the host would pass over, or a token in it no number.
    """
    if folder is None or not (file := folder / "generation_config.json").is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise Unloadable(fault_in(folder) or f"{file}: no JSON; fetch the file again") from error
    if not isinstance(found, dict):
        raise Unloadable(f"{file}: no JSON object; fetch the file again")
    for name, value in found.items():
        ids = value if isinstance(value, list) else [0 if value is None else value]
        if name.endswith("_token_id") and not all(isinstance(one, int) for one in ids):
            raise Unloadable(f"{file}: {name} is {value!r}, which is no token's number; fetch the file again")
    try:
        GenerationConfig.from_pretrained(folder)
    except (ValueError, TypeError, AttributeError, KeyError):  # as each setting is checked
        return {"generation_config": own_tokens(SimpleNamespace(**found))}
    return {}


def own_tokens(settings: GenerationConfig | SimpleNamespace, *, stateful: bool = False) -> GenerationConfig:
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
