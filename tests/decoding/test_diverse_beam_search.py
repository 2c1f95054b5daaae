"""Diverse Beam Search on random tables against its plain-Python transcription, and the paper's properties."""

import itertools
import math
import random
from typing import Any

import pytest
import torch

from kilter.decoding import DiverseBeamSearch, MMIBeamSearch, SiblingBeamSearch, diverse_beam_search
from tests.decoding import reference, tiny
from tests.decoding.compare import check_table, until_end, without
from tests.decoding.table import EOS, TableLM, table_lm

pytestmark = pytest.mark.host

DIVERSITIES = {
    "hamming": ({}, reference.hamming),
    "cumulative": ({"temperature": 1.5}, reference.cumulative(1.5)),
    "overlap": ({"discount": 0.7}, reference.overlap(0.7)),
    "ngram-1": ({"n": 1}, reference.ngram(1)),
    "ngram-2": ({}, reference.ngram(2)),
    "ngram-3": ({"n": 3}, reference.ngram(3)),
    "embedding": ({}, None),
}


def diversity(name: str, model: TableLM, **options: Any) -> tuple[DiverseBeamSearch, reference.Diversity]:
    settings, charge = DIVERSITIES[name]
    charge = charge or reference.embedding(model.vectors.weight.tolist())
    return DiverseBeamSearch(diversity=name.split("-")[0], **settings, **options), charge


def asked(draw: random.Random) -> dict[str, Any]:
    """What a user may ask for; the end is common and seldom at the same place."""
    groups, width = draw.choice([(1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 2)])
    return {
        "num_beams": groups * width,
        "num_beam_groups": groups,
        "num_return_sequences": draw.choice(
            [groups * width, groups * width, 1, groups, draw.randint(1, groups * width)]
        ),
        "diversity_penalty": draw.choice([0.0, 0.2, 0.7, 2.0]) if groups > 1 else 0.0,
        "max_new_tokens": draw.randrange(2, 8),
        "length_penalty": draw.choice([0.0, 1.0, 1.0, 2.0, -0.5]),
        "early_stopping": draw.choice([False, True, "never"]),
        "eos_token_id": draw.choice([[EOS], [EOS], [EOS, 7]]),
    }


def prompts(draw: random.Random) -> list[list[int]]:
    return [[draw.randrange(3, 12) for _ in range(draw.randrange(1, 5))] for _ in range(draw.choice([1, 2, 3]))]


@pytest.mark.parametrize("name", DIVERSITIES)
@pytest.mark.parametrize("charge_eos", [False, True])
def test_every_diversity_is_the_transcription(name: str, charge_eos: bool) -> None:
    for seed in range(12):
        draw = random.Random(f"{name} {seed}")
        model = table_lm(seed, eos_bias=draw.choice([0.0, 1.0, 2.0]), pad_token_id=draw.choice([1, EOS]))
        order = draw.choice([None, "rounds", "score", "group"])
        decoder, charge = diversity(name, model, charge_eos=charge_eos, order=order)
        how = {"diversity": charge, "charge_eos": charge_eos}
        check_table(model, prompts(draw), decoder, order=order, how=how, **asked(draw))


def test_siblings_are_the_transcription() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        settings = asked(draw) | {"num_beam_groups": 1, "diversity_penalty": None}
        del settings["num_beam_groups"], settings["diversity_penalty"]
        gamma, model = draw.choice([0.0, 0.2, 1.0]), table_lm(seed, eos_bias=1.0)
        how = {"adjust": reference.sibling(gamma)}
        check_table(model, prompts(draw), SiblingBeamSearch(rank_penalty=gamma), how=how, **settings)


def test_mutual_information_is_the_transcription() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        settings = asked(draw)
        del settings["num_beam_groups"], settings["diversity_penalty"]
        weight, model = draw.choice([0.0, 0.3, 0.8]), table_lm(seed, eos_bias=1.0)
        other = draw.choice([None, table_lm(100 + seed, eos_bias=1.0)])
        how = {"adjust": reference.mmi(without(other or model), weight)}
        check_table(model, prompts(draw), MMIBeamSearch(weight=weight, unconditional=other), how=how, **settings)


def beam_search(model: TableLM, prompt: torch.Tensor, beams: int, **settings: Any) -> Any:
    return model.generate(
        prompt,
        num_beams=beams,
        num_return_sequences=beams,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )


def diverse(model: TableLM, prompt: torch.Tensor, decoder: Any = diverse_beam_search, **settings: Any) -> Any:
    settings.setdefault("num_return_sequences", settings["num_beams"])
    return model.generate(prompt, custom_generate=decoder, return_dict_in_generate=True, **settings)


PROMPT = torch.tensor([[5, 6, 7], [9, 3, 4]])
SETTINGS = [
    {"max_new_tokens": 7, "early_stopping": early, "length_penalty": power}
    for early in (False, True, "never")
    for power in (0.0, 1.0, 2.0)
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_one_group_is_beam_search(settings: dict[str, Any]) -> None:
    for seed in range(5):
        model = table_lm(seed, eos_bias=1.5)
        expected = beam_search(model, PROMPT, 4, **settings)
        found = diverse(model, PROMPT, num_beams=4, num_beam_groups=1, **settings)
        assert torch.equal(found.sequences, expected.sequences)
        torch.testing.assert_close(found.sequences_scores, expected.sequences_scores)
        assert found.group_indices.unique().tolist() == [0]


@pytest.mark.parametrize("settings", SETTINGS[::2])
def test_without_a_penalty_every_group_is_beam_search_of_its_width(settings: dict[str, Any]) -> None:
    model = table_lm(3, eos_bias=1.5)
    expected = beam_search(model, PROMPT, 2, **settings)
    found = diverse(model, PROMPT, num_beams=6, num_beam_groups=3, diversity_penalty=0.0, **settings)
    for group in range(3):
        mine = found.group_indices == group
        assert torch.equal(found.sequences[mine], expected.sequences)
        torch.testing.assert_close(found.sequences_scores[mine], expected.sequences_scores)


@pytest.mark.parametrize("name", DIVERSITIES)
def test_the_first_group_is_beam_search_whatever_the_penalty(name: str) -> None:
    for seed, strength in enumerate((0.1, 1.0, 50.0)):
        model = table_lm(seed, eos_bias=1.0)
        decoder, _ = diversity(name, model)
        expected = beam_search(model, PROMPT, 2, max_new_tokens=6)
        groups = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": strength}
        found = diverse(model, PROMPT, decoder, max_new_tokens=6, **groups)
        first = found.sequences[found.group_indices == 0]
        assert [until_end(row, [EOS]) for row in first.tolist()] == [
            until_end(row, [EOS]) for row in expected.sequences.tolist()
        ]
        torch.testing.assert_close(found.sequences_scores[found.group_indices == 0], expected.sequences_scores)
        torch.testing.assert_close(
            found.sequences_log_probs[found.group_indices == 0],
            torch.tensor([sum_of(model, row) for row in expected.sequences.tolist()]),
        )


def sum_of(model: TableLM, row: list[int]) -> float:
    said = until_end(row[3:], [EOS])
    return sum(model.log_probs([*row[:3], *said[:t]])[token] for t, token in enumerate(said))


@pytest.mark.parametrize(("beams", "groups"), [(6, 3), (4, 2), (8, 4), (6, 2)])
def test_as_many_texts_as_groups_come_from_all_groups(beams: int, groups: int) -> None:
    """By score, three of six in three groups come from two groups on average, two of four in two mostly from one."""
    several = {"num_beams": beams, "num_beam_groups": groups, "num_return_sequences": groups, "max_new_tokens": 6}
    by_score = 0
    for seed in range(10):
        model = table_lm(seed, eos_bias=1.0)
        found = diverse(model, PROMPT, diversity_penalty=0.7, **several)
        everything = diverse(model, PROMPT, diversity_penalty=0.7, **several | {"num_return_sequences": beams})
        for i in range(len(PROMPT)):
            mine, of_all = slice(groups * i, groups * (i + 1)), slice(beams * i, beams * (i + 1))
            assert sorted(found.group_indices[mine].tolist()) == [*range(groups)]
            scores = found.sequences_scores[mine].tolist()
            assert scores == sorted(scores, reverse=True)
            assert scores[0] == everything.sequences_scores[of_all].max()
            for group, score in zip(found.group_indices[mine].tolist(), scores, strict=True):
                theirs = everything.group_indices[of_all] == group
                assert score == everything.sequences_scores[of_all][theirs].max()
            by_score += len(set(everything.group_indices[of_all][:groups].tolist())) < groups
    assert by_score >= 10, "the best by score come from all groups in these tables, so this test shows nothing"


def test_rounds_go_on_by_score() -> None:
    """Each round has every group once and is sorted; all of them are those that the score ranks."""
    groups = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7, "max_new_tokens": 6}
    model = table_lm(2, eos_bias=0.0)
    rounds = diverse(model, PROMPT, DiverseBeamSearch(order="rounds"), **groups)
    by_score = diverse(model, PROMPT, **groups)
    assert torch.equal(by_score.sequences_scores, diverse(model, PROMPT, DiverseBeamSearch(order="score"), **groups)[1])
    for i in range(len(PROMPT)):
        rows = slice(6 * i, 6 * i + 6)
        for start in (6 * i, 6 * i + 3):
            scores = rounds.sequences_scores[start : start + 3].tolist()
            assert sorted(rounds.group_indices[start : start + 3].tolist()) == [0, 1, 2]
            assert scores == sorted(scores, reverse=True)
        assert sorted(rounds.sequences_scores[rows].tolist(), reverse=True) == by_score.sequences_scores[rows].tolist()
    five = diverse(model, PROMPT, **groups | {"num_return_sequences": 5})
    wide = rounds.sequences.view(2, 6, -1)[:, :5, : five.sequences.shape[1]].flatten(0, 1)
    assert torch.equal(five.sequences, wide)


@pytest.mark.parametrize("length_penalty", [1.0, 2.0, -1.0])
def test_what_a_group_could_not_find_comes_last(length_penalty: float) -> None:
    """One text is allowed, and found by each group once; its second place is empty."""
    groups = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 4}
    model = table_lm(0, eos_bias=-60.0)
    found = diverse(
        model,
        PROMPT[:1],
        prefix_allowed_tokens_fn=lambda i, ids: [9],
        length_penalty=length_penalty,
        **groups | {"num_return_sequences": 3},
    )
    assert found.group_indices[:2].tolist() == [0, 1]
    assert found.sequences_log_probs.isfinite()[:2].all()
    assert (found.sequences_scores[:2] > -1e5).all()
    assert (found.sequences_scores[2:] < -1e5).all()


def test_a_huge_penalty_keeps_all_groups_apart_at_every_step() -> None:
    for seed in range(10):
        model = table_lm(seed, eos_bias=-60.0)
        groups = {"num_beams": 5, "num_beam_groups": 5, "diversity_penalty": 1e6}
        found = diverse(model, PROMPT, DiverseBeamSearch(order="group"), max_new_tokens=5, **groups)
        for i, prompt in enumerate(PROMPT.tolist()):
            said = found.sequences[5 * i : 5 * i + 5, 3:].tolist()
            assert all(len(set(step)) == 5 for step in zip(*said, strict=True))
            first = model.log_probs(prompt)
            assert [row[0] for row in said] == sorted(range(12), key=lambda v: -first[v])[:5]


def flat(logits: list[float]) -> TableLM:
    """A table of equal rows, without an end."""
    model = table_lm(vocab_size=len(logits))
    model.table.data[:] = torch.tensor(logits)
    model.generation_config.eos_token_id = None
    return model


@pytest.mark.parametrize(("strength", "expected"), [(0.49, [0, 0, 0]), (0.51, [0, 0, 1]), (1.01, [0, 1, 0])])
def test_hamming_by_hand(strength: float, expected: list[int]) -> None:
    groups = {"num_beams": 3, "num_beam_groups": 3, "diversity_penalty": strength, "max_new_tokens": 1}
    found = diverse(flat([3.0, 2.0, 1.0, 0.0]), PROMPT[:1] % 4, DiverseBeamSearch(order="group"), **groups)
    assert found.sequences[:, 3].tolist() == expected


def test_ties_go_to_the_lowest_beam_and_then_the_lowest_token() -> None:
    model, group_order = flat([1.0, 1.0, 1.0, 0.0]), DiverseBeamSearch(order="group")
    groups = {"num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 0.5, "max_new_tokens": 1}
    assert diverse(model, PROMPT[:1] % 4, group_order, **groups).sequences[:, 3].tolist() == [0, 1, 2, 0]
    groups = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 2}
    found = diverse(model, PROMPT[:1] % 4, group_order, **groups)
    said = {g: found.sequences[found.group_indices == g, 3:].tolist() for g in (0, 1)}
    assert said[0] == [[0, 0], [0, 1]]
    assert said[1] == [[2, 2], [2, 0]]


def test_more_penalty_is_more_diverse_and_less_likely() -> None:
    distinct, likely = [], []
    for strength in (0.0, 0.3, 1.0, 3.0):
        groups = {"num_beams": 4, "num_beam_groups": 4, "diversity_penalty": strength}
        found = [diverse(table_lm(s, eos_bias=-60.0), PROMPT, max_new_tokens=6, **groups) for s in range(12)]
        rows = [set() for _ in range(2 * len(found))]
        for s, one in enumerate(found):
            for r, row in enumerate(one.sequences[:, 3:].tolist()):
                rows[2 * s + r // 4] |= set(itertools.pairwise(row))
        distinct.append(sum(map(len, rows)) / len(rows))
        likely.append(sum(float(one.sequences_log_probs.mean()) for one in found) / len(found))
    assert distinct == sorted(distinct)
    assert likely == sorted(likely, reverse=True)
    assert distinct[-1] > 1.5 * distinct[0]


def test_cosines_of_orthogonal_vectors_are_hamming() -> None:
    model = table_lm(4, eos_bias=1.0)
    model.vectors = torch.nn.Embedding(12, 12, _weight=3 * torch.eye(12))
    groups = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7, "max_new_tokens": 6}
    found, expected = (
        diverse(model, PROMPT, DiverseBeamSearch(diversity=name), **groups) for name in ("embedding", "hamming")
    )
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(found.sequences_scores, expected.sequences_scores)


def test_own_diversity_sees_what_it_is_promised() -> None:
    def own(chosen: torch.Tensor, history: torch.Tensor, prefix: torch.Tensor, vocab_size: int) -> torch.Tensor:
        assert history.shape == (*chosen.shape, prefix.shape[-1])
        penalty = torch.zeros(*prefix.shape[:2], vocab_size)
        for n, i in ((n, i) for n in range(len(prefix)) for i in range(prefix.shape[1])):
            others = [(tuple(h), c) for h, c in zip(history[n].tolist(), chosen[n].tolist(), strict=True)]
            penalty[n, i] = torch.tensor(reference.cumulative(2.0)(tuple(prefix[n, i].tolist()), others, vocab_size))
        return penalty

    for seed in range(6):
        draw = random.Random(seed)
        how = {"diversity": reference.cumulative(2.0)}
        check_table(
            table_lm(seed, eos_bias=1.0), prompts(draw), DiverseBeamSearch(diversity=own), how=how, **asked(draw)
        )


def test_the_padding_of_an_ended_group_is_not_charged() -> None:
    """With pad = eos, as most decoder-only models have it, later groups were charged for ending."""
    ends = torch.tensor([math.log(0.98)] + [math.log(0.002)] * 10)
    apart = 0
    for seed in range(10):
        model = table_lm(seed, eos_bias=0.5, pad_token_id=EOS)
        model.table.data[model.state(PROMPT[0].tolist()), [0, *range(2, 12)]] = ends
        groups = {"num_beams": 3, "num_beam_groups": 3, "diversity_penalty": 3.0, "num_return_sequences": 3}
        decoder = DiverseBeamSearch(charge_eos=True)
        how = {"diversity": reference.hamming, "charge_eos": True}
        found = check_table(model, PROMPT[:1].tolist(), decoder, how=how, max_new_tokens=6, **groups)
        said = [until_end(row, [EOS]) for row in found.sequences[:, 3:].tolist()]
        apart += len({len(row) for row in said}) > 1
    assert apart > 5, "groups end at different steps in these tables"


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_groups_with_padding_constraints_and_several_ends_are_each_input_alone(name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs, ends, even = (
        tiny.prompt(model, 3, ragged=True),
        [tiny.EOS, *range(20, 40, 4)],
        [tiny.EOS, *range(4, tiny.VOCAB, 2)],
    )
    asked = {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.7, "num_return_sequences": 6}
    asked |= {"max_new_tokens": 6, "eos_token_id": ends, "prefix_allowed_tokens_fn": lambda i, ids: even}

    def said(given: Any) -> tuple[list[tuple[int, ...]], torch.Tensor]:
        found = tiny.generate(model, given, custom_generate=diverse_beam_search, **asked)
        rows = found.sequences[:, tiny.said_before(model, given) :].tolist()
        return [until_end(row, ends) for row in rows], found.sequences_scores

    rows, scores = said(inputs)
    assert {token for row in rows for token in row} <= {*even}
    assert len({row[-1] for row in rows if len(row) < 6} & {*ends}) > 1
    for i in range(3):
        own, own_scores = said(tiny.alone(model, inputs, i))
        assert rows[6 * i : 6 * i + 6] == own
        torch.testing.assert_close(scores[6 * i : 6 * i + 6], own_scores, rtol=1e-4, atol=1e-4)
