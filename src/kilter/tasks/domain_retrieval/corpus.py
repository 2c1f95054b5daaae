"""What a run learns from and is judged on: pairs of each domain in three parts, and which other pair is the hard one.

The one thing that matters: within a domain no text is twice, so that none is its own wrong answer, and no text of the
test is learnt from. What is near by words is told by words alone, so that it favours no encoder.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from kilter.core.normalise import tidy

if TYPE_CHECKING:
    from kilter.lab.recipe import Provenance

Pair = tuple[str, str]
"""A text and the one that belongs to it, such as a summary and what it sums up."""
Pairs = Mapping[str, Sequence[Pair]]
"""By domain."""

_PARTS = ("train", "dev", "test")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Corpus:
    """Pairs by domain, in three parts that have no text in common.

    Attributes:
        train: what is learnt from.
        dev: where thresholds are chosen.
        test: what is judged on.
        provenance: where all of it is from.
        notes: what was left out.
    """

    train: Pairs
    dev: Pairs
    test: Pairs
    provenance: "Provenance"
    notes: Sequence[str] = field(default=())

    @property
    def domains(self) -> tuple[str, ...]:
        """All of them; a number in the label column is a place here."""
        return tuple(self.train)

    def plain(self) -> dict[str, Any]:
        """All but where it is from, as JSON has it."""
        return {"train": self.train, "dev": self.dev, "test": self.test, "notes": self.notes}

    @classmethod
    def from_plain(cls, kept: Mapping[str, Any], provenance: "Provenance") -> "Corpus":
        """What `plain` gave."""
        parts: Any = {part: {one: [(a, b) for a, b in kept[part][one]] for one in kept[part]} for part in _PARTS}
        return cls(**parts, provenance=provenance, notes=kept["notes"])


def distinct(pairs: Iterable[Pair], known: Iterable[str] = ()) -> list[Pair]:
    """Pairs without those that repeat a text, of another pair or of `known`.

    Example:
        >>> distinct([("a map", "It shows roads."), ("A  map", "Another."), ("a sea", "Water.")], ["water."])
        [('a map', 'It shows roads.')]
    """
    seen = {_key(text) for text in known}
    found = []
    for pair in pairs:
        keys = {_key(text) for text in pair}
        if len(keys) == len(pair) and not keys & seen:
            found.append(pair)
            seen |= keys
    return found


def parted(pairs: Sequence[Pair], *, dev: int, test: int) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Pairs to learn from, to choose thresholds on and to judge on; of the last two a fifth of all at most.

    A hash of the first text says which; more pairs move few of those that were there.

    Example:
        >>> learnt, chosen, judged = parted([(f"{n}", f"{n}!") for n in range(20)], dev=2, test=100)
        >>> len(learnt), len(chosen), len(judged)
        (14, 2, 4)
    """
    fifth = len(pairs) // 5
    order = sorted(pairs, key=lambda pair: sha256(pair[0].encode()).digest())
    judged, chosen = min(test, fifth), min(dev, fifth)
    return order[judged + chosen :], order[judged : judged + chosen], order[:judged]


def hard_negatives(pairs: Sequence[Pair]) -> list[int]:
    """For each pair the place of the other with which it shares the most words, rare ones counting more.

    Words count by the logarithm of one over the share of pairs that have them; what is compared is the cosine.

    Example:
        >>> hard_negatives([("a red map", "of a town"), ("a blue map", "of a town"), ("a kettle", "boils")])
        [1, 0, 0]
    """
    bags = [{*_WORD.findall(" ".join(pair).casefold())} for pair in pairs]
    often = Counter(word for bag in bags for word in bag)
    rarity = {word: math.log(len(pairs) / count) for word, count in often.items()}
    place = {word: column for column, word in enumerate(word for word, count in often.items() if count > 1)}
    words = torch.zeros(len(pairs), len(place))
    for row, bag in enumerate(bags):
        shared = [word for word in bag if word in place]
        words[row, [place[word] for word in shared]] = torch.tensor([rarity[word] for word in shared])
    lengths = torch.tensor([math.fsum(rarity[word] ** 2 for word in bag) for bag in bags]).sqrt()
    alike = words @ words.T / lengths.clamp(min=1e-12)  # a row's own length orders nothing
    return alike.fill_diagonal_(-1.0).argmax(1).tolist()


def _key(text: str) -> str:
    return tidy(text).casefold().rstrip(" .。:;,!")
