"""One's own prompts with references: both formats, and errors that name the line."""

from pathlib import Path

import pytest

from kilter.data.referenced import Referenced, read_referenced, spread


def test_lines_of_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("One day\n\n  Two days \n", encoding="utf-8-sig")
    assert read_referenced(file) == [Referenced("One day"), Referenced("  Two days")]


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "One", "references": ["a", "b"]}\n{"prompt": "Two"}\n')
    assert read_referenced(file) == [Referenced("One", ("a", "b")), Referenced("Two")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: has no text under prompt"),
        ('{"prompt": " "}', "line 2: has no text under prompt"),
        ('{"text": "x"}', "line 2: has no text under prompt"),
        ('{"prompt": "x", "references": "y"}', "line 2: references must be a list"),
        ('{"prompt": "x", "references": [""]}', "line 2: references must be a list"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "One"}\n' + line + "\n")
    with pytest.raises(ValueError, match=said):
        read_referenced(file)


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        read_referenced(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match="holds no prompt"):
        read_referenced(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"H\xfcte\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_referenced(tmp_path / "latin.txt")


def test_a_part_is_spread_over_the_whole() -> None:
    items = [Referenced(str(place)) for place in range(10)]
    assert [item.source for item in spread(items, 5)] == ["0", "2", "4", "6", "8"]
    assert spread(items, 99) == items
    with pytest.raises(ValueError, match="count must be at least 1"):
        spread(items, 0)
