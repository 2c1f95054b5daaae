"""Recognising speech with a CTC model: words right, and when they come."""

from kilter.tasks.recognition.rivals import not_zero
from kilter.tasks.recognition.task import Recognition

__all__ = ["Recognition", "not_zero"]
