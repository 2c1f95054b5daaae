"""Scored pairs: the public sets with their counts and MiniLM's published scores, and the user's own files."""

import json
import os
import re
from pathlib import Path

import pytest

from kilter.data import similarity
from kilter.data.similarity import SETS, load_similarity, read_scored_pairs

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere")
COUNTS = {
    "sts13": 1_500,
    "sts14": 3_750,
    "sts15": 3_000,
    "sts16": 1_186,
    "stsb": 1_379,
    "stsb-dev": 1_500,
    "stsb-train": 5_749,
    "sick-r": 4_927,
    "sick-r-dev": 500,
    "sick-r-train": 4_500,
    "sick-r-all": 9_927,
}
PUBLISHED = {"sts13": 80.60, "sts14": 75.59, "sts15": 85.39, "sts16": 78.99, "stsb": 82.03, "sick-r": 77.15}
"""MiniLM's Spearman × 100, as its makers and MTEB tell it; SICK's test part is ours, for they score all of it."""

needs_real = pytest.mark.skipif(not (REAL / "sts").is_dir(), reason="KILTER_DATA names no folder with the STS sets")


@needs_real
def test_every_set_has_the_pairs_that_its_makers_count() -> None:
    found = load_similarity(SETS)
    assert {name: len(pairs) for name, pairs in found.items()} == COUNTS
    for pairs in found.values():
        assert all(pairs.first)
        assert all(pairs.second)
        assert 0 <= min(pairs.scores) < max(pairs.scores) <= 5
        assert not any("\t" in text or text != text.strip() for text in pairs.first + pairs.second)
    assert found["sick-r"].scores[:2] == (3.3, 3.7)
    assert found["stsb"].first[0] == "A girl is styling her hair."


@pytest.fixture(scope="module")
def minilm():  # a dictionary of vectors, so that a sentence of several sets is read once
    from kilter.data.encoders import sentence_encoder

    try:
        encoder = sentence_encoder("minilm")
    except FileNotFoundError as error:
        pytest.skip(f"MiniLM is not here: {error}")
    known: dict = {}

    def vectors(texts):
        new = sorted({*texts} - known.keys(), key=len)
        known.update(zip(new, encoder.encode(new, batch_size=128), strict=True))
        return [known[text] for text in texts]

    return vectors


@pytest.mark.slow
@pytest.mark.host
@needs_real
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PUBLISHED)
def test_minilm_scores_what_its_makers_publish(name, minilm) -> None:
    """So that data, reader, pooling and scorer are right together."""
    import numpy as np
    from scipy.stats import spearmanr

    pairs = load_similarity([name])[name]
    first, second = (np.asarray(minilm(texts), dtype=np.float64) for texts in (pairs.first, pairs.second))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    assert lengths.min() > 0
    found = spearmanr((first * second).sum(1) / lengths, pairs.scores).statistic
    assert 100 * found == pytest.approx(PUBLISHED[name], abs=0.05)


def test_a_year_is_all_its_files_without_the_rows_that_nobody_scored(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "sts" / "2015"
    folder.mkdir(parents=True)
    (folder / "b.test.tsv").write_text('4.5\tHe said "no.\tShe agreed \n\tnever\tscored\n', "utf-8")
    (folder / "a.test.tsv").write_text("0\tone\ttwo\n\n", "utf-8")
    monkeypatch.setattr(similarity, "locate_similarity", lambda names: {"sts": Here(tmp_path / "sts")})
    pairs = load_similarity(["sts15"])["sts15"]
    assert (pairs.name, pairs.first, pairs.second) == ("sts15", ("one", 'He said "no.'), ("two", "She agreed"))
    assert pairs.scores == (0.0, 4.5)

    (folder / "a.test.tsv").write_text("0\tone\ttwo\nthree\tone\ttwo\n", "utf-8")
    with pytest.raises(ValueError, match=r"a\.test\.tsv, line 2: no pair with its score .* `kilter fetch sts`"):
        load_similarity(["sts15"])
    (folder / "a.test.tsv").write_text("0\tone\n", "utf-8")
    with pytest.raises(ValueError, match=r"a\.test\.tsv, line 1: no pair"):
        load_similarity(["sts15"])
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"holds no scored pairs; `kilter fetch sts`"):
        load_similarity(["sts15"])


class Here:
    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_set_of_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no set of scored pairs is called 'sts12'; did you mean 'sts1\d'"):
        load_similarity(["sts12"])
    with pytest.raises(ValueError, match="'glue'; there are: sts13, "):
        load_similarity(["glue"])


ROWS = [("A ship sails.", "A vessel, at sea.", 4.2), ("A dog barks.", "Multiply both sides.", 0)]
NAMES = [
    ("sentence1", "sentence2", "score"),
    ("sentence_A", "sentence_B", "relatedness_score"),
    ("text1", "text2", "similarity"),
    ("first", "second", "label"),
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
def test_the_users_pairs_under_the_names_that_people_give_them(tmp_path, kind, names) -> None:
    rows = [dict(zip(names, row, strict=True)) for row in ROWS]
    lines = "\n".join(json.dumps(row) for row in rows)
    quoted = "\n".join(",".join(f'"{cell}"' for cell in row) for row in [names, *ROWS])
    text = {"csv": quoted, "json": json.dumps(rows), "jsonl": lines}[kind]
    (tmp_path / f"pairs.{kind}").write_text(text, "utf-8")
    found = read_scored_pairs(str(tmp_path / f"pairs.{kind}"))
    assert found.name == "pairs"
    assert [*zip(found.first, found.second, found.scores, strict=True)] == ROWS


def test_a_pair_that_stands_twice_with_one_score_counts_twice(tmp_path) -> None:
    (tmp_path / "p.csv").write_text("sentence1,sentence2,score\na,b,1\na,b,1.0\nb,a,2\n", "utf-8")
    assert read_scored_pairs(str(tmp_path / "p.csv")).scores == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "sentence1,sentence2\na,b\n", "p.csv, line 2: needs a number in column 'score' (or similarity, "),
        ("p.csv", "sentence1,score\na,1\n", "p.csv, line 2: needs a text in column 'sentence2' (or sentence_2, "),
        ("p.csv", "sentence1,sentence2,score\na,b,nan\n", "line 2: column 'score' must hold a number, got 'nan'"),
        ("p.csv", "sentence1,sentence2,score\na,b,\n", "line 2: column 'score' must hold a number, got ''"),
        ("p.csv", "sentence1,sentence2,score\na,b,high\n", "line 2: column 'score' must hold a number, got 'high'"),
        ("p.csv", "sentence1,sentence2,score\n,b,1\n", "line 2: the text is empty"),
        ("p.csv", "sentence1,sentence2,score\na,b,1\n", "p.csv: all scores are 1, so that nothing can agree"),
        ("p.csv", "sentence1,sentence2,score\na,b,1\nc,d,3\na,b,2\n", "line 4: the pair stands already in"),
        ("p.csv", "sentence1;sentence2;score\na;b;1\n", "the columns stand between semicolons"),
        ("p.csv", "sentence1,sentence2,score\n", "p.csv: holds no scored pairs; give one a row"),
        ("p.jsonl", '{"sentence1": "a", "sentence2": 3, "score": 1}', "column 'sentence2' must hold a text, got 3"),
        ("p.jsonl", '{"sentence1": "a", "sentence2": "b", "score": NaN}', "must hold a number, got nan"),
        ("p.jsonl", '{"sentence1": "a", "sentence2": "b", "score": Infinity}', "must hold a number, got inf"),
        ("p.jsonl", '{"sentence1": "a", "sentence2": "b", "score": true}', "must hold a number, got True"),
        ("p.jsonl", '{"sentence1": "a", "sentence2": "b", "score": [1]}', "must hold a number, got [1]"),
        ("p.tsv", "a\tb\t1\n", "p.tsv: a file of scored pairs ends in .csv, .json, .jsonl, .ndjson; rename or convert"),
        ("p.txt", "a\tb\t1\n", "p.txt: a file of scored pairs ends in .csv"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, said) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(ValueError, match=re.escape(said)):
        read_scored_pairs(str(tmp_path / name))
