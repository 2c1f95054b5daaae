"""Questions whose answers are exact: the 27 tasks of BIG-Bench Hard, and whether an answer is the right one.

Source: Suzgun et al., "Challenging BIG-Bench tasks and whether chain-of-thought can solve them", 2022. The departure:
questions are asked alone, without worked examples before them.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilter.core.errors import suggest
from kilter.data.assets import ASSETS, Located, locate
from kilter.models.completions import completion_text

TASKS = tuple(sorted(name.removesuffix(".json") for name in ASSETS["bbh"].checksums()))
SHORT = ("boolean_expressions", "object_counting", "sports_understanding")
"""Tasks with short questions, answered in a word or a number."""


@dataclass(frozen=True)
class ExactQuestion:
    """A question and its only right answer."""

    task: str
    question: str
    answer: str


def locate_bbh() -> Located:
    """Where the tasks are, and whom to credit.

    Raises:
        FileNotFoundError: They are not here and cannot be fetched.
    """
    return locate("bbh", progress=False)


def bbh_questions(tasks: Iterable[str] = SHORT, *, folder: str | Path | None = None) -> list[ExactQuestion]:
    """The questions of some tasks, 146 to 250 each, task after task in the order of the files.

    Args:
        tasks: Of `TASKS`.
        folder: Where the files are; None: where `locate_bbh` finds or puts them.

    Raises:
        ValueError: There is no such task, or a file is missing or broken.
        FileNotFoundError: The tasks are not here and cannot be fetched.
    """
    wanted = [*tasks]
    for task in wanted:
        if task not in TASKS:
            raise ValueError(f"tasks: BIG-Bench Hard has no {task!r}{suggest(task, TASKS)}")
    root = Path(folder or locate_bbh().path)
    return [one for task in wanted for one in _read(task, root / f"{task}.json")]


def _read(task: str, file: Path) -> list[ExactQuestion]:
    try:
        rows = json.loads(file.read_text("utf-8"))["examples"]
        return [ExactQuestion(task, row["input"].strip(), row["target"].strip()) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        again = "delete the folder and run `kilter fetch bbh`"
        raise ValueError(f"{file}: not a task of BIG-Bench Hard ({error!r}); {again}") from error


def exact_match(completions: Sequence[Any], chosen: Sequence[Any], **columns: Any) -> list[float]:
    """1 where a completion is the reference answer, else 0: a reward as trl's trainers take it.

    Spaces, capitals, and a full stop at the end do not count; anything else that is said does.

    Args:
        completions: Texts, or lists of messages.
        chosen: The right answers, the same way.
        columns: Whatever else a trainer gives; not looked at.

    Example:
        >>> exact_match(["True.", "It is True"], ["True", "True"])
        [1.0, 0.0]
    """
    pairs = zip(completions, chosen, strict=True)
    return [float(_bare(completion_text(one)) == _bare(completion_text(other))) for one, other in pairs]


def _bare(text: str) -> str:
    return re.sub(r"\s*\.$", "", " ".join(text.split())).casefold()
