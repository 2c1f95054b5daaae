"""What other tools must be able to read, byte by byte, and back; and other people's TextGrids."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.evaluation.latency import Span
from kilter.evaluation.word_times import (
    WordTime,
    ctm,
    decode_text,
    jsonl,
    read_ctm,
    read_jsonl,
    read_textgrid,
    textgrid,
    utterance_key,
)

WORDS = [WordTime("say", 0.12, 0.3, 0.98765), WordTime('"yes"', 0.3, 0.5012, 0.5)]

CTM = """\
day_1/a 1 0.120 0.180 say 0.9877
day_1/a 1 0.300 0.201 "yes" 0.5000
"""

TEXTGRID = '''\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.7500
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.7500
        intervals: size = 4
        intervals [1]:
            xmin = 0.0000
            xmax = 0.1200
            text = ""
        intervals [2]:
            xmin = 0.1200
            xmax = 0.3000
            text = "say"
        intervals [3]:
            xmin = 0.3000
            xmax = 0.5012
            text = """yes"""
        intervals [4]:
            xmin = 0.5012
            xmax = 0.7500
            text = ""
'''

SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
3
"TextTier"
"clicks"
0
2
1
1.5
"a click"
"IntervalTier"
"ann - words"
0
2
2
0
0.9
"sil"
0.9
2
"late"
"IntervalTier"
"bob - words"
0
2
1
0
2
"early" ! a comment with a 7 in it
"""


def spans(words: list[WordTime]) -> list[Span]:
    return [Span(word.word, word.start, word.end) for word in words]


def test_ctm_byte_by_byte_and_back() -> None:
    assert ctm("day 1/a.wav", WORDS) == CTM
    assert read_ctm(CTM, "x") == {
        "day_1/a": [Span("say", 0.12, 0.3), Span('"yes"', 0.3, pytest.approx(0.501, abs=1e-9))]
    }


def test_textgrid_byte_by_byte_and_back() -> None:
    assert textgrid(WORDS, 0.75) == TEXTGRID
    assert read_textgrid(TEXTGRID, "x") == spans(WORDS)


def test_jsonl_and_back() -> None:
    line = jsonl("ä", 'say "yes"', WORDS)
    assert json.loads(line)["words"][0] == {"word": "say", "start": 0.12, "end": 0.3, "score": 0.9877}
    assert line.endswith("}\n")
    assert "ä" in line
    assert read_jsonl(line, "x") == {"ä": [Span("say", 0.12, 0.3), Span('"yes"', 0.3, 0.501)]}


def test_a_recording_without_words_is_one_pause() -> None:
    assert textgrid([], 0.75).count("text =") == 1
    assert read_textgrid(textgrid([], 0.75), "x") == []
    assert ctm("a", []) == ""


times = st.lists(st.integers(0, 9999), min_size=2, max_size=12, unique=True).map(
    lambda found: sorted(found[: len(found) // 2 * 2])
)
labels = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=8)


def pairs(edges: list[int]) -> list[tuple[int, int]]:
    return list(zip(edges[::2], edges[1::2], strict=True))


@given(times, st.data())
def test_what_is_written_is_read_by_us_and_by_others(edges: list[int], data: st.DataObject) -> None:
    words = [WordTime(data.draw(labels), start / 1000, end / 1000, 0.5) for start, end in pairs(edges)]
    assert read_textgrid(textgrid(words, 10.5), "x") == spans(words)
    assert read_jsonl(jsonl("a", "", words), "x")["a"] == spans(words)


def test_praatio_reads_it(tmp_path) -> None:
    praatio = pytest.importorskip("praatio.textgrid")
    (tmp_path / "a.TextGrid").write_text(textgrid(WORDS, 0.75), encoding="utf-8")
    found = praatio.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)
    tier = found.getTier("words")
    assert (found.minTimestamp, found.maxTimestamp) == (0, 0.75)
    assert [tuple(entry) for entry in tier.entries] == [
        (0, 0.12, ""),
        (0.12, 0.3, "say"),
        (0.3, 0.5012, '"yes"'),
        (0.5012, 0.75, ""),
    ]
    found.save(str(tmp_path / "b.TextGrid"), "short_textgrid", includeBlankSpaces=True)
    assert read_textgrid((tmp_path / "b.TextGrid").read_text(), "b") == spans(WORDS)


def test_short_format_points_comments_and_two_speakers() -> None:
    assert read_textgrid(SHORT, "x") == [Span("early", 0, 2), Span("late", 0.9, 2)]


def test_a_lone_tier_may_have_any_name() -> None:
    assert read_textgrid(TEXTGRID.replace('"words"', '"Sally"'), "x") == spans(WORDS)


def test_which_tier_is_asked_for() -> None:
    two = SHORT.replace(" - words", "")
    with pytest.raises(ValueError, match="x: no tier is called 'words'; its interval tiers: 'ann', 'bob'"):
        read_textgrid(two, "x")


@pytest.mark.parametrize(
    "text", ["", "words\n", TEXTGRID[:300], TEXTGRID.replace("0.3000", "soon"), '"ooTextFile" "Pitch"']
)
def test_what_is_no_textgrid(text: str) -> None:
    with pytest.raises(ValueError, match=r"x: not a TextGrid"):
        read_textgrid(text, "x")


def test_ctm_of_others() -> None:
    text = ";; comment\nb A 1.0 0.5 later\nb A 0.0 0.5 soo;;ner 0.9 lex\nc 1 0 1 <eps>\n"
    assert read_ctm(text, "x") == {"b": [Span("soo;;ner", 0.0, 0.5), Span("later", 1.0, 1.5)]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_others(encoding: str) -> None:
    assert decode_text("mūsų".encode(encoding), "x") == "mūsų"


def test_what_is_no_text() -> None:
    with pytest.raises(ValueError, match="x: is neither UTF-8 nor UTF-16"):
        decode_text(b"m\xfesu", "x")


@pytest.mark.parametrize("line", ["a 1 0.5", "a 1 soon 0.5 yes"])
def test_what_is_no_ctm(line: str) -> None:
    with pytest.raises(ValueError, match="x, line 1: expected `file channel"):
        read_ctm(line, "x")


@pytest.mark.parametrize("line", ["[]", "{}", '{"id": "a", "words": [{"word": "a"}]}', "{"])
def test_what_is_no_jsonl_of_words(line: str) -> None:
    with pytest.raises(ValueError, match="x, line 2: expected an object"):
        read_jsonl(f"\n{line}", "x")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.wav", "a"),
        ("x/a.b.FLAC", "x/a.b"),
        ("/etc/a.ogg", "etc/a"),
        ("../../a", "a"),
        (" a b ", "a_b"),
        ("x\\a", "x/a"),
    ],
)
def test_names_that_files_can_have(name: str, key: str) -> None:
    assert utterance_key(name) == key
