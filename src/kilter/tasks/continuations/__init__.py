"""A ranker of what comes next in a text, and texts chosen by it."""

from kilter.tasks.continuations.task import Continuations

__all__ = ["Continuations"]
