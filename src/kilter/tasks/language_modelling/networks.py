"""The models of the task: a small Llama that reads bytes and needs no files, or the user's own; loaded, and saved."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kilter.lab.files import full_disk_said

_BYTES = 3
"""Marks that stand before the bytes in ByT5's vocabulary: padding, end and unknown."""


_SPREAD, _WIDTH = 0.02, 768
"""Of weights at the start, and of which width that is the usual one: narrow networks need more, or attend too late."""


class Network(NamedTuple):
    """A causal model and the tokenizer that belongs to it."""

    model: Any
    tokenizer: Any


def fresh(name: str | None, seed: int, device: str, **sizes: int) -> Network:
    """A model before any training here.

    Args:
        name: folder or hub id; None for the small one.
        seed: of its weights, if they are made here.
        device: cpu, cuda or mps.
        sizes: of the small one: `width`, `layers`, `heads` and `positions`.

    Raises:
        ValueError: it is no causal model, or not whole.
    """
    if name is None:
        return Network(small_llama(seed, **sizes).to(device), byte_tokenizer())
    from kilter.models.text_model import TextModel

    found = TextModel.load(name, device=device)
    if found.encoder_decoder:
        raise ValueError(f"model: {name} is an encoder–decoder model; give a causal one")
    return Network(found.model.float(), found.tokenizer)


def byte_tokenizer() -> Any:
    """The tokenizer of ByT5, in which a token is a byte; it needs no files.

    Example:
        >>> byte_tokenizer()("ab")["input_ids"]
        [100, 101, 1]
    """
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer(extra_ids=0)


def small_llama(seed: int, *, width: int, layers: int, heads: int, positions: int) -> Any:
    """A Llama of bytes with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    marks: Any = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_BYTES + 256,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=3 * width,
            max_position_embeddings=positions,
            initializer_range=_SPREAD * (_WIDTH / width) ** 0.5,
            **marks,
        )
    )


def stream(tokenizer: Any, texts: Iterable[str]) -> Tensor:
    """The tokens of texts one after the other, each with the mark of the end behind it.

    Example:
        >>> stream(byte_tokenizer(), ["ab", "c"]).tolist()
        [100, 101, 1, 102, 1]
    """
    from transformers import ByT5Tokenizer

    if isinstance(tokenizer, ByT5Tokenizer):  # whose own loop over the bytes takes minutes of megabytes
        whole = b"".join(text.encode("utf-8", "replace") + b"\0" for text in texts)
        if not whole:
            return torch.empty(0, dtype=torch.long)
        found = torch.frombuffer(bytearray(whole), dtype=torch.uint8).long() + _BYTES
        return found.masked_fill(found == _BYTES, int(tokenizer.eos_token_id))  # type: ignore[arg-type]
    end, some = tokenizer.eos_token_id, [*texts]
    if not some:  # fast tokenizers refuse an empty list
        return torch.empty(0, dtype=torch.long)
    rows = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for row in rows for token in (*row, *([] if end is None else [end]))], dtype=torch.long)


def save(network: Network, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save whole or not at all, as transformers has it; `describe` writes the card into the folder."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        network.model.save_pretrained(part)
        network.tokenizer.save_pretrained(part)
        describe(part)
    part.replace(folder)


def load(folder: Path, device: str, *, attached: bool) -> Network:
    """A model that an arm left; `attached` says that it has a module of ours in it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kilter.hosts import transformers as host

    found: Any = host.load(folder) if attached else AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return Network(found.to(device).eval(), AutoTokenizer.from_pretrained(folder))
