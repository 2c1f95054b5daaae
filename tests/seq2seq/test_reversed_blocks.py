"""Blocks of words are reversed: as published, back again, and nothing is lost."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.seq2seq import reverse_blocks

ARGUMENTS = {"words": lambda: ["a", "sentence", "."]}


def test_9_as_published() -> None:
    assert reverse_blocks(["This", "is", "a", "sentence", "."]) == ["a", "is", "This", "<pad>", ".", "sentence"]


@given(words=st.lists(st.integers(0, 9)), size=st.integers(1, 5))
def test_9_twice_it_is_the_text_and_filling(words: list[int], size: int) -> None:
    once = reverse_blocks(words, size, pad=-1)
    assert len(once) == -(-len(words) // size) * size
    assert reverse_blocks(once, size, pad=-1) == [*words, *[-1] * (len(once) - len(words))]
    for start in range(0, len(words) // size * size, size):
        assert once[start : start + size] == words[start : start + size][::-1]


def test_one_block_is_the_whole_reversed() -> None:
    assert reverse_blocks([1, 2, 3], 3) == [3, 2, 1]
    assert reverse_blocks([1, 2, 3], 1) == [1, 2, 3]
    assert reverse_blocks([]) == []


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"size": 0}, ValueError, "size must be at least 1"),
        ({"size": 1.5}, TypeError, "size must be a whole number"),
        ({"words": "This is"}, TypeError, "words must be a list of words, got str; split"),
        ({"words": torch.arange(3)}, TypeError, "words must be a list of words, got Tensor"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, Any], error: type[Exception], match: str, own_messages: None) -> None:
    with pytest.raises(error, match=match):
        reverse_blocks(**{"words": ["a"], **wrong})
