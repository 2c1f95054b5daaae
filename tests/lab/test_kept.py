"""What took long to make is kept by id, whatever separators of lines its texts hold."""

import json

from kilter.lab.files import read_rows, write_rows
from kilter.lab.kept import KeptRows


def test_rows_are_kept_by_id(tmp_path):
    kept = KeptRows(tmp_path / "new" / "rows.jsonl", {"a": (1, 2)})
    kept.add([{"id": "x", "n": 1}, {"id": "y", "n": 2}])
    again = KeptRows(tmp_path / "new" / "rows.jsonl", {"a": [1, 2]})
    assert again.rows == {"x": {"id": "x", "n": 1}, "y": {"id": "y", "n": 2}}
    again.add([{"id": "x", "n": 3}])
    assert KeptRows(tmp_path / "new" / "rows.jsonl", {"a": [1, 2]}).rows["x"]["n"] == 3
    assert json.loads((tmp_path / "new" / "rows.settings.json").read_text()) == {"a": [1, 2]}


def test_rows_with_the_line_separators_of_unicode_are_resumed(tmp_path):
    row = {"id": "x\u2028y", "texts": ["one\u2028two\x85three\x0bfour\x1cfive\u2029", "\r\n"]}
    KeptRows(tmp_path / "rows.jsonl", {}).add([row])
    assert KeptRows(tmp_path / "rows.jsonl", {}).rows == {row["id"]: row}
    write_rows(tmp_path / "others.jsonl", [row, row])
    assert read_rows(tmp_path / "others.jsonl") == [row, row]
