"""What scores answers: a reward as TRL takes it, asked outside of a trainer, too; and by whom a run is judged.

A scorer learnt from people's preferences, the exact answer, or the user's own function or classifier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kilter.data.scorers import SCORERS, scorer, scorer_digest
from kilter.hosts.completions import is_chat, written
from kilter.hosts.trl_rewards import RewardFunction, ask, is_async, name_of, reward_function
from kilter.models.rewards import load_reward
from kilter.tasks.preference.sources import Item, said

_AT_ONCE = 64
"""Answers that a scorer is given at a time; changes time and memory."""


@dataclass(frozen=True)
class Scorer:
    """A reward.

    Attributes:
        name: by which the run was told of it.
        reward: what TRL takes.
        digest: changes when the reward does.
    """

    name: str
    reward: Any
    digest: str = ""

    @property
    def function(self) -> RewardFunction:
        """The reward as a plain function."""
        return reward_function(self.reward)

    def of(self, tokenizer: Any, items: Sequence[Item], answers: Sequence[Sequence[int]]) -> Tensor:
        """Scores `(N,)` of answers, given as token ids, in float64; NaN where there is none."""
        texts = [
            written(tokenizer, [[*ids]], chat=is_chat(item.prompt))[0] for item, ids in zip(items, answers, strict=True)
        ]
        return self.of_written(items, texts, answers)

    def of_written(self, items: Sequence[Item], texts: Sequence[Any], ids: Sequence[Sequence[int]]) -> Tensor:
        """The same of answers as TRL writes them: texts, or lists of one message."""
        found: list[float | None] = []
        function = self.function
        for first in range(0, len(items), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            columns = {"chosen": [item.chosen for item in items[some]]}
            columns = columns if None not in columns["chosen"] else {}
            prompts = [item.prompt for item in items[some]]
            found += ask(function, prompts, texts[some], ids[some], columns)
        return torch.tensor([float("nan") if value is None else value for value in found], dtype=torch.float64)

    def of_references(self, tokenizer: Any, items: Sequence[Item]) -> Tensor:
        """Scores `(P,)` of the reference answers."""
        chosen: list[Any] = [item.chosen for item in items]
        ids = [tokenizer(said(text))["input_ids"] for text in chosen]
        return self.of_written(items, chosen, ids)


def named(option: Literal["reward", "judge"], name: str, device: str = "cpu") -> Scorer:
    """A reward that `--reward` or `--judge` names: one that comes with kilter, a function, or a classifier.

    Raises:
        ValueError: see `kilter.models.rewards.load_reward`.
    """
    if name in SCORERS:
        shown = f"{name} ({option})" if name == "bradley-terry" else name
        return Scorer(shown, scorer(name, option), scorer_digest(name, option))
    found = load_reward(option, name, device=device)
    return Scorer(found.place, found.function, found.digest)


def against_reference(scorer: Scorer) -> Callable[..., Any]:
    """A reward as TRL takes it: 1 where an answer scores higher than the reference, 0 as high, -1 lower.

    It is asked for both in one call, in either order alike.
    """
    function = scorer.function

    def both(prompts: Any, completions: Any, completion_ids: Any, chosen: Any, columns: Any) -> dict[str, Any]:
        more = {name: [*value, *value] if _per_row(value, prompts) else value for name, value in columns.items()}
        known = {name: ids for name, ids in (("completion_ids", completion_ids),) if ids is not None}
        named = {"completion_ids": [*known["completion_ids"], *known["completion_ids"]]} if known else {}
        return {
            **more,
            **named,
            "prompts": [*prompts, *prompts],
            "completions": [*completions, *chosen],
            "chosen": [*chosen, *chosen],
        }

    def signs(found: Sequence[float | None]) -> list[float | None]:
        ours, theirs = found[: len(found) // 2], found[len(found) // 2 :]
        return [None if a is None or b is None else float((a > b) - (a < b)) for a, b in zip(ours, theirs, strict=True)]

    if is_async(function):

        async def late(prompts: Any, completions: Any, chosen: Any, completion_ids: Any = None, **columns: Any) -> Any:
            return signs(await function(**both(prompts, completions, completion_ids, chosen, columns)))  # type: ignore[misc]

        late.__name__ = name_of(function)
        return late

    def at_once(prompts: Any, completions: Any, chosen: Any, completion_ids: Any = None, **columns: Any) -> Any:
        return signs(function(**both(prompts, completions, completion_ids, chosen, columns)))  # type: ignore[arg-type]

    at_once.__name__ = name_of(function)
    return at_once


def _per_row(value: Any, prompts: Sequence[Any]) -> bool:
    return isinstance(value, list) and len(value) == len(prompts)
