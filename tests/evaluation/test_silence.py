"""Words that look like an aligner's marks of silence: dropped from others' files, unless the text has them."""

import pytest

from kilter.evaluation.latency import Span
from kilter.evaluation.silence import marks_silence
from kilter.evaluation.word_times import WordTime, ctm, read_ctm, read_jsonl, read_textgrid, textgrid

TURKISH = [WordTime("tahtayı", 0.1, 0.6, 0.9), WordTime("sil", 0.6, 0.9, 0.8), WordTime("sp", 0.9, 1.0, 0.5)]
SPANS = [Span(word.word, word.start, word.end) for word in TURKISH]

THEIRS_CTM = "a 1 0.00 0.10 sil\na 1 0.10 0.50 tahtayı\na 1 0.60 0.30 sil\n"
THEIRS_GRID = '"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "words" 0 2 2 0 1 "Sil" 1 2 "{}"'


@pytest.mark.parametrize(
    ("label", "text", "silent"),
    [
        ("sil", "", True),
        ("<eps>", "one two", True),
        ("SP", "", True),
        ("", "", True),
        ("", "sil", True),
        ("Sil", "tahtayı SİL sil", False),
        ("sp", "the sp\u00a0of it", False),
        ("silk", "", False),
        ("silence", "", False),
    ],
)
def test_marks_and_words(label: str, text: str, silent: bool) -> None:
    assert marks_silence(label, text) == silent


def test_what_kilter_wrote_it_reads() -> None:
    assert read_ctm(ctm("a", TURKISH), "x") == {"a": [(*span[:2], pytest.approx(span.end)) for span in SPANS]}
    assert read_textgrid(textgrid(TURKISH, 1.5), "x") == SPANS
    assert read_textgrid(textgrid(TURKISH, 1.5).replace("\n", "\r\n"), "x") == SPANS
    line = '{"id": "a", "words": [{"word": "sil", "start": 0.0, "end": 1.0}]}'
    assert [word.token for word in read_jsonl(line, "x")["a"]] == ["sil"]


def test_what_others_wrote_goes_by_the_text() -> None:
    assert [word.token for word in read_ctm(THEIRS_CTM, "x")["a"]] == ["tahtayı"]
    assert len(read_ctm(THEIRS_CTM, "x", {"a": "Tahtayı sil"})["a"]) == 3
    assert [word.token for word in read_ctm(THEIRS_CTM, "x", {"b": "sil"})["a"]] == ["tahtayı"]
    grid = THEIRS_GRID.format("bak")
    assert [word.token for word in read_textgrid(grid, "x")] == ["bak"]
    assert [word.token for word in read_textgrid(grid, "x", "sil, bak")] == ["bak"]
    assert [word.token for word in read_textgrid(grid, "x", "sil bak")] == ["Sil", "bak"]
