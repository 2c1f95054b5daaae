"""What any recipe on pairs of sentences can be set beside: the teacher, cosines, and other heads and vectors."""

from collections.abc import Mapping
from typing import Any

from kilter.lab.arms import Levers, Term


def rivals() -> Mapping[str, Term]:
    """Terms of the task, by name: what scores pairs instead of a student, and what makes a student another one."""
    return {
        "teacher": Term("Teacher, both sentences together", _scored_by("teacher"), role="context"),
        "untrained": Term("The encoder as given, cosines", _scored_by("cosine"), role="context"),
        "dot": _other("head on the dot product alone", features="dot"),
        "portable": _other("mean of the last layer", pooling="mean"),
        "symmetric": _other("both orders averaged", symmetric=True),
    }


def _scored_by(name: str) -> Any:
    return lambda strength: Levers(decoder=name)


def _other(label: str, **options: Any) -> Term:
    return Term(label, lambda strength: Levers(options=options), after=True, role="context")
