"""A language model's own continuations of many prefixes, in batches, kept in a file that a killed run goes on with.

Source: RankGen (Krishna et al., 2022), §2.2: one continuation a prefix by nucleus sampling (p = 0.9), of varied
length. The departure: each is whole sentences and no shorter than a true one can be, so that its shape tells little;
what the model cannot bring to an end in a few tries is left out.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from kilter.data.passages import cut
from kilter.hosts.settings import generate_as_asked
from kilter.lab.kept import KeptRows
from kilter.models.devices import out_of_memory

_TRIES = 4


@dataclass(frozen=True)
class Writing:
    """How continuations are drawn: `words` from shortest to longest, a length of its own for each prefix."""

    words: tuple[int, int] = (10, 48)
    top_p: float = 0.9
    temperature: float = 1.0
    batch_size: int = 32
    tokens_per_word: float = 1.5
    seed: int = 0
    whole: bool = True
    """end at a sentence; a model that makes none, as a random one, is cut anywhere"""


def write_continuations(
    load: Callable[[], tuple[Any, Any]],
    prefixes: Mapping[str, str],
    file: Path,
    *,
    writing: Writing | None = None,
    name: str = "",
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Continue every prefix, unless `file` holds it already.

    A killed run loses at most one batch: it goes on where it stopped and ends with the same texts. The settings are
    kept beside the file. The random state outside is left as it is.

    Args:
        load: Gives any causal model of transformers and its tokenizer; called if something is left to write.
        prefixes: Text by id.
        file: JSON lines of `id` and `text`.
        writing: Length, sampling and seed.
        name: Of the model; a file that another model wrote is refused.
        advance: Called with how many are done, of how many.

    Returns:
        Texts by id; a prefix after which the model came to no end is left out.

    Raises:
        ValueError: The file was made with other settings or prefixes (see `KeptRows`); a prefix is empty or has, with
            its continuation, too many tokens for the model; a batch does not fit into memory.
    """
    writing = writing or Writing()
    kept = KeptRows(file, {"model": name, **asdict(writing)})
    for key, row in kept.rows.items():
        if key in prefixes and row["of"] != _mark(prefixes[key]):
            raise ValueError(f"{file}: {key!r} continues another prefix there than now; remove the file")
    order = sorted(prefixes, key=lambda key: (_length(key, writing), key))
    size = writing.batch_size
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        if missing := [key for key in batch if key not in kept.rows]:
            try:
                texts = _write_batch(*load(), {key: prefixes[key] for key in batch}, writing)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise ValueError(  # what is drawn depends on the batch, so that it cannot be halved
                    f"prefixes {batch[0]!r} and {len(batch) - 1} more: do not fit into memory together; free some, "
                    "shorten the prefixes (prefix_words), or choose a smaller model; what was written is kept"
                ) from error
            kept.add({"id": key, "of": _mark(prefixes[key]), "text": texts[key]} for key in missing)
        advance(min(start + size, len(order)), len(order))
    return {key: text for key in prefixes if (text := kept.rows[key]["text"])}


def _length(key: str, writing: Writing) -> int:
    return random.Random(f"{writing.seed} {key}").randint(*writing.words)


def _write_batch(model: Any, tokenizer: Any, prefixes: Mapping[str, str], writing: Writing) -> dict[str, str]:
    keys = list(prefixes)
    if empty := [key for key in keys if not prefixes[key].strip()]:
        raise ValueError(f"prefix {empty[0]!r} is empty; leave it out")
    longest = max(_length(key, writing) for key in keys)
    new = 16 + round(writing.tokens_per_word * longest)
    ids = {key: tokenizer(prefixes[key].strip())["input_ids"] for key in keys}
    width = max(map(len, ids.values()))
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and width + new > limit:
        raise ValueError(
            f"prefix {max(keys, key=lambda key: len(ids[key]))!r} has {width} tokens, which with {new} new ones "
            f"exceeds the model's {limit} positions; use shorter prefixes (prefix_words) or continuations"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    texts = dict.fromkeys(keys, "")
    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    for attempt in range(_TRIES):
        left = [key for key in keys if not texts[key]]
        if not left:
            break
        rows = torch.tensor([[pad] * (width - len(ids[key])) + ids[key] for key in left], device=model.device)
        mask = torch.tensor([[0] * (width - len(ids[key])) + [1] * len(ids[key]) for key in left], device=model.device)
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(int(_mark(f"{writing.seed} {attempt} {keys}"), 16))
            written = generate_as_asked(
                model,
                tokenizer=tokenizer,
                input_ids=rows,
                attention_mask=mask,
                do_sample=True,
                top_p=writing.top_p,
                top_k=0,
                temperature=writing.temperature,
                min_new_tokens=writing.words[0],
                max_new_tokens=new,
                pad_token_id=pad,
            )
        for key, text in zip(left, tokenizer.batch_decode(written[:, width:], skip_special_tokens=True), strict=True):
            words = _length(key, writing)
            whole = cut(text, writing.words[0], words, writing.words[1])
            texts[key] = whole if writing.whole else " ".join(text.split()[:words])
    return texts


def _mark(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
