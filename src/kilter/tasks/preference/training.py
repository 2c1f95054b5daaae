"""One arm's training by a stock trainer, and what it logged by the step."""

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor

from kilter.hosts.completions import ends_of, prompt_ids
from kilter.hosts.trl_references import answer_ids
from kilter.lab.files import read_json, write_json
from kilter.lab.recipe import Advance
from kilter.lab.training import arguments, fit
from kilter.models.text_model import TextModel
from kilter.tasks.preference import networks
from kilter.tasks.preference.drawn import Answers
from kilter.tasks.preference.learning import Learning
from kilter.tasks.preference.likelihood import score_all
from kilter.tasks.preference.offline import Likelihood, OfflineTrainer, Row, rows_of
from kilter.tasks.preference.scorers import Scorer, against_reference
from kilter.tasks.preference.sources import Item, said
from kilter.tasks.preference.strength import strength_for

if TYPE_CHECKING:
    from kilter.tasks.preference.task import PreferenceTuning

TRAIL = "trail.json"
"""Beside the model: what the trainer logged, and at which strength the LoRA was left."""
_WEIGHED = 128
"""Draws by which the strength is found."""


def train(
    task: "PreferenceTuning",
    text: TextModel,
    items: Sequence[Item],
    learning: Learning,
    scorer: Scorer,
    draws: Answers | None,
    seed: int,
    folder: Path,
    advance: Advance,
) -> None:
    """Tune the model in place, resuming from `folder/checkpoints`, and leave it with the LoRA in its weights.

    Args:
        task: options.
        text: model and tokenizer.
        items: prompts to learn from.
        learning: what the arm does.
        scorer: the reward.
        draws: answers of the model as given to those prompts, if the arm needs them.
        seed: of the order, the LoRA, and the samples.
        folder: of the piece of work.
        advance: told of every step.
    """
    torch.manual_seed(seed)
    rewards = None if draws is None else draws.scores[0]
    beta = 0.0 if learning.beta is None else learning.beta(rewards)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)  # peft and trl say its old name
        made = _settings(task, learning, beta, seed, folder / "checkpoints")
        added = networks.lora(text.model, rank=task.lora, last=task.lora_layers)
        if learning.solver in ("offline", "sft"):
            text.model = networks.with_lora(text.model, added, seed)
            rows, loss = _offline(task, text, items, learning, draws, beta)
            trainer: Any = OfflineTrainer(text.model, made, loss, rows, text.tokenizer.pad_token_id)
        else:
            trainer = _trl(text, items, learning, scorer, rewards, made, peft_config=added, beta=beta)
        fit(trainer, advance)
    text.model, strength = trainer.accelerator.unwrap_model(trainer.model), 1.0
    if learning.kl is not None and draws is not None and task.lora:
        strength = _strength(text, draws, learning.kl, task.answers_at_once)
    text.model = networks.merged(text.model)
    write_json(folder / TRAIL, {"beta": beta, "strength": strength, "logged": logged(trainer.state.log_history)})


def _offline(
    task: "PreferenceTuning",
    text: TextModel,
    items: Sequence[Item],
    learning: Learning,
    draws: Answers | None,
    beta: float,
) -> tuple[list[Row], Any]:
    """Rows, and the loss of them."""
    if learning.solver == "sft":
        return references(text, items, task.max_new_tokens), Likelihood()
    assert draws is not None
    assert learning.values is not None
    assert learning.loss is not None
    return rows_of(draws, learning.values(draws.scores[0], beta)), learning.loss(beta)


def _settings(task: "PreferenceTuning", learning: Learning, beta: float, seed: int, folder: Path) -> Any:
    how: dict[str, Any] = {
        "steps": task.steps,
        "batch_size": task.batch_size,
        "learning_rate": task.learning_rate,
        "warm_up_steps": task.steps // 10,
        "seed": seed,
        "device": task.device,
        "precision": task.precision,
        "save_steps": task.save_steps,
        "lr_scheduler_type": "linear",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "remove_unused_columns": False,
    }
    if learning.solver == "sft":
        how["batch_size"] = task.batch_size // task.group  # as many prompts as where each has a group
    if learning.solver in ("offline", "sft"):
        return arguments(folder, **how)
    from trl import GRPOConfig, RLOOConfig  # pyright: ignore[reportPrivateImportUsage]

    how |= {
        "num_generations": task.group,
        "max_completion_length": task.max_new_tokens,
        "temperature": 1.0,
        "beta": beta,
        "gradient_checkpointing": False,
        "use_vllm": False,
    }
    if learning.solver == "grpo":
        how |= {"loss_type": "grpo", "scale_rewards": "group"}
    return arguments(folder, kind=GRPOConfig if learning.solver == "grpo" else RLOOConfig, **how | {**learning.options})


def _trl(
    text: TextModel,
    items: Sequence[Item],
    learning: Learning,
    scorer: Scorer,
    rewards: Tensor | None,
    made: Any,
    *,
    beta: float,
    peft_config: Any,
) -> Any:
    """TRL's own trainer, on columns prompt and, where there are, chosen and reference_rewards."""
    from trl import GRPOTrainer, RLOOTrainer  # pyright: ignore[reportPrivateImportUsage]

    reward = against_reference(scorer) if learning.against_reference else scorer.reward
    reward = reward if learning.reward is None else learning.reward(reward, beta)
    columns: dict[str, Any] = {"prompt": [item.prompt for item in items]}
    if all(item.chosen is not None for item in items):
        columns["chosen"] = [item.chosen for item in items]
    if rewards is not None:
        columns["reference_rewards"] = rewards.tolist()
    kind = GRPOTrainer if learning.solver == "grpo" else RLOOTrainer
    trainer: Any = kind(
        model=text.model,
        reward_funcs=reward,
        args=made,
        train_dataset=Dataset.from_dict(columns),
        processing_class=text.tokenizer,
        peft_config=peft_config,
    )
    if learning.attached is not None:
        from kilter.hosts.trl import align_group
        from kilter.tasks.preference.groups import Parts

        align_group(trainer, objective := learning.attached(), reference="chosen")
        Parts(trainer, objective)
    return trainer


def references(text: TextModel, items: Sequence[Item], most: int) -> list[Row]:
    """The reference answers as rows, each of which weighs as much."""
    prompts = prompt_ids(text.tokenizer, [item.prompt for item in items])
    return [
        {"prompt": prompt, "answer": answer, "base_log_probs": 0.0, "values": 1 / len(answer)}
        for prompt, answer in zip(prompts, reference_ids(text, items, most), strict=True)
    ]


def reference_ids(text: TextModel, items: Sequence[Item], most: int) -> list[list[int]]:
    """Token ids of the reference answers up to and with their end, cut to what a model may write."""
    how: dict[str, Any] = {"ends": ends_of(text.model, text.tokenizer), "most": most}
    found = []
    for item in items:
        try:
            found.append(answer_ids(text.tokenizer, item.prompt, item.chosen, **how))
        except ValueError:  # the template writes more into its generation prompt than answers have: their text alone
            found.append(answer_ids(text.tokenizer, item.prompt, said(item.chosen or ""), **how))
    return found


def _strength(text: TextModel, draws: Answers, kl: float, rows_at_once: int) -> float:
    """Set the strength of the LoRA to where the KL divergence is `kl`."""
    prompts, answers = draws.flat()
    some = [*range(0, len(prompts), max(1, len(prompts) // _WEIGHED))]
    base, now = draws.log_probs.flatten()[some], [1.0]
    text.model.eval()

    def log_ratios(factor: float) -> Tensor:
        networks.scale(text.model, factor / now[0])
        now[0] = factor
        rows = [prompts[row] for row in some], [answers[row] for row in some]
        return score_all(text, *rows, rows_at_once) - base

    found = strength_for(log_ratios, kl)
    networks.scale(text.model, found / now[0])
    return found


def logged(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The trainer's numbers by the step."""
    rows = [row for row in history if "loss" in row]
    return [{name: float(value) for name, value in row.items() if isinstance(value, int | float)} for row in rows]


def numbers_of(folder: Path) -> dict[str, float]:
    """Of what `train` wrote beside a model, that which is a figure of the arm; nothing of the model as given."""
    return {"strength": read_json(folder / TRAIL)["strength"]} if (folder / TRAIL).exists() else {}


def clean(folder: Path) -> None:
    """Remove what a killed training would have gone on from."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
