"""What may be given to `generate` beside the beams: processors, stops, returns, sampling, and what is refused."""

import itertools
from typing import Any

import pytest
import torch
from transformers import MaxLengthCriteria, StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from kilter.decoding import DiverseBeamSearch, SiblingBeamSearch, diverse_beam_search
from tests.decoding import reference, tiny
from tests.decoding.compare import check_table, padded
from tests.decoding.table import EOS, table_lm

pytestmark = pytest.mark.host

HOW = {"diversity": reference.hamming}
PROMPTS = [[5, 6, 7], [9], [4, 8]]
GROUPS = {
    "num_beams": 6,
    "num_beam_groups": 3,
    "diversity_penalty": 0.7,
    "num_return_sequences": 6,
    "max_new_tokens": 6,
}
NEVER = -float("inf")


def generate(model: Any, decoder: Any = diverse_beam_search, **asked: Any) -> Any:
    asked = GROUPS | asked
    return model.generate(
        **padded(PROMPTS, model.config.pad_token_id), custom_generate=decoder, return_dict_in_generate=True, **asked
    )


def forbid(bad: Any) -> Any:
    """A change of log-probabilities for the reference: (prompt, said, token) -> is it forbidden?"""
    return lambda prompt, said, p: [NEVER if bad(prompt, said, v) else x for v, x in enumerate(p)]


def repeated(prompt: list[int], said: tuple[int, ...], p: list[float]) -> list[float]:
    """What `repetition_penalty=1.5` makes of log-probabilities, which are negative."""
    return [x * 1.5 if v in {*prompt, *said} else x for v, x in enumerate(p)]


ALLOWED = {0: {0, 3, 5, 7, 9, 10}, 1: {0, 4, 6, 8, 9, 11}, 2: {0, 3, 4, 5, 6, 7, 8}}
"""Tokens of each input."""
PROCESSORS = {
    "bad words": (
        {"bad_words_ids": [[5], [3, 6]]},
        forbid(lambda prompt, said, v: v == 5 or (v == 6 and [*prompt, *said][-1] == 3)),
    ),
    "minimum": ({"min_new_tokens": 3}, forbid(lambda prompt, said, v: v == EOS and len(said) < 3)),
    "repetition": ({"repetition_penalty": 1.5}, repeated),
    "bigrams": (
        {"no_repeat_ngram_size": 2},
        forbid(lambda prompt, said, v: ([*prompt, *said][-1], v) in itertools.pairwise([*prompt, *said])),
    ),
    "suppressed": ({"suppress_tokens": [4, 9]}, forbid(lambda prompt, said, v: v in (4, 9))),
    "allowed": (
        {"prefix_allowed_tokens_fn": lambda i, ids: sorted(ALLOWED[i])},
        forbid(lambda prompt, said, v: v not in ALLOWED[PROMPTS.index(prompt)]),
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors_come_before_the_penalty_and_what_they_forbid_stays_so(name: str) -> None:
    settings, adjust = PROCESSORS[name]
    prompts = PROMPTS if name == "allowed" else [PROMPTS[0], PROMPTS[0][::-1]]  # padding is a token to some processors
    for seed in range(8):
        model = table_lm(seed, eos_bias=1.0)
        check_table(model, prompts, diverse_beam_search, how=HOW, adjust=adjust, **GROUPS, **settings)


class SaysTwice(StoppingCriteria):
    """Stops where a token follows itself."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return input_ids[:, -1] == input_ids[:, -2]


def test_what_a_stopping_criterion_ends_is_finished_and_not_charged() -> None:
    stopped = 0
    stops = {"stops": lambda said: said[-1] == (PROMPTS[0][-1:] + list(said))[-2]}
    for seed in range(12):
        found = check_table(
            table_lm(seed, eos_bias=-1.0),
            PROMPTS[:1],
            diverse_beam_search,
            how=HOW | stops,
            stopping_criteria=StoppingCriteriaList([SaysTwice()]),
            early_stopping=[False, True, "never"][seed % 3],
            **GROUPS,
        )
        stopped += sum(any(a == b for a, b in itertools.pairwise(row)) for row in found.sequences.tolist())
    assert stopped > 10


def test_stop_strings_end_a_hypothesis() -> None:
    """Given as a criterion: `generate` keeps its `tokenizer` from any callable, so that `stop_strings` cannot be."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.BPE(vocab={letter: v for v, letter in enumerate("abcdefghijkl")}, merges=[]))
    letters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)
    stopped = 0
    for seed in range(6):
        found = check_table(
            table_lm(seed, eos_bias=-1.0),
            [PROMPTS[0]],
            diverse_beam_search,
            how=HOW | {"stops": lambda said: said[-1] == 4},
            stopping_criteria=StoppingCriteriaList([StopStringCriteria(tokenizer, ["e"])]),
            **GROUPS,
        )
        stopped += sum(4 in row for row in found.sequences.tolist())
    assert stopped > 6


def test_the_best_of_each_group_first() -> None:
    model = table_lm(2, eos_bias=0.0)
    by_score, by_group = generate(model), generate(model, DiverseBeamSearch(order="group"))
    assert by_group.group_indices.tolist() == [0, 1, 2, 0, 1, 2] * 3
    assert sorted(by_score.sequences_scores.tolist()) == sorted(by_group.sequences_scores.tolist())
    three = generate(model, DiverseBeamSearch(order="group"), num_return_sequences=3)
    assert three.group_indices.tolist() == [0, 1, 2] * 3
    wide = by_group.sequences.view(3, 6, -1)[:, :3, : three.sequences.shape[1]].flatten(0, 1)
    assert torch.equal(three.sequences, wide)
    for i in range(3):
        scores = by_score.sequences_scores[6 * i : 6 * i + 6]
        assert torch.equal(scores, scores.sort(descending=True).values)


def test_what_is_returned() -> None:
    model = table_lm(2, eos_bias=1.0)
    found = generate(model, num_return_sequences=4)
    assert found.sequences.shape[0] == 12
    for name in ("sequences_scores", "sequences_log_probs", "group_indices"):
        assert found[name].shape == (12,)
    assert found.group_indices.dtype == torch.int64
    assert found.sequences_scores.dtype == found.sequences_log_probs.dtype == torch.float32
    longest = max(len([t for t in row if t != 1]) for row in found.sequences[:, 3:].tolist())
    assert found.sequences.shape[1] == 3 + longest, "no column of padding alone"
    plain = model.generate(**padded(PROMPTS, 1), custom_generate=diverse_beam_search, **GROUPS)
    assert torch.equal(plain, generate(model).sequences)


def test_the_settings_of_the_generation_config_count_too() -> None:
    model = table_lm(2, eos_bias=1.0)
    expected = generate(model)
    for name, value in GROUPS.items():
        setattr(model.generation_config, name, value)
    found = model.generate(**padded(PROMPTS, 1), custom_generate=diverse_beam_search, return_dict_in_generate=True)
    assert torch.equal(found.sequences, expected.sequences)


def test_a_batch_is_its_inputs_one_by_one() -> None:
    for seed, early in enumerate((False, True, "never")):
        model = table_lm(seed, eos_bias=2.0)
        together = generate(model, early_stopping=early)
        for i, prompt in enumerate(PROMPTS):
            alone = model.generate(
                torch.tensor([prompt]),
                custom_generate=diverse_beam_search,
                return_dict_in_generate=True,
                early_stopping=early,
                **GROUPS,
            )
            rows = slice(6 * i, 6 * i + 6)
            said = alone.sequences[:, len(prompt) :]
            assert torch.equal(together.sequences[rows, 3 : 3 + said.shape[1]], said)
            assert (together.sequences[rows, 3 + said.shape[1] :] == 1).all()
            assert torch.equal(together.sequences_scores[rows], alone.sequences_scores)
            assert torch.equal(together.sequences_log_probs[rows], alone.sequences_log_probs)
            assert torch.equal(together.group_indices[rows], alone.group_indices)


def test_prompts_given_as_embeddings() -> None:
    model = tiny.model("llama", eos_bias=1.0)
    inputs = tiny.prompt(model, 2)
    said = tiny.generate(model, inputs, custom_generate=diverse_beam_search, **GROUPS)
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    found = tiny.generate(model, inputs, custom_generate=diverse_beam_search, **GROUPS)
    assert torch.equal(found.sequences, said.sequences[:, 7:])
    torch.testing.assert_close(found.sequences_scores, said.sequences_scores)


def test_sampling_inside_groups_follows_the_model() -> None:
    model = table_lm(5, eos_bias=0.0)
    many = 4000
    torch.manual_seed(0)
    found = model.generate(
        torch.tensor([[5, 6]] * many),
        custom_generate=DiverseBeamSearch(sample_groups=True, order="group"),
        do_sample=True,
        top_k=0,
        num_beams=2,
        num_beam_groups=2,
        diversity_penalty=0.0,
        num_return_sequences=1,
        max_new_tokens=1,
    )
    p = torch.tensor(model.log_probs([5, 6])).exp()
    counts = torch.bincount(found[:, 2], minlength=12)
    assert ((counts - many * p).abs() <= 4 * (many * p * (1 - p)).sqrt() + 1).all()


def test_a_sample_depends_on_the_seed_and_its_own_input_only() -> None:
    model, decoder = table_lm(5, eos_bias=0.0), DiverseBeamSearch(sample_groups=True)
    sampling = {"do_sample": True, "top_k": 0, "temperature": 1.3}

    def drawn(seed: int, prompts: list[list[int]]) -> Any:
        torch.manual_seed(seed)
        return model.generate(
            **padded(prompts, 1), custom_generate=decoder, return_dict_in_generate=True, **GROUPS, **sampling
        )

    first, again, other = drawn(0, PROMPTS), drawn(0, PROMPTS), drawn(1, PROMPTS)
    assert torch.equal(first.sequences, again.sequences)
    assert not torch.equal(first.sequences_scores, other.sequences_scores)
    assert len(set(first.sequences_scores.tolist())) > 12
    for i, prompt in enumerate(PROMPTS):
        alone = drawn(0, [prompt])
        assert torch.equal(first.sequences_scores[6 * i : 6 * i + 6], alone.sequences_scores)


REFUSED = {
    "num_beams.*num_beam_groups": {"num_beam_groups": 4},
    "num_return_sequences.*num_beams": {"num_return_sequences": 7},
    "diversity_penalty": {"diversity_penalty": -0.1},
    "num_beam_groups": {"num_beam_groups": None},
    "do_sample": {"do_sample": True},
}


@pytest.mark.parametrize("names", REFUSED)
def test_what_contradicts_is_refused_by_name(names: str) -> None:
    asked = GROUPS | REFUSED[names]
    with pytest.raises(ValueError, match=f"(?s){names}"):
        table_lm().generate(
            **padded(PROMPTS, 1),
            custom_generate=diverse_beam_search,
            **{name: value for name, value in asked.items() if value is not None},
        )


def test_too_long_or_empty_prompts_are_refused() -> None:
    model = tiny.model("gpt2")
    with pytest.raises(ValueError, match="positions"):
        model.generate(torch.full((1, 70), 9), custom_generate=diverse_beam_search, **GROUPS)
    blank = {"input_ids": torch.tensor([[9, 9], [0, 0]]), "attention_mask": torch.tensor([[1, 1], [0, 0]])}
    with pytest.raises(ValueError, match="empty"):
        model.generate(**blank, custom_generate=diverse_beam_search, **GROUPS)


def test_what_a_user_s_diversity_returns_is_checked() -> None:
    def wrong(chosen: Any, history: Any, prefix: Any, vocab_size: int) -> torch.Tensor:
        return torch.zeros(3, 5)

    def unknown(chosen: Any, history: Any, prefix: Any, vocab_size: int) -> torch.Tensor:
        return torch.full((*prefix.shape[:2], vocab_size), float("nan"))

    for own, message in ((wrong, "shape|must return"), (unknown, "NaN")):
        with pytest.raises(ValueError, match=message):
            generate(table_lm(), DiverseBeamSearch(diversity=own))


def test_options_that_make_no_sense_are_refused(own_messages: None) -> None:
    for options in ({"diversity": "haming"}, {"n": 0}, {"temperature": 0.0}, {"discount": -1.0}, {"order": "length"}):
        (name,) = options
        with pytest.raises(ValueError, match=name):
            DiverseBeamSearch(**options)
    with pytest.raises(ValueError, match="rank_penalty"):
        SiblingBeamSearch(rank_penalty=-1.0)


def test_one_group_at_any_penalty_is_beam_search() -> None:
    model = table_lm(1, eos_bias=1.0)
    expected = model.generate(
        **padded(PROMPTS, 1), num_beams=6, num_return_sequences=6, max_new_tokens=6, return_dict_in_generate=True
    )
    with pytest.warns(UserWarning, match=r"diversity_penalty=0.7 changes nothing: this is beam search"):
        found = generate(model, num_beam_groups=1, diversity_penalty=0.7)
    assert torch.equal(found.sequences, expected.sequences)


@pytest.mark.parametrize(
    "limit",
    [
        {"max_time": 1e-9},
        {"max_length": 5, "max_new_tokens": None},
        {"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(6)])},
    ],
)
def test_limits_of_time_and_length_are_beam_search_s(limit: dict[str, Any]) -> None:
    for seed in range(4):
        model = table_lm(seed, eos_bias=0.5)
        asked = GROUPS | {"num_beam_groups": 1, "diversity_penalty": 0.0} | limit
        found = model.generate(**padded(PROMPTS, 1), custom_generate=diverse_beam_search, **asked)
        del asked["num_beam_groups"], asked["diversity_penalty"]
        assert torch.equal(found, model.generate(**padded(PROMPTS, 1), **asked))


def test_a_smaller_limit_of_length_charges_its_last_step_too() -> None:
    for seed in range(4):
        model = table_lm(seed, eos_bias=0.5)
        shorter = generate(model, max_new_tokens=3)
        found = generate(model, stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(6)]))
        assert torch.equal(found.sequences, shorter.sequences)
        assert torch.equal(found.sequences_scores, shorter.sequences_scores)
