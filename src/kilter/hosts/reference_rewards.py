"""What a reward says of the base model's own answers: the sample that a calibrated reward is a place in.

Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025. Drawn once, before training.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from os import PathLike
from typing import Any

from datasets import Dataset, List, Value
from torch import nn
from transformers.utils import logging

from kilter.core.errors import suggest
from kilter.core.options import positive, whole
from kilter.hosts.completions import Ids, draw, ends_of, is_chat, prompt_ids, written
from kilter.hosts.reward_cache import RewardCache
from kilter.hosts.trl_rewards import RewardFunction, Values, ask, check_takes, fingerprint, reward_function, told_apart
from kilter.hosts.wrapped import unwrapped


def add_reference_rewards(
    dataset: Any,
    model: nn.Module,
    tokenizer: Any,
    reward: Any,
    *,
    num_ref: int = 100,
    max_new_tokens: int = 256,
    temperature: float | int = 1.0,
    batch_size: int = 8,
    seed: int = 0,
    column: str = "reference_rewards",
    cache: str | PathLike[str] | None = None,
    processing_class: Any = None,
) -> Any:
    r"""A data set of prompts with a column more: rewards of answers that the base model gave to each of them.

    $$r(x, z_k),\qquad z_k \sim \pi_0(\cdot \mid x),\qquad k = 1, \dots, K$$

    Answers are drawn as TRL's trainers draw by default, from the whole vocabulary: give the temperature that training
    will have, and as `model` the very one it starts from (and is held to by its KL penalty). What is drawn hangs on the
    seed and the prompt alone, so that rows may be left out, added and batched otherwise; equal prompts draw the same.
    Global random states, the model's mode and its generation settings stay as they are.

    Args:
        dataset: a `datasets.Dataset` with a column `prompt`, texts or messages; its other columns go to the reward.
        model: π₀, a causal model of transformers, perhaps with adapters.
        tokenizer: the model's.
        reward: what TRL's trainers take: a function, an async one, or a sequence classifier.
        num_ref: K, answers of each prompt; the calibrated reward's standard error is at most $1 / (2\sqrt K)$.
        max_new_tokens: of an answer, `max_completion_length` of the training.
        temperature: of the draws.
        batch_size: answers drawn at a time, of one prompt or of several; more are faster, and need more memory.
        seed: of the draws.
        column: name of the new column, a list of K numbers; None where the reward gave no score.
        cache: a file of JSON lines that is written row by row: a call that was killed goes on there, to the same
            numbers, and one that is repeated only reads it. Of several processes let one be the first
            (`with PartialState().main_process_first():`).
        processing_class: tokenizer of a reward that is a classifier; by default that which was saved with it.

    Returns:
        The data set with the column, for `kilter.preference.inference_aware_reward`.

    Raises:
        TypeError: no `datasets.Dataset`, no reward, or one that takes other arguments than TRL gives.
        ValueError: an option out of range, no column `prompt` or one called `column` already, a prompt without tokens,
            a reward that returns another number of numbers than of answers; a cache made with other settings.

    Example:
        >>> from datasets import Dataset
        >>> from transformers import AutoModelForCausalLM, AutoTokenizer
        >>> def short(completions, **columns):
        ...     return [-len(text) for text in completions]
        >>> def prepare(name):  # the base model's folder or id
        ...     model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
        ...     prompts = Dataset.from_dict({"prompt": ["The capital of France is"]})
        ...     return add_reference_rewards(prompts, model, tokenizer, short, num_ref=32, cache="short.jsonl")

    Reference: Balashankar et al., "InfAlign: Inference-aware language model alignment", ICML 2025, §4.
    """
    for name, value in (("num_ref", num_ref), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        whole(name, value, 1)
    whole("seed", seed)
    positive("temperature", temperature)
    _check_dataset(dataset, column)
    function = reward_function(reward, processing_class)
    check_takes(reward, dataset.column_names)
    if not hasattr(unwrapped(model), "generation_config"):
        raise TypeError(f"model must be a causal model of transformers, got {type(model).__name__}")
    prompts = list(dataset["prompt"])
    ids = prompt_ids(tokenizer, prompts)
    ends = ends_of(model, tokenizer)
    how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed, "ends": ends}
    made = {"num_ref": num_ref, **how, "model": fingerprint(model), "reward": told_apart(reward)}
    rows = [_digest(tokens, row) for tokens, row in zip(ids, dataset, strict=True)]
    kept = RewardCache(cache, made)
    found = kept.read()
    missing = {row: place for place, row in enumerate(rows) if row not in found}
    drawn = draw(model, [ids[place] for place in missing.values()], draws=num_ref, batch_size=batch_size, **how)
    at_once = batch_size if isinstance(reward, nn.Module) else num_ref  # a function may wait for all at once
    with logging.tqdm(total=len(missing), desc="reference rewards", unit=" prompts", disable=not missing) as bar:
        for (row, place), answers in zip(missing.items(), drawn, strict=True):
            parts = (answers[start : start + at_once] for start in range(0, num_ref, at_once))
            found[row] = [value for part in parts for value in _asked(function, tokenizer, part, dataset[place])]
            kept.add(row, found[row])
            bar.update()
    return dataset.add_column(column, [found[row] for row in rows], feature=List(Value("float64")))


def _asked(function: RewardFunction, tokenizer: Any, answers: Sequence[Ids], row: Mapping[str, Any]) -> Values:
    """What the reward says of some answers to one prompt."""
    prompts = [row["prompt"]] * len(answers)
    completions = written(tokenizer, answers, chat=is_chat(row["prompt"]))
    return ask(function, prompts, completions, answers, {name: [value] * len(answers) for name, value in row.items()})


def _check_dataset(dataset: Any, column: str) -> None:
    if not isinstance(dataset, Dataset):
        mend = "; give one of its splits" if isinstance(dataset, dict) else "; Dataset.from_list makes one of rows"
        raise TypeError(f"dataset must be a datasets.Dataset, got {type(dataset).__name__}{mend}")
    if not isinstance(column, str) or not column:
        raise TypeError(f"column must be a name, got {column!r}")
    if "prompt" not in dataset.column_names:
        raise ValueError(
            f"dataset has no column 'prompt'{suggest('prompt', dataset.column_names)}; dataset.rename_column makes one"
        )
    if column in dataset.column_names:
        raise ValueError(f"dataset has a column {column!r} already; remove it, or give column another name")


def _digest(ids: Ids, row: Mapping[str, Any]) -> str:
    """Tells a row from others: what is drawn for it, and what the reward is given."""
    told = json.dumps([ids, row], sort_keys=True, default=lambda thing: type(thing).__name__)
    return sha256(told.encode()).hexdigest()[:16]
