"""Embeddings of texts: objectives that training of sentence encoders lacks, and what they are fed with.

Torch only: sentence-transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.embeddings.ccp import ContextPrediction
from kilter.embeddings.ccp_loss import context_prediction_loss
from kilter.embeddings.context_pairs import ContextPairs, LanguageBatches

__all__ = ["ContextPairs", "ContextPrediction", "LanguageBatches", "context_prediction_loss"]
