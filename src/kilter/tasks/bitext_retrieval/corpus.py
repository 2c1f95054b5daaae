"""What a run learns from and is judged on: documents of each language alone, and pairs of translations held out.

The one thing that matters: no translation leaks. A package that is judged on is learnt from in no language, one that is
learnt from in one language only, and a test sentence that stands in what is learnt from is left out.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from kilter.data.documents import Document
    from kilter.lab.recipe import Provenance

Split = Literal["test", "dev"]
Sentences = Sequence[str]
"""Of one document, in order."""


class Pair(NamedTuple):
    """A sentence and its translation in the pivot."""

    id: str
    foreign: str
    pivot: str


@dataclass(frozen=True)
class Corpus:
    """Documents by language, the pivot's first, and tests: by name, of each language its pairs.

    Attributes:
        documents: what is learnt from; a document is the list of its sentences.
        tests: what is judged on.
        provenance: where both are from.
        notes: what was left out of the tests.
    """

    documents: Mapping[str, Sequence[Sentences]]
    tests: Mapping[str, Mapping[str, Sequence[Pair]]]
    provenance: "Provenance"
    notes: Sequence[str] = field(default=())

    @property
    def languages(self) -> tuple[str, ...]:
        """All of them, the pivot first."""
        return tuple(self.documents)

    @property
    def pivot(self) -> str:
        """The language that all others are compared with."""
        return self.languages[0]

    def plain(self) -> dict[str, Any]:
        """All but where it is from, as JSON has it."""
        return {"documents": self.documents, "tests": self.tests, "notes": self.notes}

    @classmethod
    def from_plain(cls, kept: Mapping[str, Any], provenance: "Provenance") -> "Corpus":
        """What `plain` gave."""
        tests = {
            name: {language: [Pair(*pair) for pair in pairs] for language, pairs in test.items()}
            for name, test in kept["tests"].items()
        }
        return cls(kept["documents"], tests, provenance, kept["notes"])

    def sample(self, most: int) -> dict[str, list[str]]:
        """As many sentences of each language that is learnt from, for statistics; the same whoever asks."""
        found = {}
        for language, documents in self.documents.items():
            every = list(dict.fromkeys(sentence for document in documents for sentence in document))
            found[language] = random.Random(f"statistics {language}").sample(every, min(most, len(every)))
        return found


def part_of(name: str) -> Literal["train", "dev", "test"]:
    """To which part a package belongs, by a hash of its name: in a tenth one is judged, in a tenth settings are chosen.

    Example:
        >>> part_of("a"), part_of("b")
        ('test', 'train')
    """
    place = int(sha256(name.encode()).hexdigest()[:8], 16) % 10
    return {0: "test", 1: "dev"}.get(place, "train")  # type: ignore[return-value]


def shared_out(documents: "Mapping[str, Iterable[Document]]", most: int) -> dict[str, list[Sentences]]:
    """Documents to learn from: `most` of each language, and no package in two, so that nothing is parallel.

    The language with the fewest chooses first.
    """
    taken: set[str] = set()
    found: dict[str, list[Sentences]] = {}
    pools = {language: [one for one in some if len(one.sentences) > 1] for language, some in documents.items()}
    for language in sorted(pools, key=lambda one: (len(pools[one]), one)):
        free = [one for one in pools[language] if one.id not in taken]
        chosen = random.Random(f"documents {language}").sample(free, min(most, len(free)))
        taken.update(one.id for one in chosen)
        found[language] = [one.sentences for one in chosen]
    return {language: found[language] for language in pools}


@dataclass
class Count:
    """What became of the pairs that there were."""

    pairs: int = 0
    untranslated: int = 0
    repeated: int = 0
    learnt: int = 0

    def said(self, name: str) -> str:
        """A remark for the report; nothing where nothing was left out."""
        left_out = {
            "untranslated (the same string twice)": self.untranslated,
            "repeat another": self.repeated,
            "stand in what is learnt from": self.learnt,
        }
        shares = [f"{count / self.pairs:.1%} {why}" for why, count in left_out.items() if count]
        return f"{name}: of {self.pairs:,} pairs {', '.join(shares)}; they are left out." if shares else ""


def fit_to_judge(
    pairs: Iterable[Pair], language: str, pivot: str, most: int, learnt: Mapping[str, set[str]], count: Count
) -> list[Pair]:
    """`most` of the pairs of a language, without those that are no fair question.

    Left out is what is untranslated, what repeats a string of another pair (of two equal answers one would be wrong),
    and what stands in the documents that are learnt from.
    """
    seen: tuple[set[str], set[str]] = (set(), set())
    found = []
    for pair in pairs:
        keys = _key(pair.foreign), _key(pair.pivot)
        count.pairs += 1
        if keys[0] == keys[1]:
            count.untranslated += 1
        elif any(key in one for key, one in zip(keys, seen, strict=True)):
            count.repeated += 1
        elif keys[0] in learnt.get(language, ()) or keys[1] in learnt.get(pivot, ()):
            count.learnt += 1
        else:
            found.append(pair)
        for key, one in zip(keys, seen, strict=True):
            one.add(key)
    return random.Random(f"pairs {language}").sample(found, min(most, len(found)))


def learnt_strings(documents: Mapping[str, Iterable[Sentences]]) -> dict[str, set[str]]:
    """The sentences of each language, as `fit_to_judge` compares them."""
    return {language: {_key(one) for some in every for one in some} for language, every in documents.items()}


def _key(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .。:;,!")
