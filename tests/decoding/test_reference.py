"""The plain-Python reference, with one group, is transformers' own beam search."""

import math
import random

import pytest
import torch

from tests.decoding import reference, tiny
from tests.decoding.table import EOS, table_lm


def prompts(seed: int) -> torch.Tensor:
    draw = random.Random(seed)
    return torch.tensor([[draw.randrange(3, 12) for _ in range(4)] for _ in range(2)])


def without_padding(row: torch.Tensor, start: int, eos: tuple[int, ...] = (EOS,)) -> tuple[int, ...]:
    tokens = row[start:].tolist()
    ends = [place for place, token in enumerate(tokens) if token in eos]
    return tuple(tokens[: ends[0] + 1] if ends else tokens)


@pytest.mark.host
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -0.5])
@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("eos", [(EOS,), (EOS, 7)])
def test_one_group_is_the_beam_search_of_transformers(eos, early_stopping, length_penalty) -> None:
    early = 0
    for seed in range(10):
        model, beams, new = table_lm(seed, eos_bias=1.5), 2 + seed % 3, 8
        settings = {"length_penalty": length_penalty, "early_stopping": early_stopping}
        asked = prompts(seed)
        found = model.generate(
            asked,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=new,
            eos_token_id=list(eos),
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
        for i, said in enumerate(asked.tolist()):
            (expected,) = reference.search(
                lambda tokens, model=model, said=said: model.log_probs((*said, *tokens)),
                beams=beams,
                max_new=new,
                eos=eos,
                **settings,
            )
            rows = slice(i * beams, (i + 1) * beams)
            assert [without_padding(row, 4, eos) for row in found.sequences[rows]] == [h.tokens for h in expected]
            assert found.sequences_scores[rows].tolist() == pytest.approx([h.score for h in expected], abs=1e-5)
            assert [h.total for h in expected] == [h.log_prob for h in expected]
            early += sum(len(h.tokens) < new for h in expected)
    assert early > 5, "some end early in these tables"


@pytest.mark.host
@pytest.mark.parametrize("name", sorted(set(tiny.MODELS) - {"recurrent_gemma"}))
def test_whole_passes_of_a_tiny_model_lead_to_its_beam_search(name: str) -> None:
    model = tiny.model(name, eos_bias=1.0)
    inputs = tiny.prompt(model, 2, ragged=True)
    found = tiny.generate(
        model,
        inputs,
        num_beams=3,
        num_return_sequences=3,
        max_new_tokens=5,
    )
    start = tiny.said_before(model, inputs)
    for i in range(2):
        passes = tiny.full_pass(model, tiny.alone(model, inputs, i))
        (expected,) = reference.search(passes, beams=3, max_new=5, eos=[tiny.EOS])
        rows = slice(3 * i, 3 * i + 3)
        assert [without_padding(row, start, (tiny.EOS,)) for row in found.sequences[rows]] == [
            h.tokens for h in expected
        ]
        assert found.sequences_scores[rows].tolist() == pytest.approx([h.score for h in expected], abs=1e-4)


LOG_PROBS = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]


def test_hamming_by_hand() -> None:
    def logits(said: reference.Tokens) -> list[float]:
        return [3.0, 2.0, 1.0, 0.0]

    groups = reference.search(logits, beams=3, groups=3, penalty=0.5, diversity=reference.hamming, max_new=1)
    assert [(h.tokens, h.total, h.log_prob) for (h,) in groups] == [
        ((0,), 3.0, 3.0),
        ((0,), 2.5, 3.0),
        ((0,), 2.0, 3.0),
    ]
    groups = reference.search(logits, beams=3, groups=3, penalty=0.6, diversity=reference.hamming, max_new=1)
    assert [h.tokens for (h,) in groups] == [(0,), (0,), (1,)]


def test_charges_by_hand() -> None:
    others = [((1, 2, 1), 3), ((1, 1, 2), 1)]
    said = (1, 2, 2)
    assert reference.hamming(said, others, 4) == [0, 1, 0, 1]
    assert reference.ngram(1)(said, others, 4) == [0, 5, 2, 1]
    assert reference.ngram(2)(said, others, 4) == [0, 2, 0, 0]
    assert reference.ngram(3)((1,), others, 4) == [0, 0, 0, 0]
    assert reference.overlap(0.5)(said, others, 4) == [0, 1 + 0.125 + 0.5, 0, 1 + 0.125 + 0.25]
    assert reference.overlap(0.0)(said, others, 4) == reference.hamming(said, others, 4)
    near, far = math.exp(-1 / 2), math.exp(-2 / 2)  # each differs at one place so far
    assert reference.cumulative(2.0)(said, others, 4) == pytest.approx([2 * far, near + far, 2 * far, near + far])
    same = [[float(i == j) for j in range(4)] for i in range(4)]
    assert reference.embedding(same)(said, others, 4) == reference.hamming(said, others, 4)


def test_siblings_pay_by_rank_after_the_first_step() -> None:
    adjust = reference.sibling(0.1)
    assert adjust((), LOG_PROBS) == LOG_PROBS
    assert adjust((2,), LOG_PROBS) == pytest.approx([p - 0.1 * k for k, p in enumerate(LOG_PROBS, 1)])


def test_an_ended_hypothesis_is_charged_at_its_last_step_if_asked() -> None:
    def ends_at_once(said: reference.Tokens) -> list[float]:
        return [math.log(p) for p in (0.6, 0.25, 0.15)]

    settings = {"beams": 2, "groups": 2, "penalty": 1.0, "diversity": reference.hamming, "max_new": 3, "eos": [0]}
    first, second = reference.search(ends_at_once, **settings)
    assert (first[0].tokens, second[0].tokens) == ((0,), (0,))
    first, second = reference.search(ends_at_once, charge_eos=True, **settings)
    assert first[0].tokens == (0,)
    assert second[0].total < second[0].log_prob or second[0].tokens != (0,)
