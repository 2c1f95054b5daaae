"""Look-ups: what a row says, what is learnt from it, and that distance alone is tested."""

import random

import pytest
import torch
from torch import Tensor

from kilter.tasks.language_modelling import lookups
from kilter.tasks.language_modelling.judging import judge_lookups
from kilter.tasks.language_modelling.lookups import LookUps, entries, judged_row, tokens, training_row
from kilter.tasks.language_modelling.networks import byte_tokenizer


@pytest.mark.parametrize("seed", range(20))
def test_a_name_keeps_its_letter_through_a_row(seed: int) -> None:
    row = entries(training_row(64, random.Random(seed)))
    told = dict(row)
    assert len(row) == 64 // lookups.WIDTH
    assert 2 <= len(told) < len(row)
    assert all(told[name] == letter for name, letter in row)
    assert all(name in lookups.NAMES and letter.islower() for name, letter in row)


@pytest.mark.parametrize("times", [1, 2, 8])
def test_what_is_asked_for_stood_once_in_the_first_block(times: int) -> None:
    for seed in range(20):
        text = judged_row(32, times, random.Random(seed))
        *before, (name, letter) = entries(text)
        places = [place for place, (one, _) in enumerate(before) if one == name]
        assert len(text) == 32 * times
        assert len(places) == 1
        assert places[0] < 32 // lookups.WIDTH
        assert before[places[0]][1] == letter


def test_longer_rows_have_no_more_names() -> None:
    short, long = (len(dict(entries(judged_row(64, times, random.Random(0))))) for times in (1, 16))
    assert short == long


def test_letters_of_names_that_have_stood_before_are_all_there_is_to_learn() -> None:
    text = "KxQbKx7aQb"
    row = tokens(text, byte_tokenizer())
    at = [place for place, label in enumerate(row["labels"].tolist()) if label != -100]
    assert [text[place] for place in at] == ["x", "b"]
    assert at == [5, 9]
    assert (row["labels"][at] == row["input_ids"][at]).all()


def test_rows_are_the_same_for_the_same_seed_and_as_long_as_a_block() -> None:
    one, same, other = (LookUps(10, 15, byte_tokenizer(), seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[place]["input_ids"], same[place]["input_ids"]) for place in range(10))
    assert any(not torch.equal(one[place]["input_ids"], other[place]["input_ids"]) for place in range(10))
    assert {len(one[place][name]) for place in range(10) for name in ("input_ids", "labels")} == {15}
    assert one[0]["labels"][-1] == -100


class Knows(torch.nn.Module):
    """Says what follows the last place where the last token stood, so far back at most."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach, self.device = reach, "cpu"

    def forward(self, input_ids: Tensor, use_cache: bool) -> "Knows":
        self.logits = torch.zeros(*input_ids.shape, 259)
        for row, ids in enumerate(input_ids.tolist()):
            far = max(0, len(ids) - 1 - self.reach)
            places = [place for place in range(far, len(ids) - 1) if ids[place] == ids[-1]]
            if places:
                self.logits[row, -1, ids[places[-1] + 1]] = 1.0
        return self


def test_who_looks_far_finds_all_and_who_looks_near_finds_what_is_near() -> None:
    how = {"block": 32, "longest": 4, "count": 30}
    far = judge_lookups(Knows(1000), byte_tokenizer(), **how)
    assert all(hit == [1.0, 1] for row in far for hit in row["totals"].values())
    assert far[0]["totals"].keys() == {"lookup_1x", "lookup_2x", "lookup_4x"}
    near = judge_lookups(Knows(32), byte_tokenizer(), **how)
    hits = {name: sum(row["totals"][name][0] for row in near) for name in far[0]["totals"]}
    assert hits == {"lookup_1x": 30, "lookup_2x": 0, "lookup_4x": 0}


def test_a_block_without_room_is_refused() -> None:
    lookups.check_room(6)
    with pytest.raises(ValueError, match="block=5 is too short for look-ups"):
        lookups.check_room(5)
