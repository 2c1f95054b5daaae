"""XQuAD: questions with their answers' places, and contexts that grow by paragraphs without the answer."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from kilter.data.xquad import FILE, Question, count_bytes, with_distractors, xquad_questions

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "xquad"
ASKED = Question("q", "Who won?", "The Panthers won in 2015.", ("Panthers",), 4)
OTHERS = [f"In the year {year} it rained." for year in range(1900, 1920)] + ["The Panthers lost."]


def write(folder: Path, answers: list) -> Path:
    asked = {"id": "q1", "question": "Who won?", "answers": answers}
    paragraph = {"context": "The Panthers won in 2015.", "qas": [asked]}
    (folder / FILE).write_text(
        json.dumps({"version": "1", "data": [{"title": "A", "paragraphs": [paragraph]}]}), "utf-8"
    )
    return folder


def test_a_question_with_its_answers(tmp_path: Path) -> None:
    answers = [{"text": "Panthers", "answer_start": 4}, {"text": "Panthers", "answer_start": 4}]
    (found,) = xquad_questions(folder=write(tmp_path, answers))
    assert found == Question("q1", "Who won?", "The Panthers won in 2015.", ("Panthers",), 4)


@pytest.mark.parametrize("answers", [[], [{"text": "Panthers"}], "none"])
def test_a_file_that_is_another_is_named(tmp_path: Path, answers: list) -> None:
    with pytest.raises(ValueError, match=r"xquad\.en\.json: not XQuAD's questions .*`kilter fetch xquad`"):
        xquad_questions(folder=write(tmp_path, answers))


def test_an_answer_stands_where_it_says_and_a_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the answer of question q1 does not stand at character 5"):
        xquad_questions(folder=write(tmp_path, [{"text": "Panthers", "answer_start": 5}]))
    with pytest.raises(ValueError, match=r"not XQuAD's questions .*No such file"):
        xquad_questions(folder=tmp_path / "nowhere")


@given(tokens=st.integers(25, 700), seed=st.integers(0, 1000))
def test_a_long_context_fits_and_the_answer_stands_where_it_says(tokens: int, seed: int) -> None:
    found = with_distractors(ASKED, OTHERS, tokens=tokens, generator=Generator().manual_seed(seed))
    paragraphs = found.context.split("\n\n")
    assert count_bytes(found.context) <= tokens
    assert found.context.startswith("Panthers", found.start)
    assert found.context.count("Panthers") == 1
    assert len({*paragraphs}) == len(paragraphs)
    assert {*paragraphs} <= {ASKED.context, *OTHERS[:-1]}
    if len(paragraphs) < len(OTHERS):  # no other would have had room: all are of one length
        assert count_bytes(found.context) + len(OTHERS[0]) + 2 > tokens


def test_the_answers_place_is_drawn_and_a_generator_repeats_it() -> None:
    def place(seed: int) -> int:
        found = with_distractors(ASKED, OTHERS, tokens=145, generator=Generator().manual_seed(seed))
        return found.context.split("\n\n").index(ASKED.context)

    drawn = Counter(place(seed) for seed in range(200))
    assert [*sorted(drawn)] == [0, 1, 2, 3, 4]
    assert min(drawn.values()) > 20
    assert [place(seed) for seed in range(5)] == [place(seed) for seed in range(5)]


def test_tokens_are_counted_by_the_model_that_is_asked() -> None:
    found = with_distractors(ASKED, OTHERS, tokens=17, count=lambda text: len(text.split()))
    assert len(found.context.split()) == 17


def test_a_context_that_is_too_long_by_itself() -> None:
    with pytest.raises(ValueError, match="tokens=24: the context of question q alone has 25; allow as many"):
        with_distractors(ASKED, OTHERS, tokens=24)


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real questions")
def test_the_real_questions() -> None:
    found = xquad_questions()
    assert (len(found), len({one.context for one in found})) == (1190, 240)
    longer = with_distractors(
        found[0], [one.context for one in found], tokens=8000, generator=Generator().manual_seed(0)
    )
    assert 7000 < count_bytes(longer.context) <= 8000
    assert longer.context.startswith("308", longer.start)
