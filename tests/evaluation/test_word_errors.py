"""Error rates against a plain Levenshtein distance; texts from ids."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.evaluation.word_errors import (
    character_error_counts,
    character_error_rate,
    token_texts,
    weak_model_note,
    word_error_counts,
    word_error_rate,
)
from tests.speech.plain import distance

WORDS = st.lists(st.sampled_from(["one", "two", "on", "e"]), max_size=4).map(" ".join)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_as_plain_levenshtein(pairs: list[tuple[str, str]]) -> None:
    """Over all utterances, empty references and hypotheses included."""
    references, hypotheses = map(list, zip(*pairs, strict=True))
    words = sum(distance(r.split(), h.split()) for r, h in pairs), sum(len(r.split()) for r in references)
    characters = sum(distance(r, h) for r, h in pairs), sum(map(len, references))
    assert word_error_counts(references, hypotheses) == words
    assert character_error_counts(references, hypotheses) == characters
    if words[1]:
        assert word_error_rate(references, hypotheses) == pytest.approx(words[0] / words[1])
        assert character_error_rate(references, hypotheses) == pytest.approx(characters[0] / characters[1])


def test_spaces_do_not_count_as_words() -> None:
    assert word_error_counts([" one  two "], ["one two"]) == (0, 2)
    assert word_error_counts(["  "], ["one  two"]) == (2, 0)
    assert word_error_rate(["one"], ["one two three"]) == 2.0


@pytest.mark.parametrize("gap", ["\n", "\t", "\u00a0", "\u3000", "\u2028", " \r\n ", "\u200b"])
def test_any_white_space_parts_words(gap: str) -> None:
    assert word_error_counts([f"one{gap}two{gap}"], ["one two"]) == (0, 2)
    assert word_error_counts(["one two"], [f"one{gap}two"]) == (0, 2)
    assert character_error_counts([f"one{gap}two"], ["one two"]) == (0, 7)
    assert word_error_counts([gap], [f"one{gap}two"]) == (2, 0)


@pytest.mark.parametrize("text", ["tiếng việt", "çöğüt", "한글", "ऩमक", "άλφα", "été où"])
def test_letters_are_the_same_in_every_form(text: str) -> None:
    apart = unicodedata.normalize("NFD", text)
    assert apart != unicodedata.normalize("NFC", text)
    assert word_error_counts([text], [apart])[0] == character_error_counts([apart], [text])[0] == 0
    assert word_error_counts([text], [apart], keep=["unicode"])[0] > 0
    assert word_error_rate([text], [text.upper() + "x"]) == 1.0, "case and other letters count"


def test_white_space_can_be_kept() -> None:
    assert word_error_counts(["one\u00a0two"], ["one two"], keep=["whitespace"]) == (2, 1)


def test_a_weak_model_is_told_what_to_do() -> None:
    assert not any(weak_model_note(good) for good in (0.0, 0.15, 0.3, float("nan")))
    for weak in (0.31, 0.74, 1.8):
        said = weak_model_note(weak) or ""
        assert f"{round(100 * weak)} %: samples of such a model teach nothing" in said
        assert "--arms ctc" in said


def test_what_the_note_on_a_weak_model_names_are_options_of_the_run() -> None:
    from dataclasses import fields

    from kilter.recipes.align_with_purpose import RECIPE

    named = re.findall(r"--([a-z-]+)", weak_model_note(1.0) or "")
    assert {name.replace("-", "_") for name in named} <= {field.name for field in fields(RECIPE)}


def test_bad_input_is_named() -> None:
    for rate in (word_error_rate, character_error_rate):
        with pytest.raises(ValueError, match="2 references but 1 hypotheses; give one per utterance"):
            rate(["a", "b"], ["a"])
        with pytest.raises(ValueError, match=r"the references hold no (words|characters)"):
            rate([""], ["a"])
        with pytest.raises(ValueError, match="the references hold no"):
            rate([], [])


def test_texts_of_tokens() -> None:
    assert token_texts([[1, 2, 1], [], [2, 2, 1]], ["", "a", " "]) == ["a a", "", "a"]
    assert token_texts([[1, 2]], ["", "one", "two"]) == ["one two"]
    assert token_texts([[1, 2, 3]], ["", " on", "e", " two"]) == ["one two"]


def test_what_is_no_text_is_named(own_messages: None) -> None:
    with pytest.raises(ValueError, match="references must be a list of texts, got 'one'"):
        word_error_rate("one", ["one"])
    with pytest.raises(TypeError, match="utterance 1: hypotheses must hold texts, got int"):
        character_error_counts(["one", "two"], ["one", 2])  # type: ignore[list-item]
    for token in (3, -1):
        with pytest.raises(ValueError, match=f"utterance 1: rows hold token {token}, but the vocabulary has 3 entries"):
            token_texts([[1], [2, token]], ["", "a", " "])
