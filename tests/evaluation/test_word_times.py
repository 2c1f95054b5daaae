"""What other tools must be able to read, byte by byte, and back; and other people's TextGrids."""

import json
import re

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
    span_of,
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


# What is of the wrong kind -----------------------------------------------------------------------------------------

GOOD = {"word": "yes", "start": 0.1, "end": 0.4}
WRONG = [
    ({"start": "0.1"}, "'0.1' for its start, which must be a number of seconds"),
    ({"end": None}, "None for its end"),
    ({"start": True}, "True for its start"),
    ({"start": float("nan")}, "a time that is not in seconds"),
    ({"end": float("inf")}, "a time that is not in seconds"),
    ({"end": float("-inf")}, "a time that is not in seconds"),
    ({"end": 10**400}, "a time that is not in seconds"),
    ({"start": -1}, "a time that is not in seconds"),
    ({"start": 1}, "ends before it starts"),
    ({"word": 7}, "7 for its word, which must be a text"),
    ({"word": ["yes"]}, "['yes'] for its word"),
    ({"word": ""}, "'' for its word"),
]


@pytest.mark.parametrize(("changed", "said"), WRONG)
def test_a_word_of_the_wrong_kind(changed: dict, said: str) -> None:
    with pytest.raises(ValueError, match=rf"in 'words' .*{re.escape(said)}"):
        span_of(GOOD | changed)
    for kind, where in ((".jsonl", "x, line 1"), (".json", "x, row 1")):
        text = json.dumps({"id": "a", "words": [GOOD, GOOD | changed]})
        with pytest.raises(ValueError, match=rf"^{where}: expected an object .*{re.escape(said)}"):
            read_jsonl(f"[{text}]" if kind == ".json" else text, "x", kind)


def test_whole_seconds_and_no_time_at_all_are_times() -> None:
    assert span_of({"word": "yes", "start": 0, "end": 0}) == Span("yes", 0.0, 0.0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": null, "words": []}', "got {'id': None, 'words': []}"),
        ('{"id": ["a"], "words": []}', "column 'id' must be a text or a number, got ['a']"),
        ('{"id": "a", "words": "yes"}', "'words': 'yes'"),
        ('{"id": "a", "words": [["yes", 0, 1]]}', "['yes', 0, 1] in 'words' is no object"),
        ('{"id": "a", "words": [], "words": []}', "'words' stands twice"),
        ('{"id": "b", "words": []}', "recording 'b' stands twice; keep one"),
        ("3", "got 3"),
        ('{"id": "\\ud800", "words": []}', "half of a letter"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_row_of_the_wrong_kind(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^x, line 2: .*{re.escape(said)}"):
        read_jsonl('{"id": "b", "words": []}\n' + line, "x")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a 1 nan 0.5 yes", "has a time that is not in seconds"),
        ("a 1 0.5 inf yes", "has a time that is not in seconds"),
        ("a 1 1e308 1e308 yes", "has a time that is not in seconds"),
        ("a 1 -0.5 0.5 yes", "has a time that is not in seconds"),
        ("a 1 0.5 -0.25 yes", "ends before it starts"),
        ("a 1 1_0 0.5 yes", "a number has no _"),
        pytest.param(f"a 1 {4000 * '5x'} 0.5 yes", "could not convert string to float: '5x5x", id="long time"),
        pytest.param(f"a 1 0.5 0.25 ice {4000 * 'x'}", "xxx' is no confidence", id="long confidence"),
        pytest.param(f"a 1 0.5 -1 {4000 * 'x'}", "xxx' ends before it starts", id="long word"),
        ("a 1 None 0.5 yes", "could not convert string to float: 'None'"),
        ("a 1 0.5 0.25 ice cream 0.9", "'cream' is no confidence; a word has no space in it"),
    ],
)
def test_a_line_of_a_ctm_of_the_wrong_kind(line: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^x, line 2: expected `file .*{re.escape(said)}") as error:
        read_ctm(f"a 1 0 0.5 7 NA\n{line}", "x")
    assert len(str(error.value)) < 400


def test_lines_of_old_macs() -> None:
    assert read_ctm("a 1 0 1 one\ra 1 1 1 two\r", "x") == {"a": [Span("one", 0, 1), Span("two", 1, 2)]}
    assert read_textgrid(SHORT.replace("\n", "\r"), "x") == read_textgrid(SHORT, "x")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("xmax = 0.3000", "xmax = 0.0500", "x, line 22: the word 'say' ends before it starts"),
        ("xmin = 0.1200\n            xmax = 0.3000", "xmin = -1\n xmax = 0.3", "x, line 22: the word 'say' has a time"),
        ("xmax = 0.3000", "xmax = 1e999", "the word 'say' has a time that is not in seconds"),
        ("xmax = 0.3000", "xmax = NaN", "x: not a TextGrid in Praat's text format (line 22: expected a number, got"),
        ('text = "say"', "text = 7", "(line 22: expected a text in quotes, got 7"),
        ("intervals: size = 4", "intervals: size = 3", "(line 26: it goes on behind its last tier)"),
        ("intervals: size = 4", "intervals: size = 5", "it ends too early"),
        ("intervals: size = 4", "intervals: size = -1", "-1 is no number of what follows"),
        ("intervals: size = 4", "intervals: size = 1e400", "inf is no number of what follows"),
        ("intervals: size = 4", "intervals: size = 3.5", "3.5 is no number of what follows"),
        ("IntervalTier", "WordTier", "(line 10: 'WordTier' is no kind of tier)"),
    ],
)
def test_a_textgrid_of_the_wrong_kind(old: str, new: str, said: str) -> None:
    assert old in TEXTGRID
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        read_textgrid(TEXTGRID.replace(old, new), "x")
    assert str(error.value).startswith("x")


PIECES = st.sampled_from(
    ["nan", "-1", "1e999", '"', "\n", " ", "7", "inf", "{", "[]", "null", ";;", "!", "<x>", "\u2028"]
)


@pytest.mark.parametrize("reader", [read_jsonl, read_ctm, read_textgrid])
@given(data=st.data())
def test_anything_is_words_or_an_error_with_the_file(reader, data: st.DataObject) -> None:
    sound = {read_jsonl: jsonl("a", "", WORDS) * 1 + jsonl("b", "", WORDS), read_ctm: CTM, read_textgrid: SHORT}[reader]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(sound)))
        end = data.draw(st.integers(start, min(len(sound), start + 8)))
        sound = sound[:start] + data.draw(PIECES | st.text(max_size=3) | st.just(sound[start:end] * 2)) + sound[end:]
    found, said = [], "x"
    try:
        read = reader(sound, "x")
        found = read if isinstance(read, list) else [span for spans in read.values() for span in spans]
    except ValueError as error:
        said = str(error)
    assert said.startswith("x")
    for span in found:
        assert span.token.strip()
        assert 0 <= span.start <= span.end < float("inf")
