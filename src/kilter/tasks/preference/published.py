"""Data that is there without the user's: requests to an assistant with a reward learnt from people, and short tasks."""

from typing import Literal

from kilter.tasks.preference.scorers import Scorer, exact
from kilter.tasks.preference.sources import Item, Material


def material(task: Literal["harmless", "short-answers"], *, words: int, chat: bool) -> Material:
    raise NotImplementedError


def scorers(task: Literal["harmless", "short-answers"]) -> tuple[Scorer, Scorer | None]:
    raise NotImplementedError
