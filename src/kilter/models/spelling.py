"""How a recogniser's vocabulary writes a text: token ids, the words they belong to, and what it cannot write.

The one door for texts of recordings: training, alignment, latency and judging spell by this.
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

from torch import Tensor

from kilter.core.normalise import Normaliser, TextPart
from kilter.core.signs import named, short
from kilter.ops.vocabulary import Vocabulary, Word, token_strings, word_delimiter

MOST = 12
"""Signs that a message names."""

_FOR_MACHINES = re.compile(r"<\S+>|\[\S+\]")
"""Tokens such as <0x0A> and [CLS], which say nothing about letters and their case."""


@dataclass(frozen=True)
class Spelt:
    """A text as a vocabulary writes it.

    Attributes:
        text: normalised.
        ids: its tokens; none where something is wrong.
        words: the words as they were written, each with the span of its tokens.
        lacks: signs, words or tokens that cannot be written, each once.
        problem: what else is wrong; empty where nothing is.
    """

    text: str
    ids: list[int]
    words: list[Word]
    lacks: tuple[str, ...] = ()
    problem: str = ""


class Spelling:
    """A tokenizer of CTC, the outputs of its model and how texts are normalised, as one.

    Attributes:
        strings: what each output of the model stands for, see `token_strings`; "" where it stands for nothing.
        reader: words from token ids.
        normalise: texts as the vocabulary has them.

    Args:
        tokenizer: of transformers.
        outputs: of the model; what the tokenizer has beyond them cannot be said, and outputs beyond it have no name.
        blank: token of CTC's blank.
        keep: parts of the normalisation to leave out, see `Normaliser`.

    Example:
        >>> from kilter.models.small_speech import letter_tokenizer
        >>> spelling = Spelling(letter_tokenizer("abc"), 6, 0)
        >>> spelling.spell("Cab  a").words
        [Word(text='Cab', start=0, stop=3), Word(text='a', start=4, stop=5)]
        >>> spelling.problem("a+b")
        "the tokenizer does not know every letter or word of 'a+b': it lacks '+' (U+002B PLUS SIGN; leave out what is not spoken)"
    """  # noqa: E501

    def __init__(self, tokenizer: Any, outputs: int, blank: int, keep: Sequence[TextPart] = ()) -> None:
        strings = token_strings(tokenizer)
        self.tokenizer, self.entries, self.outputs = tokenizer, len(strings), outputs
        strings = (*strings[:outputs], *[""] * (outputs - len(strings)))
        self._phones = hasattr(tokenizer, "phone_delimiter_token")
        self._parted = any(" " in piece for piece in strings)
        if self._phones and not self._parted:  # so that each phoneme is a word, also where all are of one letter
            strings = tuple(piece and f" {piece}" for piece in strings)
        self.strings, self.reader = strings, Vocabulary(strings, blank)
        pieces = [piece.strip() for piece in strings]
        self.normalise = Normaliser([one for one in pieces if not _FOR_MACHINES.fullmatch(one)], keep)
        if getattr(tokenizer, "do_lower_case", False) and self.normalise.case and "case" not in keep:
            self.tokenizer = copy(tokenizer)
            self.tokenizer.do_lower_case = False  # it makes upper case, whatever the vocabulary has
        self._written = Normaliser("\u200c\u200d", ["unicode", "case", *keep])  # joiners shape letters, also unheard
        self._delimiter = word_delimiter(tokenizer).strip() if self._parted else ""
        self._entry = {piece: i for i, piece in reversed([*enumerate(pieces)]) if piece and i != blank}
        if self._phones and " " in strings:
            self._entry[self._delimiter] = strings.index(" ")
        self._of_letters = 2 * sum(map(self.normalise.signs.__contains__, {*pieces})) >= len(self.normalise.signs)
        self._unspoken = {*tokenizer.all_special_ids, blank} - {i for i, piece in enumerate(strings) if piece == " "}
        self._special = [token for token in tokenizer.all_special_tokens if len(token) > 1 and token != self._delimiter]

    def named(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities `(…, V)` without the outputs beyond the tokenizer's entries, which stand for nothing."""
        return log_probs[..., : self.entries]

    def written(self, text: str) -> str:
        """The text as it was written, but for its white space."""
        return self._written(text)

    def spell(self, text: str) -> Spelt:
        """Spell a text. Nothing is raised: what is wrong is told."""
        said, written = self.normalise(text), self.written(text)
        if lacks := self._no_text(written):
            return Spelt(said, [], [], lacks)
        parts, own = said.split(), written.split()
        try:
            pieces = self._pieces(said, parts)
            if lacks := self._lacks([*chain(*pieces)], said):
                return Spelt(said, [], [], lacks)
        except Exception as error:  # tokenizers raise what they like, Exception itself too
            lacks = () if isinstance(error, ImportError) else tuple(dict.fromkeys(self._new(said)))
            why = f"the tokenizer cannot spell {short(text)!r} ({' '.join(str(error).split())})"
            return Spelt(said, [], [], lacks, "" if lacks else why)
        ids = [i for piece in pieces for i in piece]
        if self._parted:
            spans = [(word.start, word.stop) for word in self.reader.words(ids)]
            if self._phones and set(parts) <= self._entry.keys():  # phonemes, parted by the delimiter into words
                own = [word for part in f" {written} ".split(f" {self._delimiter} ") if (word := part.strip())]
        else:
            spans = [*pairwise(accumulate(map(len, pieces), initial=0))]
        if len(spans) != len(own):
            many = f"the tokenizer makes {len(spans)} words of {short(text)!r}, which has {len(own)}"
            return Spelt(said, [], [], problem=f"{many}; check how it parts words")
        return Spelt(said, ids, [Word(word, *span) for word, span in zip(own, spans, strict=True)])

    def problem(self, text: str) -> str:
        """Why a text cannot be spelt; empty where it can."""
        found = self.spell(text)
        return found.problem or (self._lacking(text, dict.fromkeys(found.lacks, "")) if found.lacks else "")

    def check(self, texts: Sequence[tuple[str, str]]) -> None:
        """Check that every text can be spelt, given with the place where it stands.

        Raises:
            ValueError: one cannot; the first is named, and every sign that the vocabulary lacks with its code point, a
                likely cause and where it stands.
        """
        bad = [(*row, spelt) for row in texts if (spelt := self.spell(row[1])).lacks or spelt.problem]
        if not bad:
            return
        where, text, first = bad[0]
        if first.problem:
            raise ValueError(f"{where}: {first.problem}")
        places: dict[str, list[str]] = {}
        for place, _, spelt in bad:
            for sign in spelt.lacks:
                places.setdefault(sign, []).append(place)
        told = {sign: _places(rows) if len(texts) > 1 else "" for sign, rows in places.items()}
        known = " ".join(sorted(self._entry)[:60])
        raise ValueError(
            f"{where}: {self._lacking(text, told)} ({len(bad)} of {len(texts)} texts have such); write the texts as "
            f"the model's vocabulary does: {known}"
        )

    # Tokens ---------------------------------------------------------------------------------------------------------

    def _pieces(self, text: str, parts: Sequence[str]) -> list[list[int]]:
        """Token ids: of the whole text, or, where the vocabulary has no sign between words, of each of its parts."""
        if self._phones and set(parts) <= self._entry.keys():
            return [[self._entry[part]] for part in parts]
        if self._parted:
            return [self._ids(text)] if text else []
        return [[self._entry[part]] if part in self._entry else self._ids(part) for part in parts]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    # What cannot be written -----------------------------------------------------------------------------------------

    def _no_text(self, text: str) -> tuple[str, ...]:
        """Tokens that stand in a text and are no text."""
        found = [token for token in self._special if token in text]
        return (*found, *[self._delimiter] * (not self._phones and bool(self._delimiter) and self._delimiter in text))

    def _lacks(self, ids: Sequence[int | None], text: str) -> tuple[str, ...]:
        """Of a text's tokens those that cannot be said, or the signs that became none."""
        if beyond := [i for i in ids if i is not None and i >= self.outputs]:
            return tuple(dict.fromkeys(self.tokenizer.convert_ids_to_tokens(beyond)))
        if any(map(self._unsaid, ids)):
            found = [sign for part in text.split() for sign in self._missing(part)]
            return tuple(dict.fromkeys(found or [sign for sign in text if sign.isspace() and sign != " "] or [" "]))
        if self.tokenizer.unk_token_id is not None:
            return ()
        # without an unknown token, a sign may be left out in silence
        less = sum(len(self.strings[i].strip()) for i in ids if i is not None) < len("".join(text.split()))
        return tuple(dict.fromkeys(self._new(text))) if less else ()

    def _unsaid(self, token: int | None) -> bool:
        return token is None or token in self._unspoken

    def _missing(self, part: str) -> list[str]:
        """Signs of a part that have no token; the part itself where the vocabulary is of words."""

        def bad(text: str) -> bool:
            return text not in self._entry and any(map(self._unsaid, self._ids(text)))

        if not bad(part):
            return []
        return [sign for sign in self._new(part) if self._of_letters and bad(sign)] or [part]

    def _new(self, text: str) -> list[str]:
        return [sign for sign in text if sign not in self.normalise.signs and not sign.isspace()]

    # What is said of it ---------------------------------------------------------------------------------------------

    def _lacking(self, text: str, places: dict[str, str]) -> str:
        first = next(iter(places))
        around = first if first in text else ""
        signs = [self._named(sign) + place for sign, place in places.items()][:MOST]
        more = f" and {len(places) - MOST} more" if len(places) > MOST else ""
        return (
            f"the tokenizer does not know every letter or word of {short(text, around)!r}: it lacks "
            f"{', '.join(signs)}{more}"
        )

    def _named(self, sign: str) -> str:
        if sign == self._delimiter:
            return f"{sign!r}, which stands for the space between words: write a space"
        if sign in self._special:
            return f"{sign!r}, which is no text but a token of the vocabulary's own: leave it out"
        if self.tokenizer.get_vocab().get(sign, -1) >= self.outputs:
            many = f"which the tokenizer has and the model, of {self.outputs} outputs, has not"
            return f"{sign!r}, {many}: do they belong together?"
        return named(short(sign), self.normalise.signs)


def _places(rows: Sequence[str]) -> str:
    """Where a sign stands: the first places, and how many more."""
    more = f" and {len(rows) - 2} more" if len(rows) > 2 else ""
    return f" in {', '.join(rows[:2])}{more}"
