"""Usual ways to weigh domains that have no paper of their own here."""

from collections.abc import Mapping
from typing import Any

from kilter.lab.arms import Levers, Term


def rivals() -> Mapping[str, Term]:
    """Terms of the task, by name."""
    return {
        "uniform": Term("Every domain alike", lambda strength: Levers(sampler=_uniform), role="context"),
    }


def _uniform(rows: Any, seed: int) -> Any:
    from kilter.tasks.language_modelling.training import mixture_of

    return mixture_of(rows, seed)
