"""Which of two continuations people prefer: the human judgements that RankGen's authors published.

Source: martiansideofthemoon/rankgen, human-eval-data (Apache-2.0), 600 judgements of 200 pairs: nucleus sampling
against RankGen's own search, on novels and Wikipedia. The departure: a pair's verdict is that of most judges; the
two judgements that are no text (the authors drop them too) do not count.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preference:
    """One pair and its verdict."""

    id: str
    prefix: str
    preferred: str
    other: str
    source: str
    """pg19 or wiki"""


def load_judgements(folder: str | Path) -> list[Preference]:
    """Pairs on which most judges agree, in the order of the files.

    Raises:
        ValueError: The folder has no such file, or a file lacks a column; it is named.
    """
    files = sorted(Path(folder).glob("*.csv"))
    if not files:
        raise ValueError(f"{folder}: has no .csv of judgements; try `kilter fetch rankgen-judgements`")
    found: dict[str, tuple[dict[str, str], Counter[str]]] = {}
    for file in files:
        with file.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                try:
                    key, said = f"{file.stem}/{row['HITId']}", row["Answer.utterance"]
                    pair = {name: row[f"Input.{name}"] for name in ("Prefix", "First", "Second", "Dataset")}
                except KeyError as error:
                    raise ValueError(
                        f"{file}: has no column {error}; it is not RankGen's file of judgements"
                    ) from error
                votes = found.setdefault(key, (pair, Counter()))[1]
                if choice := chosen(said):
                    votes[choice] += 1
    return [
        Preference(
            key,
            pair["Prefix"],
            *((pair["First"], pair["Second"]) if votes["First"] > votes["Second"] else (pair["Second"], pair["First"])),
            pair["Dataset"],
        )
        for key, (pair, votes) in found.items()
        if votes["First"] != votes["Second"]
    ]


def chosen(said: str) -> str | None:
    """Which text a judge's words choose: `First`, `Second` or, of no words, None.

    Example:
        >>> chosen("Text 2 - it stays with the ship."), chosen("I choose Text 1"), chosen("Xcdsds")
        ('Second', 'First', None)
    """
    places = {name: said.lower().find(words) for name, words in (("First", "text 1"), ("Second", "text 2"))}
    places["First"] = max(places["First"], said.lower().find("test 1"))
    named = {name: place for name, place in places.items() if place >= 0}
    return min(named, key=lambda name: named[name]) if named else None
