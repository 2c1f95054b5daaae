"""Pairs of sentences with people's scores of how alike they are: SemEval's STS, STS-B, SICK, or the user's own.

Source: Agirre et al., SemEval-2013 … 2016; Cer et al., STS benchmark (2017); Marelli et al., SICK (2014). All pairs of
a year are one set, whatever their subject, and make one score, which is SentEval's setting `all`. The departure from
the files: rows that were never labelled (2015, 2016) are left out, as in the shared tasks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilter.core import tables
from kilter.core.errors import suggest
from kilter.core.sources import lines
from kilter.data.assets import Located, locate
from kilter.data.text_rows import cell, read_rows, text_in

FIRST = ("sentence1", "sentence_1", "sentence_A", "text1", "text_1", "first", "anchor")
SECOND = ("sentence2", "sentence_2", "sentence_B", "text2", "text_2", "second", "positive")
SCORE = ("score", "similarity", "similarity_score", "relatedness_score", "label")
"""Names that the columns of scored pairs may have."""


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs and their scores, in the order of their source.

    Attributes:
        name: Of the set.
        first: A sentence of each pair.
        second: The other one.
        scores: How alike they are, by people, on any scale; more is more alike.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class _Set:
    """Where a set lies: files of an asset, and in which columns of these."""

    asset: str
    files: str
    score: int
    first: int
    header: int = 0


SICK = {"train": "SICK_train.txt", "dev": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}
"""The files of its parts."""
_SICK = {"score": 3, "first": 1, "header": 1}
SETS = {
    **{f"sts{year % 100}": _Set("sts", f"{year}/*.test.tsv", score=0, first=1) for year in range(2013, 2017)},
    "stsb": _Set("stsb", "sts-test.tsv", score=4, first=5),
    "stsb-dev": _Set("stsb", "sts-dev.tsv", score=4, first=5),
    "stsb-train": _Set("stsb", "sts-train.tsv", score=4, first=5),
    "sick-r": _Set("sick", SICK["test"], **_SICK),
    "sick-r-dev": _Set("sick", SICK["dev"], **_SICK),
    "sick-r-train": _Set("sick", SICK["train"], **_SICK),
    "sick-r-all": _Set("sick", "SICK_*.txt", **_SICK),
}
"""The sets by name; most papers score `sick-r`, the test part, some all of it."""
STANDARD = ("sts13", "sts14", "sts15", "sts16", "stsb", "sick-r")
"""What sentence encoders are judged on."""


def load_similarity(names: Iterable[str] = STANDARD) -> dict[str, ScoredPairs]:
    """Read sets by name.

    Args:
        names: Of `SETS`.

    Raises:
        ValueError: There is no such set, or a file is not what it should be.
        FileNotFoundError: A set is not here and cannot be fetched.
    """
    names = [*names]
    folders = locate_similarity(names)
    return {name: _load(name, folders[SETS[name].asset].path) for name in names}


def locate_similarity(names: Iterable[str] = STANDARD) -> dict[str, Located]:
    """The assets that sets are from, by the asset's name: where they are, and whom to credit.

    Raises:
        ValueError: There is no such set.
        FileNotFoundError: An asset is not here and cannot be fetched.
    """
    names = [*names]
    if strange := next((name for name in names if name not in SETS), None):
        raise ValueError(f"no set of scored pairs is called {strange!r}{suggest(strange, SETS)}")
    return {asset: locate(asset, progress=False) for asset in dict.fromkeys(SETS[name].asset for name in names)}


def read_scored_pairs(source: str) -> ScoredPairs:
    """Read the user's scored pairs.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson` with columns `sentence1`, `sentence2` and `score`, or others of
            `FIRST`, `SECOND` and `SCORE`; a pipe, or a hub id: see `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, a sentence is empty or no text, a score is no number, a pair
            stands there twice with two scores, or all scores are the same; the line is named.
    """
    wanted = {"sentence1": FIRST, "sentence2": SECOND, "score": SCORE}
    found: dict[tuple[str, str], tuple[float, str]] = {}
    rows = []
    for where, row in read_rows(source, wanted, what="scored pairs"):
        pair, score = (text_in(row, FIRST, where), text_in(row, SECOND, where)), _score(row, where)
        before, there = found.setdefault(pair, (score, where))
        if before != score:
            raise ValueError(f"{where}: the pair stands already in {there}, with score {before:g}; keep one of the two")
        rows.append((*pair, score))
    if len({score for *_, score in rows}) < 2:
        raise ValueError(
            f"{source}: all scores are {rows[0][2]:g}, so that nothing can agree with them; give the judges'"
        )
    return _pairs(Path(source).stem, rows)


def _score(row: dict[str, Any], where: str) -> float:
    if (found := cell(row, SCORE)) is None:
        has = ", ".join(map(repr, row))
        raise ValueError(
            f"{where}: needs a number in column 'score' (or {', '.join(SCORE[1:])}), has columns {has:.200}"
        )
    name, value = found
    score = tables.number(value)
    if score is None:
        raise ValueError(f"{where}: column {name!r} must hold a number, got {tables.shown(value)}; or remove the row")
    return score


def _load(name: str, folder: Path) -> ScoredPairs:
    files = sorted(folder.glob(SETS[name].files))
    rows = [row for file in files for row in _rows(file, SETS[name])]
    if not rows:
        raise ValueError(
            f"{folder / SETS[name].files}: holds no scored pairs; `kilter fetch {SETS[name].asset}` gets them"
        )
    return _pairs(name, rows)


def _rows(file: Path, place: _Set) -> Iterator[tuple[str, str, float]]:
    """The labelled rows."""
    for where, cells in tabbed(file, place.header):
        try:
            if cells[place.score]:
                yield cells[place.first].strip(), cells[place.first + 1].strip(), float(cells[place.score])
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{where}: no pair with its score ({error}); `kilter fetch {place.asset}` gets it anew"
            ) from error


def tabbed(file: Path, header: int = 0) -> Iterator[tuple[str, list[str]]]:
    """The rows below the header, each with where it stands and cut at tabs; quotation marks mean nothing."""
    for number, line in enumerate(lines(file.read_text("utf-8-sig")), start=1):
        if number > header and line.strip():
            yield f"{file}, line {number}", line.split("\t")


def _pairs(name: str, rows: Sequence[tuple[str, str, float]]) -> ScoredPairs:
    first, second, scores = zip(*rows, strict=True)
    return ScoredPairs(name, first, second, scores)
