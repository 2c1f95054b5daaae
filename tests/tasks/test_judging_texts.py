"""Rows of judged texts: order, figures by hand, and inputs that lack something."""

from typing import Any

import pytest
import torch

from kilter.data.referenced import Referenced
from kilter.lab.totals import means
from kilter.models.small_seq2seq import pair_tokenizer, small_seq2seq
from kilter.models.text_decoding import decoding
from kilter.models.text_model import TextModel
from kilter.tasks.several_answers.judging import judge_texts, write_texts

pytestmark = pytest.mark.host


def outputs(*texts: str) -> list[dict]:
    return [{"text": text, "log_prob": -float(place), "score": 0.0, "group": 0} for place, text in enumerate(texts)]


def test_figures_of_one_input_by_hand() -> None:
    item = Referenced("x", ("a red bus is here", "one bus"))
    (row,) = judge_texts([item], [outputs("no such thing at all", "a red bus is here", "a red bus is here")])
    figures = {name: value for name, (value, _) in row["totals"].items()}
    assert figures["log_prob"] == 0
    assert figures["repeated"] == pytest.approx(1 / 3)
    assert figures["distinct_1"] == 10 / 15
    assert figures["distinct_4"] == 4 / 15
    assert row["bleu"][1] == 100
    assert figures["oracle_1"] == pytest.approx(row["bleu"][0], abs=1e-3)
    assert "oracle_5" not in figures


def test_a_row_shows_the_input_with_its_values() -> None:
    item = Referenced("name[NAME]", values={"NAME": "The Mill"})
    assert judge_texts([item], [outputs("a bus")])[0]["prompt"] == "name[The Mill]"


def test_the_oracle_chooses_from_the_first_ones() -> None:
    found = outputs(*(f"word{place} and more of it" for place in range(5)), "the very words of the reference")
    (row,) = judge_texts([Referenced("x", ("the very words of the reference",))], [found])
    assert row["totals"]["oracle_5"][0] < 20
    found = found[1:]
    (row,) = judge_texts([Referenced("x", ("the very words of the reference",))], [found])
    assert row["totals"]["oracle_5"][0] == pytest.approx(100)


def test_without_references_or_words_there_is_no_such_figure() -> None:
    (row,) = judge_texts([Referenced("x")], [outputs("", "")])
    assert row["totals"].keys() == {"log_prob", "repeated"}
    rows = judge_texts([Referenced("x"), Referenced("y", ("b",))], [outputs("a"), outputs("b")])
    assert means(rows, ["distinct_1"])["distinct_1"] == 100
    assert means(rows)["oracle_1"] == pytest.approx(100)


@pytest.fixture(scope="module")
def text() -> TextModel:
    torch.manual_seed(0)
    tokenizer = pair_tokenizer(["NAME is a red bus near the cat", "a dog and a blue hat"], entries=80)
    model = small_seq2seq(tokenizer, hidden_size=16, layers=1)
    with torch.no_grad():
        model.model.shared.weight.mul_(3)  # untrained, but loud enough to say one thing rather than another
    return TextModel(model.eval(), tokenizer)


ITEMS = [
    Referenced("a dog", values={"NAME": "The Mill"}),
    Referenced("NAME is a red bus near the cat and a dog and a hat"),
    Referenced("blue hat"),
]


@pytest.mark.parametrize("decoder", ["beam", "sample"])
def test_batches_change_nothing(text: TextModel, decoder: str) -> None:
    beams = {"num_beams": 4, "keep": 4, "length_penalty": 0.0}
    options = beams if decoder == "beam" else {"n": 4, "temperature": 1.0, "top_p": 0.9, "top_k": 0}
    write = decoding(text, decoder, options, max_new_tokens=6)
    alone, together = (
        write_texts(text, write, ITEMS, seed=1, batch_size=size, max_new_tokens=6) for size in (1, len(ITEMS))
    )
    assert [[one["text"] for one in found] for found in alone] == [[one["text"] for one in found] for found in together]
    for found in together:
        assert [one["log_prob"] for one in found] == sorted((one["log_prob"] for one in found), reverse=True)
    assert not any("NAME" in one["text"] for one in together[0])


def test_values_are_put_into_the_texts(text: TextModel) -> None:
    told = write_texts(
        text,
        lambda rows, seeds: [outputs("NAME  is\na bus") for _ in rows],
        ITEMS[:1],
        seed=0,
        batch_size=2,
        max_new_tokens=4,
    )
    assert told[0][0]["text"] == "The Mill is a bus"


def test_an_input_that_does_not_fit_is_named(text: TextModel) -> None:
    long = Referenced(" ".join(["dog"] * 300))
    with pytest.raises(ValueError, match="input 1: the prompt has"):
        write_texts(text, lambda rows, seeds: [], [ITEMS[0], long], seed=0, batch_size=1, max_new_tokens=4)


def test_inputs_that_do_not_fit_into_memory_together_are_parted(text: TextModel) -> None:
    options = {"num_beams": 2, "groups": 1, "length_penalty": 1.0, "keep": 2}
    write = decoding(text, "beam", options, max_new_tokens=6)

    def little(rows: Any, seeds: Any, most: int) -> Any:
        if len(rows) > most:
            raise MemoryError
        return write(rows, seeds)

    how: dict[str, Any] = {"seed": 0, "batch_size": 3, "max_new_tokens": 6}
    whole = write_texts(text, write, ITEMS, **how)
    parts = write_texts(text, lambda rows, seeds: little(rows, seeds, 1), ITEMS, **how)
    assert [[one["text"] for one in found] for found in parts] == [[one["text"] for one in found] for found in whole]
    with pytest.raises(ValueError, match=r"^input 0: does not fit into memory even alone; choose fewer beams"):
        write_texts(text, lambda rows, seeds: little(rows, seeds, 0), ITEMS, **how)
