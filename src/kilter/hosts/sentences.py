"""Models of sentence-transformers as scorers: loaded whole, and given texts that fit, cut where it matters less.

The library cuts every text at its end, and of a pair the longer one. Where a text goes on from a prompt, the end of the
prompt and the beginning of the text are what tells.
"""

import json
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kilter.core.decoder import warn
from kilter.core.errors import extra
from kilter.hosts.loading import check_whole, code_of_others, folder_of, reading
from kilter.hosts.wrapped import unwrapped

_POOLER = ("pooler.",)
_UNBOUNDED = 10**6
"""Token limits from here on are a tokenizer's way to say that it has none."""


def load_sentences(kind: Literal["SentenceTransformer", "CrossEncoder"], name: str | PathLike[str], device: str) -> Any:
    """Load an encoder or a cross-encoder, with all the weights that it uses.

    Raises:
        Unloadable: there is none, it is not whole, or weights are missing.
        ModuleNotFoundError: sentence-transformers, or for a LoRA peft, is not installed.
    """
    library = extra("sentence_transformers")
    from transformers import PreTrainedModel

    with reading(name, f"a {kind} of sentence-transformers"):
        lenient = {"ignore_mismatched_sizes": True}  # and told below, by name
        ours = {"trust_remote_code": True} if _needs_ours_alone(name) else {}
        found: Any = getattr(library, kind)(str(name), device=device, model_kwargs=lenient, **ours)
        place = _transformer(name)
        inner = next((one for one in found.modules() if isinstance(one, PreTrainedModel)), None)
        if inner is not None and place is not None and not hasattr(inner, "peft_config"):
            asked: Any = {"config": inner.config, "device_map": "meta", **lenient}
            names: Any = type(inner).from_pretrained(place, output_loading_info=True, **asked)  # and no numbers
            check_whole(name, inner, names[1], unused=() if kind == "CrossEncoder" else _POOLER)
    return found


def _needs_ours_alone(name: str | PathLike[str]) -> bool:
    """Whether a model in a folder has modules of kilter, and no code of anybody else's would be run to load it."""
    place = folder_of(name)
    if place is None or not (place / "modules.json").is_file():
        return False
    kinds = [one["type"] for one in json.loads((place / "modules.json").read_text(encoding="utf-8"))]
    return any(kind.startswith("kilter.") for kind in kinds) and not code_of_others(place)


def _transformer(name: str | PathLike[str]) -> Path | None:
    """Where the transformers model of it lies."""
    place = folder_of(name)
    if place is None or not (place / "modules.json").is_file():
        return place
    first = json.loads((place / "modules.json").read_text(encoding="utf-8"))[0]
    return place / first["path"]


def encode(
    encoder: Any, texts: Sequence[str], *, batch_size: int = 32, advance: Callable[[float], None] | None = None
) -> Tensor:
    """Vectors `(n, d)` of texts in float32 on the CPU, in the texts' order.

    Args:
        encoder: a `SentenceTransformer`.
        texts: at least one; batches are of texts of like length.
        batch_size: texts at once.
        advance: told how many more are done.
    """
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    pieces = []
    for start in range(0, len(order), 16 * batch_size):
        some = [texts[row] for row in order[start : start + 16 * batch_size]]
        how: Any = {"batch_size": batch_size, "show_progress_bar": False, "convert_to_tensor": True}
        pieces.append(encoder.encode(some, **how).float().cpu())
        if advance is not None:
            advance(len(some))
    found = torch.empty(len(texts), pieces[0].shape[1])
    found[order] = torch.cat(pieces)
    return found


def ends_in_normalize(name: str | PathLike[str]) -> bool:
    """Whether a model of sentence-transformers, by its folder or hub id, brings its vectors to length 1 at its end."""
    place = folder_of(name)
    if place is None or not (file := place / "modules.json").is_file():
        return False
    return json.loads(file.read_text(encoding="utf-8"))[-1]["type"].endswith(".Normalize")


def pair_scores(scorer: Any, prefixes: Sequence[str], continuations: Sequence[str]) -> Any:
    """What a cross-encoder, or another scorer with its `predict`, says of pairs, cut to fit; see `fitting_pairs`.

    A cross-encoder's sigmoid is taken in double precision: in single, scores near 1 are all the same.
    """
    pairs, model = fitting_pairs(scorer, prefixes, continuations), unwrapped(scorer)
    if not _is_cross_encoder(model):
        return scorer.predict(pairs)
    return model.predict(
        pairs, activation_fn=lambda logits: model.activation_fn(logits.cpu().double()), convert_to_tensor=True
    )


def fitting_pairs(scorer: Any, prefixes: Sequence[str], continuations: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs as a cross-encoder should read them: a prefix that is too long loses its beginning, with a warning.

    A continuation of more than half of what the model holds loses its end too, if its prefix needs the room. Any other
    scorer gets its pairs as they are.
    """
    pairs = list(zip(prefixes, continuations, strict=True))
    model, limit = unwrapped(scorer), _limit(scorer)
    if limit is None or not pairs or not all(isinstance(text, str) for pair in pairs for text in pair):
        return pairs
    tokenizer = model.tokenizer
    room = limit - _frame(model, tokenizer)
    lengths = {text: _length(tokenizer, text) for text in dict.fromkeys([*prefixes, *continuations])}
    if room < 2 or all(lengths[a] + lengths[b] <= room for a, b in pairs):
        return pairs
    warn(
        f"there are prompts that do not fit the cross-encoder, which holds {limit} tokens with the text after them: of "
        "these it reads the end, which stands next to the text"
    )
    fitted = []
    for prefix, continuation in pairs:
        after = min(lengths[continuation], max(room // 2, room - lengths[prefix]))
        before = min(lengths[prefix], room - after)
        fitted.append(
            (
                cut_text(tokenizer, prefix, before, keep="end"),
                cut_text(tokenizer, continuation, after, keep="beginning"),
            )
        )
    return fitted


def cut_text(tokenizer: Any, text: str, most: int, *, keep: Literal["beginning", "end"]) -> str:
    """The end of a text, or its beginning, of at most `most` tokens, special ones not counted; whole words if it can.

    Example:
        >>> from transformers import BertTokenizer
        >>> words = BertTokenizer(vocab={word: i for i, word in enumerate("[PAD] [UNK] a dark night fell".split())})
        >>> cut_text(words, "a dark night fell", 2, keep="end"), cut_text(words, "a dark night", 2, keep="beginning")
        ('night fell', 'a dark')
    """
    if _length(tokenizer, text) <= most:
        return text
    for count in range(most, 0, -1):  # what is cut may make more tokens than it was
        cut = _part(tokenizer, text, count, keep)
        if _length(tokenizer, cut) <= most:
            return cut
    return ""


def _part(tokenizer: Any, text: str, count: int, keep: str) -> str:
    side = slice(-count, None) if keep == "end" else slice(count)
    if not tokenizer.is_fast:
        return tokenizer.decode(_ids(tokenizer, text)["input_ids"][side], skip_special_tokens=True)
    spans = _ids(tokenizer, text, return_offsets_mapping=True)["offset_mapping"][side]
    if keep == "beginning":
        stop = spans[-1][1]
        words = text[:stop].rsplit(None, 1)
        return words[0] if len(words) == 2 and not text[stop : stop + 1].isspace() else text[:stop]
    start = spans[0][0]
    cut = text[start:]
    inside = start > 0 and not text[start - 1].isspace() and not cut[:1].isspace()
    rest = cut.split(None, 1)[1:] if inside else []
    return rest[0] if rest else cut


def _ids(tokenizer: Any, text: str, **more: Any) -> Any:
    return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False, **more)


def _length(tokenizer: Any, text: str) -> int:
    return len(_ids(tokenizer, text)["input_ids"])


def _limit(scorer: Any) -> int | None:
    """Tokens that a cross-encoder reads; None of anything else, or where there is no limit."""
    model = unwrapped(scorer)
    if not _is_cross_encoder(model):
        return None
    limit = model.max_seq_length if hasattr(model, "max_seq_length") else model.max_length  # the newer name first
    return limit if limit and limit < _UNBOUNDED else None


def _is_cross_encoder(model: Any) -> bool:
    library = sys.modules.get("sentence_transformers")
    return library is not None and isinstance(model, library.CrossEncoder)


def _frame(model: Any, tokenizer: Any) -> int:
    """Tokens of an input beside the pair: special ones, a chat template, the prompt that the model has for all."""
    pair = ("a", "a")
    if not hasattr(model, "preprocess"):
        return tokenizer.num_special_tokens_to_add(pair=True)
    prompt = (getattr(model, "prompts", None) or {}).get(getattr(model, "default_prompt_name", None))
    whole = model.preprocess([pair], prompt=prompt)["input_ids"].numel()
    return whole - sum(_length(tokenizer, text) for text in pair)
