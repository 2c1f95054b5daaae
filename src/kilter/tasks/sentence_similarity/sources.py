"""What encoders learn from and are judged on: Wikipedia's sentences and the STS sets, or the user's own files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from kilter.core.sources import check_reread
from kilter.lab.recipe import Provenance

if TYPE_CHECKING:
    from kilter.data.similarity import ScoredPairs

OWN = "pairs"
"""The metric of the user's own scored pairs."""
_VIEW = re.compile(r"(text|sentence|view|anchor|positive|content)(_?[0-9A-Za-z])?")
"""Columns of a table that are texts to learn from, e.g. `text`, `sentence_A`, `positive_2`."""


@dataclass(frozen=True)
class Texts:
    """What a run learns from and is judged on.

    Attributes:
        columns: one of sentences, or several whose rows mean the same.
        sets: scored pairs by the metric that they are judged by.
        provenance: where all of it is from.
    """

    columns: Mapping[str, Sequence[str]]
    sets: "Mapping[str, ScoredPairs]"
    provenance: Provenance

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def published(names: Sequence[str], note: str) -> Texts:
    """The Wikipedia sentences that SimCSE learns from, as far as they are at hand, and STS sets by name."""
    from kilter.data.sentences import locate_wikipedia, wikipedia_sentences

    credit = locate_wikipedia().credit()
    sets, judged_on = _sets(names)
    columns = _once({"sentence": [line.strip() for line in wikipedia_sentences()]})
    return Texts(columns, sets, Provenance(**{**credit, "note": " ".join(filter(None, (note, judged_on)))}))


def own_texts(train: str, judged_on: str | None, names: Sequence[str], note: str) -> Texts:
    """The user's sentences, judged on scored pairs of theirs or on STS sets.

    Where the STS sets cannot be had, there is nothing to judge on but how the vectors fill their space.

    Raises:
        ValueError: no such file, a pipe, or a table that is not what it should be.
    """
    check_reread("sentences", train=train, eval=judged_on)
    read = read_columns(train)
    columns = _once(read)
    try:
        sets, more = _judged(judged_on, names)
    except FileNotFoundError:
        sets, more = (
            {},
            "No scored pairs could be had, so that nothing says whether cosines follow meaning: give --eval.",
        )
    many, kept = (len(next(iter(found.values()))) for found in (read, columns))
    twice = [(train, f"{many - kept} rows stand there twice; each is learnt from once")] * (many > kept)
    credit = Provenance(
        f"your sentences: {kept}",
        source=", ".join(filter(None, (train, judged_on))),
        digest=_digest(columns, sets),
        note=" ".join(filter(None, (note, more))),
        skipped=twice,
    )
    return Texts(columns, sets, credit)


def judged_by_own(texts: Texts, judged_on: str) -> Texts:
    """The same to learn from, judged on the user's scored pairs."""
    check_reread("pairs", eval=judged_on)
    sets, _ = _judged(judged_on, ())
    before = texts.provenance
    digest = sha256(f"{before.digest} {_digest({}, sets)}".encode()).hexdigest()[:16]
    source = ", ".join((before.source, judged_on))
    return replace(texts, sets=sets, provenance=replace(before, source=source, digest=digest))


def read_columns(source: str) -> dict[str, list[str]]:
    """The text columns of the user's file: lines, or every column of a table with a name like text or sentence_2.

    Raises:
        ValueError: there is no such file, it is broken, a text is empty, or no column is one of texts.
    """
    from kilter.data.sentences import COLUMNS
    from kilter.data.text_rows import read_rows, text_in

    rows = [*read_rows(source, {"text": COLUMNS}, what="sentences", plain="line")]
    names = [name for name in rows[0][1] if _VIEW.fullmatch(name)]
    if len(names) < 2:
        return {"sentence": [text_in(row, names or COLUMNS, where) for where, row in rows]}
    return {name: [text_in(row, (name,), where) for where, row in rows] for name in names}


def some_of(texts: Texts, sentences: int, pairs: int) -> Texts:
    """At most so many sentences and pairs of each set, spread over all there are; 0 for all."""
    from kilter.data.similarity import ScoredPairs

    columns = {name: _spread(column, sentences) for name, column in texts.columns.items()}
    sets = {
        name: ScoredPairs(one.name, *(tuple(_spread(side, pairs)) for side in (one.first, one.second, one.scores)))
        for name, one in texts.sets.items()
    }
    return replace(texts, columns=columns, sets=sets)


def metric_of(name: str) -> str:
    """What figures on a set are called.

    Example:
        >>> metric_of("sick-r")
        'sick_r'
    """
    return name.replace("-", "_")


def _judged(judged_on: str | None, names: Sequence[str]) -> "tuple[dict[str, ScoredPairs], str]":
    """The user's own pairs, else the STS sets, and whom to credit."""
    if judged_on is None:
        return _sets(names)
    from kilter.data.similarity import read_scored_pairs

    return {OWN: read_scored_pairs(judged_on)}, ""


def _sets(names: Sequence[str]) -> "tuple[dict[str, ScoredPairs], str]":
    from kilter.data.assets import credits_of
    from kilter.data.similarity import load_similarity, locate_similarity

    found = {metric_of(name): pairs for name, pairs in load_similarity(names).items()}
    return found, credits_of([*locate_similarity(names)])


def _once(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Every row once: a sentence beside itself in a batch would be its own negative."""
    rows = dict.fromkeys(zip(*columns.values(), strict=True))
    return {name: [row[place] for row in rows if all(row)] for place, name in enumerate(columns)}


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    count = min(count or len(items), len(items))
    return [items[place * len(items) // count] for place in range(count)]


def _digest(columns: Mapping[str, Sequence[str]], sets: "Mapping[str, ScoredPairs]") -> str:
    return sha256(repr((sorted(columns.items()), sorted(sets.items(), key=str))).encode()).hexdigest()[:16]
