"""Preference: language models that are tuned to be preferred, by a reward, by comparisons, or by a reference answer.

Torch only: trl is loaded inside functions, its private names live in `kilter.hosts`.
"""

__all__: list[str] = []
