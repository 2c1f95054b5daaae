"""Pairs of sentences with labels or scores: a cross-encoder, and students that keep a vector of every sentence."""

from kilter.tasks.sentence_pairs.students import Pupil
from kilter.tasks.sentence_pairs.task import SentencePairs

__all__ = ["Pupil", "SentencePairs"]
