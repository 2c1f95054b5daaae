"""Preference tuning: a language model learns from a reward, and its samples are held against where it began."""

from kilter.tasks.preference.task import PreferenceTuning

__all__ = ["PreferenceTuning"]
