"""Embeddings: objectives for sentence encoders, on sentence-transformers or in any loop.

Torch only: sentence-transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.embeddings.shuffled_group_whitening import shuffled_group_whitening
from kilter.embeddings.whitened_cse import WhitenedCSE, whitened_cse_loss

__all__ = ["WhitenedCSE", "shuffled_group_whitening", "whitened_cse_loss"]
