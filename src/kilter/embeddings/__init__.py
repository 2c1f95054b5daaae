"""Embeddings: vectors of texts that spread, that know their context, and that are alike across languages.

Torch only: sentence-transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.embeddings.language_calibration import LanguageCalibration

__all__ = ["LanguageCalibration"]
