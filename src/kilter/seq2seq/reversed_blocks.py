"""A text in an order that is neither its own nor its reverse: the way to see that the order of the output matters.

Paper: O. Vinyals, S. Bengio, M. Kudlur, "Order Matters: Sequence to sequence for sets", ICLR 2016, section 5.1.
"""

from collections.abc import Sequence
from typing import TypeVar

from kilter.core.options import whole

Word = TypeVar("Word")


def reverse_blocks(words: Sequence[Word], size: int = 3, *, pad: Word | str = "<pad>") -> list[Word | str]:
    """Each block of `size` words from its last to its first; what the last block lacks is filled with `pad`.

    Of what it returns it gives the words again, and the filling behind them. With a size of 1 it changes nothing.

    Args:
        words: a text as a list of words, or of their numbers.
        size: words of a block; 3 as published.
        pad: the filling, a number where words are numbers.

    Raises:
        TypeError: a text that is not split into words, or a size that is not whole.
        ValueError: a size below 1.

    Example:
        >>> reverse_blocks("This is a sentence .".split())
        ['a', 'is', 'This', '<pad>', '.', 'sentence']
        >>> reverse_blocks(reverse_blocks("This is a sentence .".split()))
        ['This', 'is', 'a', 'sentence', '.', '<pad>']

    Reference: Vinyals et al., ICLR 2016, section 5.1.
    """
    whole("size", size, 1)
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise TypeError(f"words must be a list of words, got {type(words).__name__}; split a text, .tolist() a tensor")
    filled = [*words, *[pad] * (-len(words) % size)]
    return [word for start in range(0, len(filled), size) for word in reversed(filled[start : start + size])]
