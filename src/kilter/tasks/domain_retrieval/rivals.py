"""What any recipe on domain retrieval can be set beside: a dense model for all domains, and one for each of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kilter.lab.arms import Levers, Term


@dataclass(frozen=True)
class Pupil:
    """What an objective is made for: the encoder that learns, and the domains that the label column numbers."""

    encoder: Any
    domains: tuple[str, ...]


def rivals(loss: Callable[[Pupil], Any]) -> dict[str, Term]:
    """Terms of the task, by name, with the loss that all arms have."""
    return {
        "dense": Term("One dense model", lambda strength: Levers(objective=loss), role="context"),
        "separate": Term(
            "Dense model for each domain",
            lambda strength: Levers(objective=loss, options={"apart": True}),
            role="context",
        ),
        "untold": Term("domain not told", lambda strength: Levers(options={"told": False}), after=True, role="context"),
    }
