"""Pairs of sentences that are classed or scored, in parts to learn from and to be judged on: STS-B, SICK, SNLI, yours.

Source: Cer et al., STS benchmark (2017); Marelli et al., SICK (2014); Bowman et al., SNLI (2015). The departure: of
SNLI the half million training pairs are not needed, for its development part is cut in two, one to learn from.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kilter.core import options, tables
from kilter.core.errors import suggest
from kilter.core.names import printable
from kilter.data.assets import Located, locate
from kilter.data.similarity import FIRST, SCORE, SECOND, SICK, load_similarity, tabbed
from kilter.data.text_rows import cell, read_rows, text_in

Split = Literal["train", "dev", "test"]
ENTAILMENT = ("contradiction", "entailment", "neutral")
"""The classes of SICK and SNLI, in the order of sentence-transformers' examples."""
SETS = {"stsb": "stsb", "sick-r": "sick", "sick-e": "sick", "snli": "snli"}
"""The sets by name, and the assets that they are from."""

_FIRST, _SECOND = (*FIRST, "premise", "question1"), (*SECOND, "hypothesis", "question2")
_SCORED = tuple(name for name in SCORE if name != "label")
_CLASSED = ("label", "class", "entailment", "gold_label", "is_duplicate")
_Value = float | str
_NOBODYS = -1.0
"""What stands for a class where the judges did not agree."""
_MOST = 50
_DENIES = re.compile(r"(?i)(no|not|non)([\W_]|$)")
_DEV = 5
"""Of SNLI's development part the pairs of every fifth premise are for development still."""


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs and their labels, in the order of their source.

    Attributes:
        name: Of the set.
        first: A sentence of each pair.
        second: The other one.
        labels: Scores on any scale; or of each pair the place of its class among `classes`.
        classes: Their names; None where labels are scores. Of two the second is the one that is looked for.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    labels: tuple[float | int, ...]
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)


# Public sets ----------------------------------------------------------------------------------------------------------


def load_labelled(name: str, split: Split) -> LabelledPairs:
    """Read a part of a public set.

    `stsb` and `sick-r` are scored, from 0 and 1 to 5; `sick-e` and `snli` have the classes of `ENTAILMENT`. The dev
    part of SICK is its trial part. The test part of SNLI is its own; to dev belong the pairs of every fifth premise of
    its development part, to train those of the others, without premises that are in the test part.

    Args:
        name: Of `SETS`.
        split: `train`, `dev` or `test`.

    Raises:
        ValueError: There is no such set or part, or a file is not what it should be.
        FileNotFoundError: The set is not here and cannot be fetched.
    """
    options.one_of("split", split, Split)
    asset, folder = SETS[_known(name)], locate_labelled([name])
    if name in ("stsb", "sick-r"):
        part = name if split == "test" else f"{name}-{split}"
        scored = load_similarity([part])[part]
        return LabelledPairs(name, scored.first, scored.second, scored.scores)
    rows = [*(_sick_e if name == "sick-e" else _snli)(folder[asset].path, split)]
    first, second, classes = zip(*rows, strict=True)
    return LabelledPairs(name, first, second, tuple(map(ENTAILMENT.index, classes)), ENTAILMENT)


def locate_labelled(names: Iterable[str]) -> dict[str, Located]:
    """The assets that sets are from, by the asset's name: where they are, and whom to credit.

    Raises:
        ValueError: There is no such set.
        FileNotFoundError: An asset is not here and cannot be fetched.
    """
    assets = [SETS[_known(name)] for name in names]
    return {asset: locate(asset, progress=False) for asset in dict.fromkeys(assets)}


def _known(name: str) -> str:
    if name not in SETS:
        raise ValueError(f"no set of labelled pairs is called {name!r}{suggest(name, SETS)}")
    return name


def _sick_e(folder: Path, split: Split) -> Iterator[tuple[str, str, str]]:
    for where, cells in tabbed(folder / SICK[split], header=1):
        _, *pair, _, judged = [one.strip() for one in cells[:5]] if len(cells) >= 5 else [""] * 5
        yield pair[0], pair[1], _judgement(judged.lower(), where, "sick")


def _snli(folder: Path, split: Split) -> Iterator[tuple[str, str, str]]:
    if split == "test":
        yield from _snli_part(folder, "test")
        return
    tested = {premise for premise, *_ in _snli_part(folder, "test")}
    places: dict[str, int] = {}
    for premise, hypothesis, judged in _snli_part(folder, "dev"):
        place = places.setdefault(premise, len(places))
        if premise not in tested and (place % _DEV == _DEV - 1) == (split == "dev"):
            yield premise, hypothesis, judged


def _snli_part(folder: Path, part: str) -> list[tuple[str, str, str]]:
    files = [folder / f"{side}.{part}" for side in ("s1", "s2", "labels")]
    sides = [file.read_text("utf-8").splitlines() for file in files]
    if len({*map(len, sides)}) > 1:
        raise ValueError(
            f"{folder}: {', '.join(file.name for file in files)} have {', '.join(str(len(side)) for side in sides)} "
            "lines, and line belongs to line; `kilter fetch snli` gets them anew"
        )
    rows = zip(*sides, strict=True)
    return [
        (premise.strip(), hypothesis.strip(), _judgement(judged.strip(), f"{files[2]}, line {number}", "snli"))
        for number, (premise, hypothesis, judged) in enumerate(rows, start=1)
    ]


def _judgement(judged: str, where: str, asset: str) -> str:
    if judged not in ENTAILMENT:
        raise ValueError(f"{where}: no pair with its class, got {judged!r}; `kilter fetch {asset}` gets it anew")
    return judged


# The user's own -------------------------------------------------------------------------------------------------------


def read_labelled_pairs(source: str) -> LabelledPairs:
    """Read the user's labelled pairs.

    A column `score` (or `similarity`, `similarity_score`, `relatedness_score`) holds numbers on any scale. A column
    `label` (or `class`, `entailment`, `gold_label`, `is_duplicate`) holds classes: names, true and false, or whole
    numbers; where one of its numbers is not whole, all are scores. A pair that stands there twice counts once, with
    a warning. Classes are in the order of their numbers, or alphabetical; of two names, one that begins with no,
    not or non is the first. Pairs with the label -1 beside two classes or more, which in data sets of the hub says
    that the judges did not agree, are left out with a warning.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson` with columns `sentence1`, `sentence2` and `score` or `label`,
            or other names of these; a pipe, or a hub id: see `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, a sentence is empty or no text, a label is missing or no
            label, a pair stands there twice with two labels, or all labels are the same; the line is named.
    """
    said, (column, rows) = printable(source), _read(source)
    values = {value for *_, value in rows}
    scored = column in _SCORED or not all(isinstance(value, str) or value % 1 == 0 for value in values)
    if not scored and _NOBODYS in values and len(values) > 2:
        there, rows = len(rows), [row for row in rows if row[2] != _NOBODYS]
        values.remove(_NOBODYS)
        warnings.warn(
            f"{said}: {there - len(rows)} of {there} pairs have the label -1, which is none; left out", stacklevel=2
        )
    if len(values) < 2:
        raise ValueError(
            f"{said}: all labels are {_said(*values)}, so that there is nothing to tell apart; give others"
        )
    first, second, labels = zip(*rows, strict=True)
    if scored:
        return LabelledPairs(Path(source).stem, first, second, labels)
    if len(values) > _MOST:
        raise ValueError(
            f"{said}: column {column!r} has {len(values)} classes, more than {_MOST}; if they are scores, call it score"
        )
    ordered = sorted(values, key=lambda value: (len(values) > 2 or not _DENIES.match(str(value)), value))
    places = {value: place for place, value in enumerate(ordered)}
    classes = tuple(map(_said, ordered))
    return LabelledPairs(Path(source).stem, first, second, tuple(places[label] for label in labels), classes)


def _read(source: str) -> tuple[str, list[tuple[str, str, _Value]]]:
    """The column of the labels, and the rows; all labels are numbers, or all names."""
    names, column, again = (*_SCORED, *_CLASSED), "", 0
    found: dict[tuple[str, str], tuple[_Value, str]] = {}
    rows: list[tuple[str, str, _Value]] = []
    for where, row in read_rows(source, {"first": _FIRST, "second": _SECOND, "label": names}, what="labelled pairs"):
        pair = text_in(row, _FIRST, where), text_in(row, _SECOND, where)
        column = column or _column(row, names, where)
        value = _value(row.get(column), column, where)
        before, there = found.setdefault(pair, (value, where))
        if rows and type(value) is not type(rows[0][2]):
            raise ValueError(
                f"{where}: column {column!r} must hold numbers or names, not both; got {_said(value)} after "
                f"{_said(rows[0][2])}"
            )
        if before != value:
            raise ValueError(f"{where}: the pair stands already in {there}, as {_said(before)}; keep one of the two")
        if there == where:
            rows.append((*pair, value))
        else:
            again += 1
    if again:
        warnings.warn(
            f"{printable(source)}: pairs that stand there a second time: {again}; each counts once", stacklevel=3
        )
    return column, rows


def _column(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    if (found := cell(row, names)) is None:
        has = ", ".join(map(repr, row))
        raise ValueError(f"{where}: needs a column 'score' or 'label' (or {', '.join(names[1:-1])}), has {has:.200}")
    return found[0]


def _value(value: Any, column: str, where: str) -> _Value:
    """A number as one, also out of a csv; else a name."""
    given = str(value).lower() if isinstance(value, bool) else value
    if given is None or (isinstance(given, str) and not given.strip()):
        raise ValueError(f"{where}: column {column!r} has no label; write one there, or remove the row")
    try:
        number = float(given)
    except (TypeError, ValueError, OverflowError):
        number = None
    named = number is None and isinstance(given, str) and column not in _SCORED
    if not named and not (number is not None and math.isfinite(number)):
        wanted = "a number" if column in _SCORED else "a number or a name"
        raise ValueError(f"{where}: column {column!r} must hold {wanted}, got {tables.shown(value)}; or remove the row")
    return given.strip() if number is None else number


def _said(value: _Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"
