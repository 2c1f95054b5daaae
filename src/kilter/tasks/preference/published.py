"""Data that is there without the user's: requests to an assistant with a reward learnt from people, and short tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

from kilter.data.assets import credits_of
from kilter.lab.recipe import Provenance
from kilter.tasks.preference.scorers import Scorer, named
from kilter.tasks.preference.sources import Item, Material, in_chat

Task = Literal["harmless", "short-answers"]
_EACH = 5
"""Of the questions of a short task every fifth is judged on."""


def material(task: Task, *, words: int, chat: bool, model: str) -> Material:
    """What is learnt from and judged on.

    Args:
        task: which.
        words: of a prompt, at most.
        chat: prompts are messages, for a model's own template.
        model: that is tuned, whom to credit for it.

    Raises:
        ValueError: no prompt is that short.
    """
    train, test, found = _requests() if task == "harmless" else _short_tasks()
    parts = [
        [in_chat(item) if chat else item for item in some if len(item.asked.split()) <= words] for some in (train, test)
    ]
    if not all(parts):
        raise ValueError(f"prompt_words={words}: too few prompts of {task} are that short; raise --prompt-words")
    note = credits_of(["smollm2"]) if model == "smollm2" else ""
    return Material(parts[0], parts[1], replace(found, note=note))


def scorers(task: Task) -> tuple[Scorer, Scorer | None]:
    """The reward, and the judge that is another."""
    if task == "harmless":
        return named("reward", "bradley-terry"), named("judge", "bradley-terry")
    return named("reward", "exact-match"), None


def _requests() -> tuple[Sequence[Item], Sequence[Item], Provenance]:
    from kilter.data.hh_harmless import hh_pairs, hh_parts, locate_hh

    parts = hh_parts(hh_pairs())

    def items(pairs: Iterable[Any]) -> list[Item]:
        asked = {pair.prompt[0]["content"]: pair.chosen for pair in pairs if len(pair.prompt) == 1}
        return [Item(f"Human: {request}\n\nAssistant:", f" {answer}") for request, answer in asked.items()]

    return items([*parts.reward, *parts.judge]), items(parts.test), Provenance(**locate_hh().credit())


def _short_tasks() -> tuple[Sequence[Item], Sequence[Item], Provenance]:
    from kilter.data.bbh import bbh_questions, locate_bbh

    asked = {one.question: one.answer for one in bbh_questions()}
    items = [Item(f"Q: {question}\nA:", f" {answer}") for question, answer in asked.items()]
    test = items[_EACH - 1 :: _EACH]
    return (
        [item for place, item in enumerate(items) if place % _EACH != _EACH - 1],
        test,
        Provenance(**locate_bbh().credit()),
    )
