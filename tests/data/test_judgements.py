"""The published judgements: votes to verdicts, and files that are not theirs."""

import csv
from pathlib import Path

import pytest

from kilter.data.judgements import chosen, load_judgements

COLUMNS = ["HITId", "Input.Prefix", "Input.First", "Input.Second", "Input.Order", "Input.Dataset", "Answer.utterance"]


def write(file: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> None:
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([columns, *rows])


def votes(hit: str, *said: str) -> list[list[str]]:
    return [[hit, f"prefix {hit}", f"first {hit}", f"second {hit}", "beam,nucleus", "pg19", words] for words in said]


def test_most_votes_decide_and_ties_are_left_out(tmp_path):
    rows = votes("a", "Text 1: good", "text 1.", "Text 2!") + votes("b", "Text 2", "Test 1") + votes("c", "TEXT 2 - so")
    write(tmp_path / "one.csv", rows)
    found = load_judgements(tmp_path)
    assert [(one.id, one.preferred, one.other) for one in found] == [
        ("one/a", "first a", "second a"),
        ("one/c", "second c", "first c"),
    ]
    assert found[0].prefix == "prefix a"
    assert found[0].source == "pg19"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Text 1 is better than text 2", "First"),
        ("Neither is good, but I choose Text 2", "Second"),
        ("Xcdsds", None),
    ],
)
def test_what_a_judge_says(said, expected):
    assert chosen(said) == expected


def test_other_folders_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no \.csv of judgements; try `kilter fetch rankgen-judgements`"):
        load_judgements(tmp_path)
    write(tmp_path / "other.csv", [["a", "b"]], ["HITId", "text"])
    with pytest.raises(ValueError, match=r"other\.csv: has no column 'Answer\.utterance'"):
        load_judgements(tmp_path)
