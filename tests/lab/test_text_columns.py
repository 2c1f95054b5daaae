"""Texts side by side: well-formed, escaped, every word there, new words marked."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from kilter.lab.text_columns import text_columns

COLUMNS = {"Beam <1>": ["a red bus", "a red bus & car"], "DBS": ["the blue hat " * 20, ""]}


def test_it_is_an_image_that_says_what_it_shows() -> None:
    root = ElementTree.fromstring(text_columns("name[<X>]", COLUMNS))
    tags = {element.tag.rpartition("}")[2]: element for element in root}
    assert root.get("role") == "img"
    assert tags["title"].text == "name[<X>]"
    assert "Beam <1>: a red bus / a red bus & car" in str(tags["desc"].text)


def test_every_word_is_there_and_lines_stay_in_their_column() -> None:
    root = ElementTree.fromstring(text_columns("prompt", COLUMNS))
    lines = [("".join(element.itertext()), float(element.get("x", 0))) for element in root.iter() if element.get("x")]
    assert sum(line.split().count("hat") for line, x in lines if x > 0) == 20
    assert all(len(line) < 80 for line, _ in lines)
    assert ("(empty)", lines[-1][1]) in lines
    ys = [float(element.get("y", 0)) for element in root.iter() if element.get("y")]
    assert max(ys) < float(root.get("height", 0))


def test_words_not_seen_above_are_new() -> None:
    svg = text_columns("p", {"a": ["One two", "one two three", "two three"]})
    assert re.findall(r'class="new"[^>]*>(\w+)<', svg) == ["One", "two", "three"]


def test_a_column_without_texts() -> None:
    with pytest.raises(ValueError, match="each needs at least one text"):
        text_columns("p", {"a": []})
