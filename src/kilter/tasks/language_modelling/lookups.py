"""Look-ups: a row lists names, each with a letter, and asks for the letter of some again, nearer or farther back.

What is tested is whether a model finds one place by its content at a distance it was not trained on. A name is a capital
and a capital or digit, its letter is small: `K7x Q2b ... K7` and the model is to say `x`.
"""

import random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import torch
from torch import Tensor

NAMES = tuple(first + second for first in ascii_uppercase for second in ascii_uppercase + digits)
WIDTH = 4
"""Bytes of an entry: the name, its letter, a blank."""
_LEAST = 3
"""Entries of the shortest row: two pairs and a question."""


def check_room(block: int, longest: int) -> None:
    """Check that a block holds a question, and that there are names enough for the longest row.

    Raises:
        ValueError: either is not so.

    Example:
        >>> check_room(8, 1)
        Traceback (most recent call last):
        ValueError: block=8 is too short for look-ups: two pairs and a question need 12 tokens
    """
    if block < WIDTH * _LEAST:
        raise ValueError(
            f"block={block} is too short for look-ups: two pairs and a question need {WIDTH * _LEAST} tokens"
        )
    if (entries := longest * block // WIDTH) > len(NAMES):
        raise ValueError(
            f"longest={longest}: a row of {longest} blocks of {block} tokens has {entries} names, and there are "
            f"{len(NAMES)}; lower --longest or --block"
        )


def entries(text: str) -> list[tuple[str, str]]:
    """Names and letters of a row.

    Example:
        >>> entries("K7x Q2b K7x ")
        [('K7', 'x'), ('Q2', 'b'), ('K7', 'x')]
    """
    return [(text[at : at + 2], text[at + 2]) for at in range(0, len(text) - WIDTH + 1, WIDTH)]


def training_row(block: int, rng: random.Random) -> str:
    """A row of 2, 3, … pairs, and questions about them until it is full: a name again, with its letter."""
    room = block // WIDTH
    pairs = _pairs(rng.randint(2, room - 1), rng)
    asked = [rng.choice(pairs) for _ in range(room - len(pairs))]
    return _text([*pairs, *asked])


def judged_row(block: int, times: int, rng: random.Random) -> str:
    """A row of `times` blocks: different names, then a question about one of the first block."""
    pairs = _pairs(times * block // WIDTH - 1, rng)
    return _text([*pairs, rng.choice(pairs[: block // WIDTH - 1])])


def tokens(text: str, tokenizer: Any) -> dict[str, Tensor]:
    """Tokens of a row, with the letters that are asked for as labels and nothing else to learn from."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    labels = torch.full_like(ids, -100)
    seen: set[str] = set()
    for place, (name, _) in enumerate(entries(text)):
        if name in seen:
            labels[WIDTH * place + 2] = ids[WIDTH * place + 2]
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


def _pairs(count: int, rng: random.Random) -> list[tuple[str, str]]:
    return [(name, rng.choice(ascii_lowercase)) for name in rng.sample(NAMES, count)]


def _text(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"{name}{letter} " for name, letter in pairs)
