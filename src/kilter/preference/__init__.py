"""Preference: language models that are tuned to be preferred, by a reward, by comparisons, or by a reference answer.

Torch only: trl is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.preference.grao import GroupRelativeAlignment, effective_weights, group_relative_alignment
from kilter.preference.group_advantages import group_advantages

__all__ = ["GroupRelativeAlignment", "effective_weights", "group_advantages", "group_relative_alignment"]
