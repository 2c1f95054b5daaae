"""What is learnt from: blocks of tokens, domain after domain, of which a sampler says which come next."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kilter.tasks.language_modelling.lookups import LookUps
from kilter.tasks.language_modelling.networks import stream

if TYPE_CHECKING:
    from kilter.tasks.language_modelling.sources import Texts

LOOK_UPS = "look-ups"
"""What the domain of look-ups is called."""


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Blocks of every domain, one domain behind the other.

    Args:
        blocks: `(n, block)` tokens of each domain, by its name.
        target: `(n, block)` examples of the target; empty where there is none.
        tokenizer: of the tokens.
        lookups: more rows, which are a domain of their own.
        share: of the draws that are look-ups.
        there: blocks that each domain's texts have, where `blocks` are only some of them.
    """

    def __init__(
        self,
        blocks: Mapping[str, Tensor],
        target: Tensor,
        tokenizer: Any,
        lookups: LookUps | None = None,
        share: float = 0.0,
        there: Mapping[str, int] | None = None,
    ) -> None:
        self.blocks, self.target, self.tokenizer = blocks, target, tokenizer
        self._lookups, self._share, self._there = lookups, share, there or {}
        self._all = torch.cat([*blocks.values()]) if blocks else target[:0]

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each domain, in the order in which they stand."""
        found = {name: len(rows) for name, rows in self.blocks.items()}
        return found | ({} if self._lookups is None else {LOOK_UPS: len(self._lookups)})

    def weights(self, *, by_size: bool = False) -> list[float]:
        """How often each domain is to be drawn: all alike or by the size of its texts, and look-ups by their share."""
        sizes = [self._there.get(name, len(rows)) if by_size else 1 for name, rows in self.blocks.items()]
        texts = [(1 - self._share) * size / sum(sizes) for size in sizes]
        return [*texts, *[self._share] * (self._lookups is not None)]

    def __len__(self) -> int:
        return len(self._all) + (0 if self._lookups is None else len(self._lookups))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index < len(self._all) or self._lookups is None:
            return {"input_ids": self._all[index], "labels": self._all[index]}
        return self._lookups[index - len(self._all)]

    def by_domain(self) -> dict[str, torch.utils.data.Dataset[dict[str, Tensor]]]:
        """The rows of each domain as a data set of its own."""
        found, start = {}, 0
        for name, size in self.sizes.items():
            found[name] = torch.utils.data.Subset(self, range(start, start + size))
            start += size
        return found

    def examples(self, arm: str) -> "Rows":
        """The examples of the target as rows.

        Args:
            arm: that needs them.

        Raises:
            ValueError: there are none.
        """
        return Rows({"target": self.needed_target(arm)}, self.target, self.tokenizer)

    def needed_target(self, arm: str) -> Tensor:
        """The examples of the target `(n, block)`.

        Raises:
            ValueError: there are none.
        """
        if not len(self.target):
            raise ValueError(f"{arm} needs examples of the target: give --target, or leave the arm out")
        return self.target

    def texts(self, blocks: Tensor) -> list[str]:
        """Blocks as text again, for what compares words."""
        return self.tokenizer.batch_decode(blocks, skip_special_tokens=True)


@dataclass(frozen=True)
class Learner:
    """What callbacks of an arm are made for."""

    model: Any
    rows: Rows
    sampler: Any
    seed: int


def training_rows(
    texts: "Texts",
    tokenizer: Any,
    *,
    block: int,
    target_blocks: int,
    domain_blocks: int = 0,
    lookups: float = 0.0,
    drawn: int = 0,
    seed: int = 0,
) -> Rows:
    """The rows of a training.

    Args:
        texts: of each domain, and of the target.
        tokenizer: of the model.
        block: tokens of a row.
        target_blocks: most examples of the target.
        domain_blocks: most rows of a domain; 0 for all.
        lookups: share of the rows that are look-ups.
        drawn: rows that the training will draw, so that hardly any look-up comes twice.
        seed: of the look-ups.

    Raises:
        ValueError: a domain has not a single block.
    """
    found, there = {}, {}
    for name, some in texts.domains.items():
        whole = blocks_of(tokenizer, some, block)
        there[name], found[name] = len(whole), spread(whole, domain_blocks)
        if not len(found[name]):
            raise ValueError(
                f"domain {name}: its texts are shorter than one block of {block} tokens; give more text, lower "
                "--block, or leave the domain out"
            )
    target = spread(blocks_of(tokenizer, texts.target, block), target_blocks)
    if texts.target and not len(target):
        raise ValueError(
            f"--target: its texts are shorter than one block of {block} tokens; give more text, or lower --block"
        )
    more = LookUps(math.ceil(drawn * lookups), block, tokenizer, seed) if lookups else None
    return Rows(found, target, tokenizer, more, lookups, there)


def blocks_of(tokenizer: Any, texts: Sequence[str], block: int) -> Tensor:
    """Texts, mixed, in a row and cut into blocks; what is left at the end is left out.

    Args:
        tokenizer: of the model.
        texts: whole documents.
        block: tokens of a block.

    Example:
        >>> from kilter.tasks.language_modelling.networks import byte_tokenizer
        >>> blocks_of(byte_tokenizer(), ["abcdefg"], 3).tolist()
        [[100, 101, 102], [103, 104, 105]]
    """
    mixed = random.Random(len(texts)).sample([*texts], len(texts))
    tokens = stream(tokenizer, mixed)
    return tokens[: len(tokens) // block * block].view(-1, block)


def spread(blocks: Tensor, most: int) -> Tensor:
    """Blocks at most, spread over all of them; 0 for all.

    Example:
        >>> spread(torch.arange(5)[:, None], 3).flatten().tolist()
        [0, 2, 4]
    """
    if not most or len(blocks) <= most:
        return blocks
    return blocks[torch.linspace(0, len(blocks) - 1, most).long()]


def collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A batch, as a causal model takes it."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
