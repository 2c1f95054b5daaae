"""Embeddings: vectors of texts that spread, that know their context, and that are alike across languages.

Torch only: sentence-transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.embeddings.ccp import ContextPrediction
from kilter.embeddings.ccp_loss import context_prediction_loss
from kilter.embeddings.context_pairs import ContextPairs, LanguageBatches
from kilter.embeddings.dse import DistilledSentenceEmbedding, pair_distillation_loss
from kilter.embeddings.language_calibration import LanguageCalibration
from kilter.embeddings.pair_head import PairHead
from kilter.embeddings.pair_search import PairSearch
from kilter.embeddings.shuffled_group_whitening import shuffled_group_whitening
from kilter.embeddings.whitened_cse import WhitenedCSE, whitened_cse_loss

__all__ = [
    "ContextPairs",
    "ContextPrediction",
    "DistilledSentenceEmbedding",
    "LanguageBatches",
    "LanguageCalibration",
    "PairHead",
    "PairSearch",
    "WhitenedCSE",
    "context_prediction_loss",
    "pair_distillation_loss",
    "shuffled_group_whitening",
    "whitened_cse_loss",
]
