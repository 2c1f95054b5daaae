"""WikiText: articles told from headings and formulas, words as people write them, and the real ones."""

import os
from pathlib import Path

import pytest

from kilter.data.assets import ASSETS
from kilter.data.wikitext import PARTS, as_written, wikitext_articles

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "wikitext2"
TEXT = """ 
 = Some <unk> ( film ) = 
 
 It is a film , and a <unk> one . 
 A formula says
 = 1 k / s = 
 of it . 
 
 = = Plot = = 
 
 She says " no " . 
 
 = = = At the end = = = 
 
 = Empty = 
 
 = Rain = 
 
 It rains . 
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / PARTS["test"]).write_text(TEXT, "utf-8")
    return tmp_path


def test_articles_without_their_headings(folder: Path) -> None:
    first, second = wikitext_articles("test", folder=folder)
    assert first.split("\n\n") == [
        "It is a film, and a <unk> one.",
        "A formula says",
        "= 1 k / s =",
        "of it.",
        'She says "no".',
    ]
    assert second == "It rains."


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("1 @,@ 200 to 1 @.@ 5 km , a north @-@ south line", "1,200 to 1.5 km, a north-south line"),
        ("the film 's end ; they 're gone : why ?", "the film's end; they're gone: why?"),
        ("$ 5 [ sic ] or 10 %", "$5 [sic] or 10%"),
        ('he said " a " and " b "', 'he said "a" and "b"'),
        ("rock 'n' roll", "rock 'n' roll"),
    ],
)
def test_words_stand_as_people_write_them(theirs: str, ours: str) -> None:
    assert as_written(f" {theirs} ") == ours


def test_a_part_that_there_is_not_and_a_file_that_is_another(folder: Path) -> None:
    with pytest.raises(ValueError, match="read of valid or test, not 'train'"):
        wikitext_articles("train", folder=folder)
    with pytest.raises(ValueError, match=r"valid\.txt: no article in it; .*`kilter fetch wikitext2`"):
        wikitext_articles("valid", folder=folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real articles")
@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_real_articles(part) -> None:
    assert {*ASSETS["wikitext2"].checksums()} == {*PARTS.values()}
    found = wikitext_articles(part)
    assert len(found) == 60
    assert sum(map(len, found)) > 1_000_000
    assert not [one for one in found if " @-@ " in one or " , " in one]
