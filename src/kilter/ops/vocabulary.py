"""Words from token ids and token ids for words, for vocabularies of letters, of word pieces and of words."""

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_UNSPOKEN = "\ufffd"  # stands for the blank and special tokens, so that no reference word contains it


class Word(NamedTuple):
    """A word of a collapsed alignment: its text and the span of its tokens."""

    text: str
    start: int
    stop: int


class Vocabulary:
    """Token strings by id, and what is needed to read words from ids and to spell words in ids."""

    def __init__(self, strings: Sequence[str], blank: int) -> None:
        pieces = [_UNSPOKEN if i == blank or not s else s for i, s in enumerate(strings)]
        if not any(" " in piece for piece in pieces) and max(map(len, pieces)) > 1:
            pieces = [" " + piece for piece in pieces]  # no separator: every token is a word
        self.pieces = pieces
        self.of_characters = max(map(len, pieces)) == 1
        self.ids = {piece: i for i, piece in reversed(list(enumerate(pieces))) if piece != _UNSPOKEN}
        self.longest = max(map(len, self.ids), default=0)

    def words(self, tokens: Sequence[int]) -> list[Word]:
        """Words of a collapsed alignment."""
        pieces = [self.pieces[token] for token in tokens]
        found = [(m.group(), *m.span()) for m in re.finditer("[^ ]+", "".join(pieces))]
        if self.of_characters:
            return [Word(*word) for word in found]
        ends = list(itertools.accumulate(map(len, pieces)))
        return [Word(text, bisect_right(ends, a), bisect_right(ends, b - 1) + 1) for text, a, b in found]

    def spell(self, word: str, like: int) -> list[int] | None:
        """Token ids of `word` by longest match, led by a space if token `like` is; None if it cannot be spelled."""
        return self._cut(" " + word if self.pieces[like].startswith(" ") else word)

    def spell_text(self, text: str) -> list[int] | None:
        """Token ids of a whole text by longest match; None if it cannot be spelled."""
        text = " ".join(text.split())
        led = any(piece.startswith(" ") and len(piece) > 1 for piece in self.ids)  # pieces that begin a word
        return self._cut(" " + text if led and text else text)

    def _cut(self, text: str) -> list[int] | None:
        ids: list[int] = []
        while text:
            piece = next((text[:n] for n in range(self.longest, 0, -1) if text[:n] in self.ids), None)
            if piece is None:
                return None
            ids.append(self.ids[piece])
            text = text[len(piece) :]
        return ids


def word_delimiter(tokenizer: Any) -> str:
    """The token that stands for the space between words in a tokenizer of letters; `|` where it does not say."""
    given = getattr(tokenizer, "init_kwargs", {})  # the property of a phoneme tokenizer logs an error
    return given.get("word_delimiter_token", getattr(tokenizer, "word_delimiter_token", None)) or "|"


def token_strings(vocabulary: Any) -> tuple[str, ...]:
    """Strings by token id of a list of strings or of a transformers tokenizer; `" "` marks the start of words.

    Raises:
        TypeError: neither strings nor a tokenizer.

    Example:
        >>> token_strings(["", "a", " "])
        ('', 'a', ' ')
    """
    if hasattr(vocabulary, "convert_ids_to_tokens"):
        separator, special = word_delimiter(vocabulary), set(vocabulary.all_special_ids)
        # ids may have gaps, and what stands there is the unknown token, or none
        last = max(vocabulary.get_vocab().values(), default=-1) if hasattr(vocabulary, "get_vocab") else -1
        tokens = vocabulary.convert_ids_to_tokens(range(max(len(vocabulary), last + 1)))
        nothing = {None, getattr(vocabulary, "unk_token", None)}
        begins = re.compile("[\u2581\u0120]" if _of_bytes(tokens) else "\u2581")
        return tuple(
            " " if t == separator else "" if i in special or t in nothing else begins.sub(" ", t)
            for i, t in enumerate(tokens)
        )
    listed = isinstance(vocabulary, Iterable) and not isinstance(vocabulary, str)
    if not listed or not all(isinstance(token, str) for token in vocabulary):
        raise TypeError("vocabulary must be a list of strings by token id, or a tokenizer")
    return tuple(vocabulary)


def _of_bytes(tokens: Sequence[str | None]) -> bool:
    """Whether tokens are of bytes, where Ġ stands for the space; in Maltese it is a letter, and has a small one."""
    named = [token for token in tokens if token]
    return any(t[0] == "\u0120" and len(t) > 1 for t in named) and not any("\u0121" in t for t in named)
