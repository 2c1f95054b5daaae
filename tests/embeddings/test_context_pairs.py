"""Pairs stay in their window and document, batches in their language, and both draw again what they drew."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kilter.embeddings import ContextPairs, LanguageBatches

DOCUMENTS = [[f"{document}-{place}" for place in range(size)] for document, size in enumerate([12, 2, 1, 7, 0])]


def place(text: str) -> tuple[int, int]:
    document, sentence = text.split("-")
    return int(document), int(sentence)


# Pairs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 5, 100])
def test_a_pair_is_of_one_document_and_within_the_window(window: int) -> None:
    pairs = ContextPairs(DOCUMENTS, window=window)
    seen: dict[tuple[int, int], set[int]] = {}
    for epoch in range(60):
        pairs.set_epoch(epoch)
        for row in pairs:
            (here, one), (there, two) = place(row["centre"]), place(row["context"])
            assert here == there
            seen.setdefault((here, one), set()).add(two)
    if window <= 3:  # where sixty draws see all that there is
        for (document, one), others in seen.items():
            near = range(max(0, one - window), min(len(DOCUMENTS[document]), one + window + 1))
            assert others == {*near} - {one}
    assert all(0 < abs(one - two) <= window for (_, one), others in seen.items() for two in others)


def test_draws_are_even() -> None:
    pairs = ContextPairs([[str(i) for i in range(5)]], window=2)
    counts: Counter[str] = Counter()
    for epoch in range(2000):
        pairs.set_epoch(epoch)
        counts[pairs[2]["context"]] += 1
    assert {*counts} == {"0", "1", "3", "4"}
    assert all(count == pytest.approx(500, rel=0.15) for count in counts.values())


def test_each_sentence_is_a_centre_once_an_epoch_and_lone_documents_are_counted() -> None:
    pairs = ContextPairs(DOCUMENTS)
    assert [row["centre"] for row in pairs] == [text for i in (0, 1, 3) for text in DOCUMENTS[i]]
    assert len(pairs) == 21
    assert (pairs.lone_documents, pairs.repeated, pairs.lone_sentences) == (2, 0, 0)
    assert pairs[-1] == pairs[20]
    with pytest.raises(IndexError):
        pairs[21]


def test_equal_sentences_of_a_language_come_once() -> None:
    documents = [["a", "Menu", "b"], ["Menu ", "c", " c", "d", ""], ["Menu", "e"], ["Menu", "a"]]
    pairs = ContextPairs(documents, ["en", "en", "de", "en"])
    told = [(row["centre"], row["label"]) for row in pairs]
    assert told == [("a", 1), ("Menu", 1), ("b", 1), ("c", 1), ("d", 1), ("Menu", 0), ("e", 0)]
    assert pairs.repeated == 5  # two menus, a c and nothing, and two of a document that then has none left
    assert pairs.lone_documents == 1


def test_what_is_left_out_keeps_its_place() -> None:
    pairs = ContextPairs([["x", "y"], ["a", "x", "b", "c", "y", "x", "d"]], window=1)
    assert {row["centre"]: row["context"] for row in pairs} == {"x": "y", "y": "x", "b": "c", "c": "b"}
    assert pairs.lone_sentences == 2
    pairs = ContextPairs([["x", "y"], ["a", "x", "b", "c"]], window=2)
    drawn = pairs.rows(epochs=20)
    near = zip(drawn["centre"], drawn["context"], strict=True)
    assert {context for centre, context in near if centre == "a"} == {"b"}


def test_a_sentence_that_gave_no_pair_may_give_one_later() -> None:
    pairs = ContextPairs([["alone"], ["alone", "then not"]])
    assert [row["centre"] for row in pairs] == ["alone", "then not"]
    pairs = ContextPairs([["a", "b", "", "far off"], ["far off", "c"]], window=1)
    assert [row["centre"] for row in pairs] == ["a", "b", "far off", "c"]


def test_draws_hang_on_seed_epoch_and_index_alone() -> None:
    one, two = ContextPairs(DOCUMENTS, seed=3), ContextPairs(DOCUMENTS, seed=3)
    order = random.Random(0).sample(range(len(two)), len(two))
    assert [one[i] for i in order] == [two[i] for i in order]
    one.set_epoch(4)
    drawn = [one[i] for i in range(len(one))]
    assert drawn != [two[i] for i in range(len(two))]
    other = ContextPairs(DOCUMENTS)
    other.load_state_dict(one.state_dict())
    assert [other[i] for i in range(len(other))] == drawn
    assert [ContextPairs(DOCUMENTS, seed=4)[i] for i in range(21)] != [two[i] for i in range(21)]


def test_columns_are_the_rows_of_the_epochs() -> None:
    pairs = ContextPairs(DOCUMENTS, ["en", "de", "en", "en", "de"], seed=1)
    columns = pairs.rows(epochs=3)
    expected = []
    for epoch in range(3):
        pairs.set_epoch(epoch)
        expected += list(pairs)
    assert [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] == expected
    assert list(columns) == ["centre", "context", "label"]
    assert pairs.names == ("de", "en")


def test_a_data_loader_of_several_workers_takes_them() -> None:
    from torch.utils.data import DataLoader

    pairs = ContextPairs(DOCUMENTS, ["en", "de", "en", "de", "en"])
    rows = [row for batch in DataLoader(pairs, batch_size=4, num_workers=1, collate_fn=list) for row in batch]
    assert rows == list(pairs)


@pytest.mark.parametrize(
    ("documents", "how", "error"),
    [
        (["One. Two."], {}, r"documents\[0\] must be a list of texts"),
        ([["One.", 2]], {}, r"sentence 1: documents\[0\] must hold texts, got int"),
        ([["One."], ["Two."]], {}, "documents give no pair: none of 2 has two different sentences"),
        ([], {}, "documents give no pair"),
        (DOCUMENTS, {"languages": ["en"]}, "languages must be a list of 5 texts, one per document, got 1"),
        (DOCUMENTS, {"window": 0}, "window must be at least 1"),
        (DOCUMENTS, {"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_what_gives_no_pair_is_refused(documents: Any, how: Any, error: str, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        ContextPairs(documents, **how)


# Batches -------------------------------------------------------------------------------------------------------------

LANGUAGES = ["en"] * 43 + ["de"] * 11 + ["sk"] * 4


@given(st.lists(st.integers(4, 60), min_size=1, max_size=5), st.floats(0, 1), st.integers(0, 99))
def test_batches_are_whole_and_pure_and_of_every_language(sizes: list[int], smoothing: float, seed: int) -> None:
    languages = [number for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(languages)
    batches = LanguageBatches(languages, 4, smoothing=smoothing, seed=seed)
    drawn = list(batches)
    assert len(drawn) == len(batches)
    assert all(len({*batch}) == 4 for batch in drawn)
    assert all(len({languages[row] for row in batch}) == 1 for batch in drawn)
    assert {languages[batch[0]] for batch in drawn} == {*range(len(sizes))}
    assert sum(size // 4 for size in sizes) <= len(batches) < sum(size // 4 for size in sizes) + len(sizes)


def test_smoothing_is_that_of_the_shares() -> None:
    languages = ["en"] * 1600 + ["de"] * 100
    counts = LanguageBatches(languages, 10, smoothing=0.5).counts
    assert counts == {"en": 136, "de": 34}  # 170 batches, four to one instead of sixteen to one
    assert LanguageBatches(languages, 10, smoothing=1.0).counts == {"en": 160, "de": 10}
    assert LanguageBatches(languages, 10, smoothing=0.0).counts == {"en": 85, "de": 85}


def test_without_smoothing_no_row_comes_twice_and_what_is_left_over_changes() -> None:
    batches = LanguageBatches(LANGUAGES, 4, smoothing=1.0)
    seen: Counter[int] = Counter()
    for _ in range(12):
        drawn = [row for batch in batches for row in batch]
        assert len({*drawn}) == len(drawn) == 40 + 8 + 4
        seen.update(drawn)
    assert {*seen} == {*range(len(LANGUAGES))}


def test_a_small_language_comes_in_another_order_each_time() -> None:
    batches = [batch for batch in LanguageBatches(["en"] * 40 + ["de"] * 8, 4, smoothing=0.0) if batch[0] >= 40]
    assert len(batches) == 6
    assert Counter(row for batch in batches for row in batch) == dict.fromkeys(range(40, 48), 3)
    assert len({frozenset(batch) for batch in batches}) > 2


def test_the_same_seed_is_the_same_order_and_epochs_differ() -> None:
    one, two = LanguageBatches(LANGUAGES, 4, seed=5), LanguageBatches(LANGUAGES, 4, seed=5)
    epochs = [list(one) for _ in range(3)]
    assert epochs == [list(two) for _ in range(3)]
    assert epochs[0] != epochs[1]
    assert list(LanguageBatches(LANGUAGES, 4, seed=6)) != epochs[0]
    for epoch in (2, 0):
        two.set_epoch(epoch)
        assert list(two) == epochs[epoch]


@pytest.mark.parametrize("at", [0, 1, 5, 14, 20])
def test_a_resumed_sampler_goes_on_with_the_same_batches(at: int) -> None:
    def endless(sampler: LanguageBatches) -> Any:
        while True:
            yield from sampler

    unbroken = endless(LanguageBatches(LANGUAGES, 4))
    expected = [next(unbroken) for _ in range(30)]
    first, second = LanguageBatches(LANGUAGES, 4), LanguageBatches(LANGUAGES, 4, seed=9)
    drawn = endless(first)
    assert [next(drawn) for _ in range(at)] == expected[:at]
    second.load_state_dict(first.state_dict())
    going_on = endless(second)
    assert [next(going_on) for _ in range(30 - at)] == expected[at:]


def test_languages_may_be_a_tensor() -> None:
    numbers = [0, 1] * 6
    assert list(LanguageBatches(torch.tensor(numbers), 3)) == list(LanguageBatches(numbers, 3))


def test_the_trainers_way_to_make_one() -> None:
    rows = {"label": [0, 1] * 6}
    batches = LanguageBatches.for_sentence_transformers(
        rows, 3, drop_last=True, valid_label_columns=["label"], generator=None, seed=2, smoothing=0.5
    )
    assert list(batches) == list(LanguageBatches(rows["label"], 3, smoothing=0.5, seed=2))


@pytest.mark.parametrize(
    ("languages", "how", "error"),
    [
        (LANGUAGES, {"batch_size": 8}, r"fill no batch of batch_size=8: sk \(4 rows\); leave them out, or lower it"),
        ([], {}, "languages are none"),
        (LANGUAGES, {"batch_size": 1}, "batch_size must be at least 2"),
        (LANGUAGES, {"smoothing": 1.5}, "smoothing must be within 0..1"),
        (LANGUAGES, {"seed": "a"}, "seed must be a whole number"),
    ],
)
def test_what_makes_no_batches_is_refused(languages: Any, how: Any, error: str, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        LanguageBatches(languages, **{"batch_size": 4, **how})
