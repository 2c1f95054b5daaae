"""Usual ways to weigh domains that have no paper of their own here."""

from collections.abc import Mapping
from typing import Any

from kilter.lab.arms import Levers, Term


def rivals() -> Mapping[str, Term]:
    """Terms of the task, by name."""
    return {
        "proportional": Term(
            "Domains by the size of their texts", lambda strength: Levers(sampler=_by_size), role="context"
        ),
    }


def _by_size(rows: Any, seed: int) -> Any:
    from kilter.tasks.language_modelling.training import mixture_of

    return mixture_of(rows, seed, rows.weights(by_size=True))
