"""Inputs with what people wrote for them: the shape of every text generation task here.

The departure from a plain pair of columns: an input keeps all its references, because an oracle over many outputs
needs them, and may hold names that stand for values while the model works (delexicalisation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Referenced:
    """One input of a generation task.

    Attributes:
        source: What the model reads.
        references: What people wrote for it; empty where nobody did.
        values: What stands for what in `source` and in what the model says, e.g. `{"NAME": "The Mill"}`.
    """

    source: str
    references: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """A text of the model's with the values in their places.

        Example:
            >>> Referenced("name[NAME]", values={"NAME": "The Mill"}).filled("NAME is a pub.")
            'The Mill is a pub.'
        """
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text


@dataclass(frozen=True)
class Splits:
    """A task: pairs to train on, inputs to choose settings on, inputs to judge on."""

    train: Sequence[tuple[str, str]]
    dev: Sequence[Referenced]
    test: Sequence[Referenced]


def spread(items: Sequence[Referenced], count: int) -> list[Referenced]:
    """At most `count` of the items, evenly spaced, so that a part speaks for the whole of a sorted set.

    Example:
        >>> [item.source for item in spread([Referenced(letter) for letter in "abcdef"], 3)]
        ['a', 'c', 'e']
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]
