"""Pairs of texts as people keep them, and what is said of those that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from kilter.data.referenced import Referenced
from kilter.data.text_pairs import read_text_pairs


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(file)


def test_pairs_and_several_references(tmp_path: Path) -> None:
    found = read_text_pairs(
        written(tmp_path, [{"source": "a", "target": "b"}, {"document": "c", "references": ["d", "e"], "id": 1}])
    )
    assert found == [Referenced("a", ("b",)), Referenced("c", ("d", "e"))]


def test_a_csv_has_references_as_json(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text('source,references\nx,"[""y"", ""z""]"\n')
    assert read_text_pairs(str(tmp_path / "pairs.csv")) == [Referenced("x", ("y", "z"))]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"source": "a", "target": "b"}, {"source": "a", "target": " "}], "line 2.*the text is empty"),
        ([{"source": "a", "id": 1, "label": 2}], "column 'target'"),
        ([{"source": "a", "references": []}], "references"),
        ([{"source": "a", "references": ["b", 1]}], "must be a list of texts"),
        ([{"source": 3, "references": ["b"]}], "must hold a text"),
    ],
)
def test_bad_rows_are_named(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        read_text_pairs(written(tmp_path, rows))
