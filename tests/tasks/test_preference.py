"""The parts of preference tuning: likelihoods against a loop, kept draws, strengths, tilting, shares, what is read."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kilter.models.text_model import TextModel
from kilter.models.tiny_text import tiny_lm, tiny_tokenizer
from kilter.tasks.preference import networks, sources
from kilter.tasks.preference.drawn import kept, sampled
from kilter.tasks.preference.judging import divergences, reference_shares, win_shares
from kilter.tasks.preference.learning import Learning
from kilter.tasks.preference.likelihood import log_probs, padded, score_all
from kilter.tasks.preference.offline import Likelihood, RewardRegression, rows_of
from kilter.tasks.preference.scorers import Scorer, against_reference, named
from kilter.tasks.preference.sources import Item, in_chat
from kilter.tasks.preference.strength import strength_for, weighted_kl
from kilter.tasks.preference.tilting import beta_at_kl, less_partition, tilted_kl
from kilter.tasks.preference.training import reference_ids

pytestmark = pytest.mark.host

ITEMS = [Item(f"Name {word}:", f" {word}") for word in ("red", "blue", "a long green one")]


@pytest.fixture(scope="module")
def text() -> TextModel:
    """A tiny model that says nothing."""
    tokenizer = tiny_tokenizer([f"{item.prompt}{item.chosen}" for item in ITEMS])
    return TextModel(tiny_lm(tokenizer), tokenizer)


def test_likelihoods_are_those_of_a_loop_whatever_the_padding(text: TextModel) -> None:
    prompts, answers = [[5, 6, 7], [8], [9, 10]], [[11, 2], [12, 13, 14], [15]]
    wanted = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            logits = text.model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        wanted.append(float(sum(logits[len(prompt) - 1 + at, token] for at, token in enumerate(answer))))
    found = log_probs(text.model, padded(prompts, answers, pad=0))
    np.testing.assert_allclose(found.tolist(), wanted, rtol=1e-5)
    np.testing.assert_allclose(score_all(text, prompts, answers, 2).tolist(), wanted, rtol=1e-5)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in text.model.parameters())
    text.model.zero_grad(set_to_none=True)


def test_draws_depend_on_seed_and_prompt_and_a_killed_drawing_goes_on(text: TextModel, tmp_path: Path) -> None:
    how: dict[str, Any] = {"seed": 3, "new_tokens": 4, "rows_at_once": 6}
    whole = sampled(text, ITEMS, 3, **how)
    assert sampled(text, ITEMS[1:2], 3, **how).answers == whole.answers[1:2]
    assert sampled(text, ITEMS, 3, **{**how, "seed": 4}).answers != whole.answers
    scorer, asked = Scorer("length", lambda completions, **_: [float(len(one)) for one in completions]), []

    def load() -> TextModel:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return text

    def drawn() -> Any:
        more: Any = {"at_once": 1, "advance": lambda done, total: None, **how}
        return kept(load, ITEMS, 3, tmp_path / "draws.jsonl", {"model": "tiny"}, [scorer], **more)

    with pytest.raises(KeyboardInterrupt):
        drawn()
    found = drawn()
    assert found.answers == whole.answers
    assert len(asked) == 4, "the first prompt was not drawn anew"
    assert found.scores.shape == (1, 3, 3)
    np.testing.assert_allclose(found.log_probs.flatten(), score_all(text, *whole.flat(), 64), rtol=1e-5)
    with pytest.raises(ValueError, match="was made with model='tiny'"):
        kept(load, ITEMS, 3, tmp_path / "draws.jsonl", {"model": "else"}, [scorer], at_once=1, advance=print, **how)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # which peft calls by its old name
def test_a_model_is_no_distance_from_itself_and_a_lora_is_scaled(text: TextModel) -> None:
    answers = sampled(text, ITEMS, 2, seed=0, new_tokens=3, rows_at_once=8)
    assert divergences(text, text, answers, 6, 8) == [(0.0, 2)] * 3
    model = networks.with_lora(tiny_lm(text.tokenizer), networks.lora(text.model, rank=2, last=1), seed=0)
    assert {name.split(".layers.")[1][0] for name, one in model.named_parameters() if one.requires_grad} == {"1"}
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.tensor([[5, 6]])
    before, given = model(ids).logits, text.model(ids).logits
    networks.scale(model, 0.0)
    torch.testing.assert_close(model(ids).logits, given)
    assert not torch.allclose(before, given)


def test_references_end_as_a_model_would_end_them(text: TextModel) -> None:
    ids = reference_ids(text, ITEMS, 20)
    assert all(row[-1] == text.tokenizer.eos_token_id for row in ids)
    assert reference_ids(text, ITEMS, 1) == [row[:1] for row in ids]


def test_the_strength_brings_the_divergence_where_it_was_asked() -> None:
    logits = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    draws = torch.arange(5).repeat(400)

    def exact(factor: float) -> float:
        policy = (factor * logits).softmax(0)
        return float((policy * (policy * 5).log()).sum())

    def log_ratios(factor: float) -> torch.Tensor:
        return (5 * (factor * logits).softmax(0)).log()[draws]

    assert weighted_kl(log_ratios(1.3)) == pytest.approx(exact(1.3))
    assert exact(strength_for(log_ratios, 0.2)) == pytest.approx(0.2, rel=0.05)


def test_raw_rewards_are_tilted_as_a_loop_says() -> None:
    rewards = torch.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, float("nan")]], dtype=torch.float64)
    wanted = []
    for row in ([0.0, 1.0, 3.0], [2.0, 2.0]):
        weights = np.exp(np.array(row) / 0.7)
        shares = weights / weights.sum()
        wanted.append(float((shares * np.log(shares * len(row))).sum()))
    assert tilted_kl(rewards, 0.7) == pytest.approx(np.mean(wanted))
    assert tilted_kl(rewards, beta_at_kl(rewards, 0.2)) == pytest.approx(0.2)
    less = less_partition(rewards, 0.7)
    assert float((less[0] / 0.7).exp().mean()) == pytest.approx(1)
    assert less[1].tolist()[:2] == pytest.approx([0, 0])
    with pytest.raises(ValueError, match="too few differ"):
        beta_at_kl(rewards, 0.6)


def test_the_regression_is_nought_at_the_optimum_and_sft_is_the_mean_likelihood() -> None:
    rewards = torch.tensor([[0.0, 1.0, 3.0]], dtype=torch.float64)
    values = less_partition(rewards, 0.5).flatten()
    base = torch.tensor([-3.0, -2.0, -5.0], dtype=torch.float64)
    assert float(RewardRegression(beta=0.5)(base + values / 0.5, base, values).loss) == pytest.approx(0, abs=1e-12)
    out = Likelihood()(torch.tensor([-4.0, -9.0]), torch.zeros(2), torch.tensor([1 / 2, 1 / 3]))
    assert float(out.loss) == pytest.approx(2.5)


def test_rows_without_a_value_are_left_out(text: TextModel) -> None:
    draws = sampled(text, ITEMS, 2, seed=0, new_tokens=3, rows_at_once=8)
    draws = type(draws)(draws.prompts, draws.answers, torch.zeros(3, 2))
    values = torch.tensor([[1.0, float("nan")], [2.0, 3.0], [4.0, 5.0]])
    assert [row["values"] for row in rows_of(draws, values)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_shares_of_wins_are_those_of_a_loop() -> None:
    ours, start = torch.tensor([[1.0, 2.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    found = reference_shares(ours, torch.tensor([1.0]), start, group=2)
    assert found["win_rate"].tolist() == [(0.5 + 1 + 0 + 0.5) / 4]
    assert found["net_start"].tolist() == [(1 + 2 - 1 + 1) / 8]
    assert found["all_fail"].tolist() == [0]
    assert reference_shares(ours, torch.tensor([2.0]), start, group=2)["all_fail"].tolist() == [0.5]
    same = win_shares(ours, ours, n=2)
    assert {name: float(value[0]) for name, value in same.items()} == pytest.approx(dict.fromkeys(same, 0.5))
    judged = win_shares(ours, start, n=1, judged=(-ours, -start))
    assert judged["judged_plain"][0] == pytest.approx(1 - win_shares(ours, start, n=1)["win_plain"][0])


def test_rewards_against_a_reference_are_signs_async_too() -> None:
    async def late(completions: Any, **_: Any) -> list[float | None]:
        return [None if one == "?" else float(len(one)) for one in completions]

    def at_once(completions: Any, **columns: Any) -> list[float | None]:
        assert len(columns["completion_ids"]) == len(columns["prompts"]) == len(completions)
        return asyncio.run(late(completions))

    given: dict[str, Any] = {"prompts": ["a"] * 4, "completions": ["12", "1", "123", "?"], "chosen": ["ab"] * 4}
    given |= {"completion_ids": [[1]] * 4, "more": [1, 2, 3, 4]}
    assert against_reference(Scorer("x", at_once))(**given) == [0.0, -1.0, 1.0, None]
    assert asyncio.run(against_reference(Scorer("x", late))(**given)) == [0.0, -1.0, 1.0, None]


def test_scorers_that_come_with_kilter_are_named() -> None:
    scorer = named("judge", "exact-match")
    assert scorer.of_written(ITEMS[:2], [" red", " green"], [[1], [2]]).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match=r"judge: nowhere\.py: no such file"):
        named("judge", "nowhere.py:short")


def test_own_rows_may_be_messages_and_plain_ones_become_them(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    chat = '{"prompt": [{"role": "user", "content": "Hello %d"}], "chosen": [{"role": "assistant", "content": "Hi"}]}'
    file.write_text("\n".join(chat % number for number in range(10)) + "\n")
    found = sources.own(str(file), None, needs_answers=True, chat=False)
    assert (len(found.train), len(found.test), found.test[0].asked) == (9, 1, "Hello 9")
    assert in_chat(Item("Q", " A")).chosen == [{"role": "assistant", "content": "A"}]
    file.write_text('{"prompt": "a", "chosen": [{"role": "assistant", "content": "Hi"}]}\n')
    with pytest.raises(ValueError, match="must both be texts"):
        sources.own(str(file), None, needs_answers=True, chat=False)


def test_what_needs_answers_says_so() -> None:
    assert Learning(solver="sft").needs_answers
    assert Learning(solver="grpo", against_reference=True).needs_answers
    assert not Learning(solver="offline").needs_answers
