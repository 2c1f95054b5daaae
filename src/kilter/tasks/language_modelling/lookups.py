"""Look-ups: names, each with a letter, and one that is asked for again, nearer or farther back than in training.

What is tested is whether a place is found by its content at a distance that was not trained on. A name is a capital or
a digit, its letter is small: after `Kx7bQa...K` the model is to say `x`. Longer rows only say the others again.
"""

import random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import torch
from torch import Tensor

NAMES = ascii_uppercase + digits
WIDTH = 2
"""Bytes of an entry: the name and its letter."""
_LEAST = 3
"""Entries of the shortest row: two pairs and a question."""

Pair = tuple[str, str]


def check_room(block: int) -> None:
    """Check that a block holds two pairs and a question.

    Raises:
        ValueError: it does not.

    Example:
        >>> check_room(5)
        Traceback (most recent call last):
        ValueError: block=5 is too short for look-ups: two pairs and a question need 6 tokens
    """
    if block < WIDTH * _LEAST:
        raise ValueError(
            f"block={block} is too short for look-ups: two pairs and a question need {WIDTH * _LEAST} tokens"
        )


def entries(text: str) -> list[Pair]:
    """Names and letters of a row.

    Example:
        >>> entries("KxQbKx")
        [('K', 'x'), ('Q', 'b'), ('K', 'x')]
    """
    return [(text[at], text[at + 1]) for at in range(0, len(text), WIDTH)]


def training_row(block: int, rng: random.Random) -> str:
    """A row of 2, 3, … pairs, and then some of them again until it is full."""
    room = block // WIDTH
    pairs = _pairs(rng.randint(2, _most(room)), rng)
    return _text([*pairs, *(rng.choice(pairs) for _ in range(room - len(pairs)))])


def judged_row(block: int, times: int, rng: random.Random) -> str:
    """A row of `times` blocks that ends with a name which stands once before that, in the first block."""
    room, first = times * block // WIDTH, block // WIDTH
    pairs = _pairs(_most(first), rng)
    asked, *others = rng.sample(pairs, len(pairs))
    again = [rng.choice(others) for _ in range(room - len(pairs) - 1)]
    return _text([*pairs, *again, asked])


def tokens(text: str, tokenizer: Any) -> dict[str, Tensor]:
    """Tokens of a row; labels are the letters of names that have stood before, there is nothing else to learn from."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    labels = torch.full_like(ids, -100)
    seen: set[str] = set()
    for place, (name, _) in enumerate(entries(text)):
        if name in seen:
            labels[WIDTH * place + 1] = ids[WIDTH * place + 1]
        seen.add(name)
    return {"input_ids": ids, "labels": labels}


class LookUps(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Rows to train on, each made when it is asked for, the same for the same seed.

    Args:
        count: rows.
        block: tokens of a row.
        tokenizer: in which each of these letters is a token.
        seed: of the rows.
    """

    def __init__(self, count: int, block: int, tokenizer: Any, seed: int) -> None:
        self.count, self.block, self.tokenizer, self.seed = count, block, tokenizer, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = tokens(training_row(self.block, random.Random(f"{self.seed} {index}")), self.tokenizer)
        short = self.block - len(row["input_ids"])  # blocks need not be whole entries
        return {
            "input_ids": torch.nn.functional.pad(row["input_ids"], (0, short)),
            "labels": torch.nn.functional.pad(row["labels"], (0, short), value=-100),
        }


def _most(room: int) -> int:
    """Different names in a row of so many entries."""
    return min(max(2, room // 5), len(NAMES))


def _pairs(count: int, rng: random.Random) -> list[Pair]:
    return [(name, rng.choice(ascii_lowercase)) for name in rng.sample(NAMES, count)]


def _text(pairs: list[Pair]) -> str:
    return "".join(f"{name}{letter}" for name, letter in pairs)
