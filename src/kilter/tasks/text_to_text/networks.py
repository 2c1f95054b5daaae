"""The encoder–decoder of an arm: a small one from scratch or the user's, its batches, and its saving."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

from kilter.lab.files import full_disk_said
from kilter.models.small_seq2seq import Pair, PairBatches, only_batch, pair_tokenizer, small_seq2seq
from kilter.models.text_model import TextModel


class Network(NamedTuple):
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any


class Data(NamedTuple):
    """What a trainer takes: rows, how they become a batch, and how many of them are one."""

    rows: Any
    collate: Callable[[Sequence[Any]], dict[str, Tensor]]
    batch_size: int


def small(pairs: Sequence[Pair], *, entries: int, hidden_size: int, layers: int, dropout: float) -> Network:
    """A network from scratch, with a vocabulary made from the pairs."""
    tokenizer = pair_tokenizer([text for pair in pairs for text in pair], entries=entries)
    return Network(small_seq2seq(tokenizer, hidden_size=hidden_size, layers=layers, dropout=dropout), tokenizer)


def own(name: str) -> Network:
    """The user's, in float32.

    Raises:
        ValueError: there is none, or it is not whole; it is no encoder–decoder.
    """
    found = TextModel.load(name, device="cpu")
    if not found.model.config.is_encoder_decoder:
        raise ValueError(f"{name} is a causal model, without an encoder; give an encoder–decoder such as T5 or BART")
    return Network(found.model.float(), found.tokenizer)


def small_data(network: Network, pairs: Sequence[Pair], *, steps: int, batch_size: int, seed: int) -> Data:
    """Batches of like lengths, for the small network."""
    return Data(PairBatches(pairs, network.tokenizer, batches=steps, batch_size=batch_size, seed=seed), only_batch, 1)


def own_data(network: Network, pairs: Sequence[Pair], *, prefix: str, longest: int, batch_size: int) -> Data:
    """Tokens of each pair, padded when they become a batch."""
    sources = network.tokenizer([prefix + source for source, _ in pairs], truncation=True, max_length=longest)
    targets = network.tokenizer(text_target=[text for _, text in pairs], truncation=True, max_length=longest)
    rows = [
        {"input_ids": source, "attention_mask": mask, "labels": labels}
        for source, mask, labels in zip(
            sources["input_ids"], sources["attention_mask"], targets["input_ids"], strict=True
        )
    ]
    return Data(rows, DataCollatorForSeq2Seq(network.tokenizer, model=network.model), batch_size)


def save(network: Network, folder: Path, describe: Callable[[Path], None]) -> None:
    """Save whole or not at all; `describe` writes the card into the folder."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_said(folder.parent):
        network.model.save_pretrained(part)
        network.tokenizer.save_pretrained(part)
        describe(part)
    part.replace(folder)


def load(folder: Path, device: str) -> Network:
    """A network that was saved by an arm."""
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    return Network(model.to(torch.device(device)).eval(), AutoTokenizer.from_pretrained(folder))
