"""GRAO in the stock GRPO trainer: a step is the paper's gradient by hand, whatever trl does around it."""

import asyncio
import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from kilter.preference import GroupRelativeAlignment
from tests.hosts.group_trainer import (
    ANSWERS,
    ASSISTANT,
    END,
    LINE,
    QUESTIONS,
    USER,
    Judge,
    ids,
    model_of_words,
    pairs,
    tokenizer_of_words,
    trainer_of,
)

pytest.importorskip("trl")
pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]  # trl's own, which differ by version


def attach(trainer: Any, objective: Any = None, **how: Any) -> Any:
    from kilter.hosts.trl import align_group

    return align_group(trainer, GroupRelativeAlignment() if objective is None else objective, **how)


def weights(model: Any) -> Tensor:
    return torch.cat([one.detach().flatten() for one in model.parameters() if one.requires_grad])


def by_hand(
    model: Any, call: dict[str, Any], *, chat: bool, of_reference: float | Judge = 0.0, limit: int = 6, **how: Any
) -> Tensor:
    """The gradient of the paper's loss of what was sampled, in loops, its three parts apart, at temperature 1.3."""
    beta, lambda_, in_stats = (how.get(name, value) for name, value in (("b", 0.5), ("l", 0.6), ("s", True)))

    def likelihood(prompt: list[int], answer: list[int]) -> Tensor:
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        log_probs = (logits / 1.3).log_softmax(-1)
        return sum(log_probs[at, token] for at, token in enumerate(answer)) / len(answer)  # type: ignore[return-value]

    total = torch.zeros(())
    for start in range(0, 8, 4):
        number = call["number"][start]
        prompt = ids(QUESTIONS[number])
        prompt = [USER, *prompt, END, LINE, ASSISTANT] if chat else prompt
        reference = [*ids(ANSWERS[number]), END][:limit]
        scores = [math.nan if one is None else one for one in call["scores"][start : start + 4]]
        of_it = of_reference.of(reference) if isinstance(of_reference, Judge) else of_reference
        known = [one for one in scores if one == one] + [of_it] * in_stats
        mean = sum(known) / len(known)
        deviation = math.sqrt(sum((one - mean) ** 2 for one in known) / len(known)) + 1e-4
        a_y, j_y = (of_it - mean) / deviation, likelihood(prompt, reference)
        for row in range(4):
            a = 0.0 if scores[row] != scores[row] else (scores[row] - mean) / deviation
            j = likelihood(prompt, [*call["ids"][start + row]])
            total = total + (a * j + beta * a_y * j_y + lambda_ * a * (j - j_y)) / 8
    slopes = torch.autograd.grad(-total, [one for one in model.parameters() if one.requires_grad])
    return torch.cat([one.flatten() for one in slopes])


SPLIT = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
"""Micro-batches of two shuffled rows, which split the groups of four."""


class TestAStep:
    def check(self, trainer: Any, judge: Judge, objective: Any = None, reward: Any = 0.0, **how: Any) -> dict[str, Any]:
        model = trainer.model
        before, start = copy.deepcopy(model.state_dict()), weights(model)
        attach(trainer, objective, reference_reward=reward if isinstance(reward, float) else "score")
        trainer.train()
        after = weights(model)
        model.load_state_dict(before)
        slope = by_hand(model.eval(), judge.calls[0], of_reference=reward, **how)
        assert slope.abs().max() > 1e-3
        assert_close(after, start - 0.5 * slope, atol=2e-6, rtol=1e-4)
        return trainer.state.log_history[0]

    @pytest.mark.parametrize("how", [{}, SPLIT], ids=["whole", "split"])
    @pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
    def test_is_the_papers(self, chat: bool, how: dict[str, Any], tmp_path: Path) -> None:
        judge = Judge()
        logs = self.check(trainer_of(tmp_path, judge, chat=chat, **how), judge, chat=chat)
        assert {"reference_advantage", "reference_log_prob"} <= logs.keys()
        assert logs["reference_log_prob"] < 0

    def test_with_references_that_are_messages(self, tmp_path: Path) -> None:
        judge = Judge()
        self.check(trainer_of(tmp_path, judge, rows=pairs(messages=True)), judge, chat=True)

    @pytest.mark.parametrize("form", ["paper", "folded"])
    def test_without_the_reference_in_the_statistics(self, form: Any, tmp_path: Path) -> None:
        judge, objective = Judge(), GroupRelativeAlignment(beta=0.2, lambda_=1, reference_in_stats=False, form=form)
        self.check(trainer_of(tmp_path, judge), judge, objective, chat=True, b=0.2, l=1, s=False)

    @pytest.mark.parametrize("how", [{}, SPLIT], ids=["whole", "split"])
    def test_where_some_have_no_score(self, how: dict[str, Any], tmp_path: Path) -> None:
        judge = Judge(silent=(1, 6, 7))
        self.check(trainer_of(tmp_path, judge, **how), judge, chat=True)

    def test_2_where_every_sample_fails(self, tmp_path: Path) -> None:
        judge = Judge(flat=True)
        logs = self.check(trainer_of(tmp_path, judge), judge, chat=True)
        assert logs["reference_advantage"] == pytest.approx(2, rel=1e-3)

    def test_with_a_reward_of_the_references_own(self, tmp_path: Path) -> None:
        judge = Judge()
        self.check(trainer_of(tmp_path, judge), judge, reward=1.5, chat=True)

    @pytest.mark.parametrize("chat", [True, False], ids=["chat", "text"])
    def test_with_the_reference_scored(self, chat: bool, tmp_path: Path) -> None:
        judge = Judge()
        logs = self.check(trainer_of(tmp_path, judge, chat=chat, log_completions=True), judge, reward=judge, chat=chat)
        asked = judge.calls[1]
        answers = [ANSWERS[number] for number in asked["number"]]
        assert [*asked["ids"]] == [[*ids(answer), END] for answer in answers]
        said = [one[0]["content"] if chat else one for one in asked["completions"]]
        assert said == answers
        assert logs["asked"] == 8  # and not what it logs of references

    def test_what_is_hung_on_the_log_stays_there(self, tmp_path: Path) -> None:
        trainer, heard = trainer_of(tmp_path, Judge()), []
        trainer._log_metric = own = lambda *said: heard.append(said)
        attach(trainer, reference_reward="score")
        trainer.train()
        assert trainer._log_metric is own
        assert heard == [("asked", 8.0)]

    def test_with_an_async_reward_and_a_second_one(self, tmp_path: Path) -> None:
        judge = Judge()

        async def late(**columns: Any) -> list[float | None]:
            await asyncio.sleep(0)
            return judge(**columns)

        def nothing(completions: Any, **_: Any) -> list[float | None]:
            return [None] * len(completions)

        trainer = trainer_of(tmp_path, [late, nothing], reward_weights=[1.0, 0.3])
        self.check(trainer, judge, reward=judge, chat=True)

    def test_with_an_adapter(self, tmp_path: Path) -> None:
        peft = pytest.importorskip("peft")
        judge = Judge()
        config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
        trainer = trainer_of(tmp_path, judge, peft_config=config)
        assert weights(trainer.model).numel() < 500
        self.check(trainer, judge, chat=True)

    def test_a_reference_is_cut_at_the_longest_completion(self, tmp_path: Path) -> None:
        judge = Judge()
        self.check(trainer_of(tmp_path, judge, max_completion_length=2), judge, chat=True, limit=2)

    def test_a_worse_reference_is_left_alone(self, tmp_path: Path) -> None:
        found = []
        for beta in (0.5, 5.0):
            trainer = trainer_of(tmp_path, Judge())
            attach(trainer, GroupRelativeAlignment(beta=beta, clip_negative_reference=True), reference_reward=-50.0)
            trainer.train()
            found.append(weights(trainer.model))
        assert torch.equal(*found)


class TestWhatStaysTrls:
    @pytest.mark.parametrize(("optim", "atol"), [("sgd", 1e-7), ("adamw_torch", 1e-5)])
    def test_3_without_weights_it_is_grpo(self, optim: str, atol: float, tmp_path: Path) -> None:
        """Over three steps with dropout, updates on old samples and a KL penalty."""
        how = {"max_steps": 3, "optim": optim, "learning_rate": 0.01, "beta": 0.1, "num_iterations": 2, **SPLIT}
        from transformers import AutoModelForCausalLM

        model_of_words(attention_dropout=0.2).save_pretrained(tmp_path / "model")  # a KL penalty loads it again
        found = []
        for attached in (False, True):
            model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
            trainer = trainer_of(tmp_path, Judge(), model=model, **how)
            if attached:
                attach(trainer, GroupRelativeAlignment(beta=0, lambda_=0, reference_in_stats=False, std="sample"))
            trainer.train()
            found.append(trainer)
        # Adam makes much of roundings
        assert_close(weights(found[1].model), weights(found[0].model), atol=atol, rtol=1e-6)
        logs = [trainer.state.log_history for trainer in found]
        for name in ("loss", "reward", "kl", "entropy"):
            values = [[row[name] for row in history if name in row] for history in logs]
            assert values[0] == pytest.approx(values[1], rel=1e-5)
            assert values[0]
        assert "reference_log_prob" in logs[1][0]
        assert "reference_log_prob" not in logs[0][0]

    def test_detached_it_is_the_stock_trainer(self, tmp_path: Path) -> None:
        found = []
        for attached in (False, True):
            trainer = trainer_of(tmp_path, Judge())
            methods = dict(trainer.__dict__)
            if attached:
                attach(trainer).detach()
                assert trainer.__dict__.keys() == methods.keys()
            trainer.train()
            found.append(weights(trainer.model))
        assert torch.equal(*found)

    def test_it_learns_what_no_sample_hits(self, tmp_path: Path) -> None:
        """All samples fail: the reference becomes likelier, which GRPO cannot do."""
        trainer = trainer_of(tmp_path, Judge(flat=True), max_steps=12, optim="adamw_torch", learning_rate=0.02)
        attach(trainer)
        trainer.train()
        likely = [row["reference_log_prob"] for row in trainer.state.log_history if "reference_log_prob" in row]
        assert likely[-1] > likely[0] + 1

    def test_evaluation_needs_no_reference(self, tmp_path: Path) -> None:
        from datasets import Dataset

        rows = Dataset.from_list([{"prompt": row["prompt"], "number": row["number"]} for row in pairs()])
        trainer = trainer_of(tmp_path, Judge(), per_device_eval_batch_size=8)
        attach(trainer, reference_reward="score")
        found = trainer.evaluate(rows)
        assert math.isfinite(found["eval_loss"])
        trainer.train()

    def test_a_resumed_run_is_one_that_was_not_stopped(self, tmp_path: Path) -> None:
        """Within an epoch; trl's own sampler begins anew at the next one."""
        found = []
        for folder, checkpoint in (("a", None), ("b", tmp_path / "a" / "checkpoint-1")):
            how = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "optim": "adamw_torch"}
            trainer = trainer_of(tmp_path / folder, Judge(), learning_rate=0.01, **how)
            attach(trainer)
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
            found.append(weights(trainer.model))
        assert_close(*found)


class TestReferences:
    def test_what_the_template_writes_up_to_its_end(self, tmp_path: Path) -> None:
        from kilter.hosts.trl_references import reference_ids

        trainer = trainer_of(tmp_path, Judge())
        rows = [*pairs(), {"prompt": pairs()[0]["prompt"], "chosen": ""}]
        expected = [[*ids(answer), END] for answer in (*ANSWERS, "")]
        assert reference_ids(trainer, rows, "chosen") == expected
        assert reference_ids(trainer, pairs(messages=True), "chosen") == expected[:4]

    def test_a_template_that_ends_nothing_gets_an_end(self, tmp_path: Path) -> None:
        from kilter.hosts.trl_references import reference_ids

        template = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}"
        template += "{% if add_generation_prompt %}<|assistant|> {% endif %}"
        trainer = trainer_of(tmp_path, Judge(), tokenizer=tokenizer_of_words(template))
        assert reference_ids(trainer, pairs(), "chosen") == [[*ids(answer), END] for answer in ANSWERS]

    def test_a_template_that_writes_something_else_is_refused(self, tmp_path: Path) -> None:
        template = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}"
        template += "{% if add_generation_prompt %}<|assistant|> w1 {% endif %}"
        trainer = trainer_of(tmp_path, Judge(), tokenizer=tokenizer_of_words(template))
        attach(trainer)
        with pytest.raises(ValueError, match="writes something else before an answer than its generation prompt"):
            trainer.train()

    def test_a_template_that_ends_the_prompt_only_before_an_answer_is_refused(self, tmp_path: Path) -> None:
        template = (
            "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% if not loop.last %}<end> {% endif %}"
        )
        trainer = trainer_of(tmp_path, Judge(), tokenizer=tokenizer_of_words(template + "{% endfor %}"))
        attach(trainer)
        with pytest.raises(ValueError, match=r"writes an end before the answer, '<end> .* with a generation prompt"):
            trainer.train()

    def test_nothing_is_kept_after_the_first_end(self, tmp_path: Path) -> None:
        from kilter.hosts.trl_references import reference_ids

        for chat in (True, False):
            trainer = trainer_of(tmp_path, Judge(), chat=chat)
            rows = [{"prompt": pairs(chat=chat)[0]["prompt"], "chosen": f"w9 <end>{more}"} for more in ("", " w10")]
            assert reference_ids(trainer, rows, "chosen") == [[*ids("w9"), END]] * 2

    @pytest.mark.parametrize(
        "chosen",
        [
            None,
            3.0,
            [],
            ["w1"],
            {"role": "assistant", "content": "w1"},
            [{"role": "user", "content": "w1"}],
            [{"role": "assistant", "content": None}],
            [{"role": "assistant", "content": "w1"}, {"role": "user", "content": "w2"}],
            [{"role": "assistant", "content": "w1"}, {"role": "assistant", "content": "w2"}],
        ],
        ids=str,
    )
    def test_what_is_no_answer_is_named(self, chosen: Any, tmp_path: Path) -> None:
        from kilter.hosts.trl_references import answers

        for chat in (True, False):
            rows = pairs(chat=chat)
            rows[2] |= {"chosen": chosen}
            with pytest.raises(
                ValueError, match=r"row 2 of the batch, prompt .*w4 w5 w6.*: column 'chosen' must hold a"
            ):
                answers(rows, "chosen")

    def test_a_long_row_is_not_shown_whole(self) -> None:
        from kilter.hosts.trl_references import answers

        talk = [{"role": "user", "content": "w1 " * 999}, {"role": "assistant", "content": "w2"}]
        with pytest.raises(ValueError, match=r"got ….*'w2'") as error:
            answers([{"prompt": talk[:1], "chosen": talk}], "chosen")
        assert len(str(error.value)) < 400


@pytest.mark.usefixtures("own_messages")
class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"loss_type": "dapo"}, "loss_type='dapo' of the trainer averages over other tokens"),
            ({"scale_rewards": "none"}, "scale_rewards='none' of the trainer would not be followed"),
            ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation='normalize_then_sum'"),
            ({"remove_unused_columns": True}, "remove_unused_columns=True drops the column 'chosen'"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=said):
            attach(trainer_of(tmp_path, Judge(), **settings))

    def test_a_tokenizer_without_an_end(self, tmp_path: Path) -> None:
        tokenizer = tokenizer_of_words()
        tokenizer.eos_token = None
        with pytest.raises(
            ValueError, match=r"has no eos_token, .*; set tokenizer.eos_token before making the trainer"
        ):
            attach(trainer_of(tmp_path, Judge(), tokenizer=tokenizer))

    def test_no_such_column(self, tmp_path: Path) -> None:
        trainer = trainer_of(tmp_path, Judge())
        with pytest.raises(ValueError, match="reference='chosn' is no column of the training data; did you mean 'chos"):
            attach(trainer, reference="chosn")

    def test_no_grpo_trainer(self) -> None:
        with pytest.raises(TypeError, match="trainer must be a trl GRPOTrainer, got Linear"):
            attach(torch.nn.Linear(2, 2))
        with pytest.raises(TypeError, match="trainer must be a trl GRPOTrainer, got the class Linear"):
            attach(torch.nn.Linear)

    def test_no_objective(self, tmp_path: Path) -> None:
        from kilter.speech import PeakFirst

        trainer = trainer_of(tmp_path, Judge())
        with pytest.raises(TypeError, match=r"as GroupRelativeAlignment\(\) has, got the class GroupRelativeAlignment"):
            attach(trainer, GroupRelativeAlignment)
        with pytest.raises(TypeError, match=r"objective must have advantages .*, got PeakFirst"):
            attach(trainer, PeakFirst(weight=1))

    @pytest.mark.parametrize("value", [math.nan, math.inf, "scores", None])
    def test_the_reward_of_a_reference(self, value: Any, tmp_path: Path) -> None:
        with pytest.raises((TypeError, ValueError), match="reference_reward must be"):
            attach(trainer_of(tmp_path, Judge()), reference_reward=value)

    def test_attached_or_detached_twice(self, tmp_path: Path) -> None:
        trainer = trainer_of(tmp_path, Judge())
        handle = attach(trainer)
        with pytest.raises(ValueError, match="has an objective attached already"):
            attach(trainer)
        handle.detach()
        with pytest.raises(ValueError, match="not attached"):
            handle.detach()

    def test_attached_twice_with_something_else_between(self, tmp_path: Path) -> None:
        trainer = trainer_of(tmp_path, Judge())
        handle = attach(trainer)
        over = trainer._compute_loss
        trainer._compute_loss = lambda model, inputs: over(model, inputs)
        with pytest.raises(ValueError, match="has an objective attached already"):
            attach(trainer)
        with pytest.raises(ValueError, match="another was attached after it"):
            handle.detach()
        trainer._compute_loss = over
        handle.detach()

    def test_a_reference_that_nothing_scores(self, tmp_path: Path) -> None:
        judge = Judge()

        def silent(completions: Any, **columns: Any) -> list[float | None]:
            found = judge(completions=completions, **columns)
            return found if len(found) == 8 else [None] * len(found)

        trainer = trainer_of(tmp_path, silent)
        attach(trainer, reference_reward="score")
        with pytest.raises(ValueError, match="gave no number for the reference of group 0 of 2, column 'chosen'"):
            trainer.train()
