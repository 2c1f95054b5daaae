"""Labelled pairs: the parts of the public sets, and the user's own as people label them."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kilter.data import assets
from kilter.data.labelled_pairs import (
    ENTAILMENT,
    SETS,
    LabelledPairs,
    load_labelled,
    locate_labelled,
    read_labelled_pairs,
)

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere")
PARTS = ("train", "dev", "test")
COUNTS = {
    "stsb": (5_749, 1_500, 1_379),
    "sick-r": (4_500, 500, 4_927),
    "sick-e": (4_500, 500, 4_927),
    "snli": (7_878, 1_961, 9_824),
}

needs_real = pytest.mark.skipif(not (REAL / "snli").is_dir(), reason="KILTER_DATA names no folder with SNLI")


@needs_real
@pytest.mark.parametrize("name", SETS)
def test_every_part_has_the_pairs_that_its_makers_count(name: str) -> None:
    parts = [load_labelled(name, part) for part in PARTS]
    assert tuple(map(len, parts)) == COUNTS[name]
    for pairs in parts:
        assert pairs.name == name
        assert len(pairs.first) == len(pairs.second) == len(pairs)
        assert all(pairs.first)
        assert all(pairs.second)
        if pairs.classes is None:
            assert 0 <= min(pairs.labels) < max(pairs.labels) == 5
        else:
            assert {*pairs.labels} == {0, 1, 2}
            assert pairs.classes == ENTAILMENT


@needs_real
def test_classes_are_those_of_the_files() -> None:
    judged = Counter((REAL / "snli" / "labels.test").read_text("utf-8").split())
    pairs = load_labelled("snli", "test")
    assert Counter(ENTAILMENT[int(label)] for label in pairs.labels) == judged
    sick = load_labelled("sick-e", "dev")
    assert (sick.first[0], sick.second[0]) == (
        "The young boys are playing outdoors and the man is smiling nearby",
        "There is no boy playing outdoors and there is no man smiling",
    )
    assert ENTAILMENT[int(sick.labels[0])] == "contradiction"
    assert load_labelled("sick-r", "dev").first == sick.first


@needs_real
def test_no_premise_of_snli_stands_in_two_parts() -> None:
    premises = [{*load_labelled("snli", part).first} for part in PARTS]
    assert not premises[0] & premises[1]
    assert not (premises[0] | premises[1]) & premises[2]


SICK = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"


@pytest.fixture
def made(tmp_path, monkeypatch) -> Path:
    """A folder with small files in the form of SICK and SNLI."""
    for asset in ("sick", "snli"):
        (tmp_path / asset).mkdir()
    monkeypatch.setattr(assets, "verify", lambda asset, folder: None)
    monkeypatch.setenv("KILTER_DATA", str(tmp_path))
    (tmp_path / "sick" / "SICK_train.txt").write_text(f'{SICK}1\tHe said "no.\tShe agreed \t3.5\tNEUTRAL\n', "utf-8")
    for part, premises in (("dev", "abcdefghij"), ("test", "xyb")):
        rows = [premise for premise in premises for _ in ENTAILMENT]
        (tmp_path / "snli" / f"s1.{part}").write_text("".join(f"{row} \n" for row in rows), "utf-8")
        (tmp_path / "snli" / f"s2.{part}").write_text("".join(f"{at}\n" for at in range(len(rows))), "utf-8")
        (tmp_path / "snli" / f"labels.{part}").write_text("\n".join(ENTAILMENT * len(premises)) + "\n", "utf-8")
    return tmp_path


def test_the_development_part_of_snli_is_cut_by_premises(made) -> None:
    assert {*load_labelled("snli", "test").first} == {*"xyb"}
    assert {*load_labelled("snli", "dev").first} == {*"ej"}
    train = load_labelled("snli", "train")
    assert "".join(dict.fromkeys(train.first)) == "acdfghi"  # b is in the test part
    assert train.second[:4] == ("0", "1", "2", "6")
    assert train.labels[:4] == (0, 1, 2, 0)


def test_quotation_marks_mean_nothing_in_sick(made) -> None:
    assert load_labelled("sick-e", "train") == LabelledPairs(
        "sick-e", ('He said "no.',), ("She agreed",), (2,), ENTAILMENT
    )
    assert load_labelled("sick-r", "train").labels == (3.5,)


@pytest.mark.parametrize("row", ["1\ta\tb\t3.5\tMAYBE", "1\ta\tb\t3.5", "a"])
def test_a_row_of_sick_without_its_class_is_named(made, row) -> None:
    (made / "sick" / "SICK_train.txt").write_text(f"{SICK}{row}\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"SICK_train\.txt, line 2: no pair with its class, got .* `kilter fetch sick`"
    ):
        load_labelled("sick-e", "train")


def test_files_of_snli_that_do_not_belong_together_are_named(made) -> None:
    (made / "snli" / "labels.test").write_text("neutral\n-\n", "utf-8")
    with pytest.raises(ValueError, match=r"s1\.test, s2\.test, labels\.test have 9, 9, 2 lines, and line belongs to"):
        load_labelled("snli", "test")
    (made / "snli" / "labels.test").write_text("neutral\n" * 8 + "-\n", "utf-8")
    with pytest.raises(ValueError, match=r"labels\.test, line 9: no pair with its class, got '-'"):
        load_labelled("snli", "train")


def test_sets_and_parts_of_other_names_are_refused_with_those_there_are(made, own_messages) -> None:
    with pytest.raises(ValueError, match="no set of labelled pairs is called 'sick'; did you mean 'sick-"):
        load_labelled("sick", "test")
    with pytest.raises(ValueError, match="'mrpc'; there are: stsb, sick-r, sick-e, snli"):
        locate_labelled(["mrpc"])
    with pytest.raises(ValueError, match="split must be one of train, dev, test, got 'validation'"):
        load_labelled("snli", "validation")  # type: ignore[arg-type]


def test_each_asset_is_found_once(made) -> None:
    assert [*locate_labelled(["sick-r", "snli", "sick-e"])] == ["sick", "snli"]


# The user's own -------------------------------------------------------------------------------------------------------

SENTENCES = [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]


def written(folder: Path, labels: list[Any], column: str = "label", kind: str = "jsonl") -> str:
    rows = [
        {"sentence1": first, "sentence2": second, column: label}
        for (first, second), label in zip(SENTENCES, labels, strict=False)
    ]
    text = "\n".join(map(json.dumps, rows))
    if kind == "csv":
        text = "\n".join([f"sentence1,sentence2,{column}", *(",".join(map(str, row.values())) for row in rows)])
    (folder / f"own.{kind}").write_text(json.dumps(rows) if kind == "json" else text, "utf-8")
    return str(folder / f"own.{kind}")


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
@pytest.mark.parametrize(
    ("column", "given", "labels", "classes"),
    [
        ("label", [1, 0, 0, 1], (1, 0, 0, 1), ("0", "1")),
        ("label", [2, 0, 5, 2], (1, 0, 2, 1), ("0", "2", "5")),
        ("label", [-1, 1, 1, -1], (0, 1, 1, 0), ("-1", "1")),
        ("is_duplicate", [True, False, False, True], (1, 0, 0, 1), ("false", "true")),
        ("label", ["yes", "no", "yes", "no"], (1, 0, 1, 0), ("no", "yes")),
        ("label", ["equivalent", "not_equivalent", "equivalent"], (1, 0, 1), ("not_equivalent", "equivalent")),
        ("class", ["duplicate", "non-duplicate", "duplicate"], (1, 0, 1), ("non-duplicate", "duplicate")),
        ("label", ["normal", "odd", "odd"], (0, 1, 1), ("normal", "odd")),
        ("gold_label", ["neutral", "entailment", "contradiction"], (2, 1, 0), ENTAILMENT),
        ("label", ["b", "not a", "a"], (1, 2, 0), ("a", "b", "not a")),
        ("score", [1, 0, 0, 1], (1.0, 0.0, 0.0, 1.0), None),
        ("label", [1, 0.5, 0, -1], (1.0, 0.5, 0.0, -1.0), None),
        ("relatedness_score", [4.5, 1, 3, 3], (4.5, 1.0, 3.0, 3.0), None),
    ],
)
def test_labels_as_people_have_them(tmp_path, kind, column, given, labels, classes) -> None:
    if kind == "csv":  # as spreadsheets write them
        given = [str(one).upper() if isinstance(one, bool) else one for one in given]
        classes = ("FALSE", "TRUE") if classes == ("false", "true") else classes
    found = read_labelled_pairs(written(tmp_path, given, column, kind))
    assert (found.name, found.labels, found.classes) == ("own", labels, classes)
    assert [*zip(found.first, found.second, strict=True)] == SENTENCES[: len(given)]


@pytest.mark.parametrize("names", [("premise", "hypothesis"), ("question1", "question2"), ("sentence_A", "sentence_B")])
def test_sentences_under_the_names_that_people_give_them(tmp_path, names) -> None:
    rows = [dict(zip((*names, "label"), row, strict=True)) for row in (("a", "b", 0), ("c", "d", 1))]
    (tmp_path / "own.json").write_text(json.dumps(rows), "utf-8")
    found = read_labelled_pairs(str(tmp_path / "own.json"))
    assert (found.first, found.second) == (("a", "c"), ("b", "d"))


def test_pairs_on_which_the_judges_did_not_agree_are_left_out_aloud(tmp_path) -> None:
    with pytest.warns(UserWarning, match=r"own\.jsonl: 1 of 4 pairs have the label -1, which is none; left out"):
        found = read_labelled_pairs(written(tmp_path, [0, -1, 1, 0]))
    assert (found.first, found.labels, found.classes) == (("a", "e", "g"), (0, 1, 0), ("0", "1"))


def test_a_pair_that_stands_twice_counts_once(tmp_path) -> None:
    (tmp_path / "own.csv").write_text("sentence1,sentence2,label\na,b,1\na,b,1.0\nb,a,0\n", "utf-8")
    with pytest.warns(UserWarning, match="pairs that stand there a second time: 1; each counts once"):
        assert read_labelled_pairs(str(tmp_path / "own.csv")).labels == (1, 0)


@pytest.mark.parametrize(
    ("column", "given", "said"),
    [
        ("label", [1, 1, 1], "own.jsonl: all labels are 1, so that there is nothing to tell apart"),
        ("score", [0.5, 0.5], "own.jsonl: all labels are 0.5, so that"),
        ("label", [1, None], "own.jsonl, line 2: column 'label' has no label; write one there, or remove the row"),
        ("label", ["yes", " "], "line 2: column 'label' has no label"),
        ("label", ["yes", 1], "line 2: column 'label' must hold numbers or names, not both; got 1 after yes"),
        ("label", [1, "yes"], "line 2: column 'label' must hold numbers or names, not both; got yes after 1"),
        ("score", [1, "high"], "line 2: column 'score' must hold a number, got 'high'; or remove the row"),
        ("score", [1, float("nan")], "line 2: column 'score' must hold a number, got nan"),
        ("label", [1, float("inf")], "line 2: column 'label' must hold a number or a name, got inf"),
        ("score", [1, 10**400], "line 2: column 'score' must hold a number, got 1000"),
        ("label", [1, [0]], "line 2: column 'label' must hold a number or a name, got [0]"),
        ("label", ["yes", {"no": 1}], "line 2: column 'label' must hold a number or a name, got {'no': 1}"),
        ("verdict", [1, 0], "line 1: needs a column 'score' or 'label' (or similarity, "),
    ],
)
def test_labels_that_are_none_are_named(tmp_path, column, given, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_labelled_pairs(written(tmp_path, given, column))


def test_a_pair_with_two_labels_is_named(tmp_path) -> None:
    (tmp_path / "own.csv").write_text("sentence1,sentence2,label\na,b,yes\nc,d,no\na,b,no\n", "utf-8")
    with pytest.raises(ValueError, match=r"own\.csv, line 4: the pair stands already in .*line 2, as yes; keep one"):
        read_labelled_pairs(str(tmp_path / "own.csv"))


def test_a_column_of_texts_or_of_whole_scores_is_no_column_of_classes(tmp_path) -> None:
    lines = [f'{{"sentence1": "a{at}", "sentence2": "b", "label": {at}}}' for at in range(51)]
    (tmp_path / "own.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(
        ValueError, match="column 'label' has 51 classes, more than 50; if they are scores, call it score"
    ):
        read_labelled_pairs(str(tmp_path / "own.jsonl"))


def test_a_row_without_the_label_that_others_have_is_named(tmp_path) -> None:
    (tmp_path / "own.jsonl").write_text(
        '{"sentence1": "a", "sentence2": "b", "label": 1}\n{"sentence1": "c", "sentence2": "d", "score": 0}\n', "utf-8"
    )
    with pytest.raises(ValueError, match=r"line 2: column 'label' has no label"):
        read_labelled_pairs(str(tmp_path / "own.jsonl"))
