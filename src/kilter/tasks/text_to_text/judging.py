"""What a network writes for the test inputs, and how likely what people wrote is to it."""

from collections.abc import Sequence
from typing import Any

import torch

from kilter.data.referenced import Referenced
from kilter.tasks.text_to_text.networks import Network


@torch.no_grad()
def written(
    network: Network,
    items: Sequence[Referenced],
    *,
    prefix: str,
    longest: int,
    at_once: int,
    **how: Any,
) -> tuple[list[str], list[list[float]]]:
    """What beam search writes for each input, and nats and tokens of the first reference.

    Args:
        network: model and tokenizer.
        items: inputs; names that stand for values are filled in.
        prefix: before each input.
        longest: tokens of a text, at most.
        at_once: inputs in a batch.
        how: of `generate`.
    """
    model, tokenizer = network
    texts: list[str] = [""] * len(items)
    likely: list[list[float]] = [[0.0, 0.0]] * len(items)
    by_length = sorted(range(len(items)), key=lambda place: len(items[place].source))
    for first in range(0, len(items), at_once):
        places = by_length[first : first + at_once]
        read = tokenizer(
            [prefix + items[place].source for place in places],
            truncation=True,
            max_length=longest,
            padding=True,
            return_tensors="pt",
        ).to(model.device)
        asked = {name: read[name] for name in ("input_ids", "attention_mask")}
        said = tokenizer.batch_decode(model.generate(**asked, **how), skip_special_tokens=True)
        for place, text in zip(places, said, strict=True):
            texts[place] = items[place].filled(text.strip())
        for place, nats in zip(places, _nats(network, asked, [items[place] for place in places], longest), strict=True):
            likely[place] = nats
    return texts, likely


def _nats(network: Network, asked: dict[str, Any], items: Sequence[Referenced], longest: int) -> list[list[float]]:
    """Minus log-probability and tokens of each input's first reference, as the model would have to write it."""
    model, tokenizer = network
    wanted = [_unfilled(item) for item in items]
    told = tokenizer(text_target=wanted, truncation=True, max_length=longest, padding=True, return_tensors="pt")
    there = told["attention_mask"].bool().to(model.device)
    labels = told["input_ids"].to(model.device)
    logits = model(**asked, labels=labels.masked_fill(~there, -100)).logits.float()
    nats = -logits.log_softmax(-1).gather(2, labels[..., None])[..., 0].masked_fill(~there, 0).sum(1)
    return [[float(one), float(count)] for one, count in zip(nats, there.sum(1), strict=True)]


def _unfilled(item: Referenced) -> str:
    """The first reference with the placeholders that the model reads and writes in the place of values."""
    text = item.references[0]
    for name, value in item.values.items():
        text = text.replace(value, name)
    return text
