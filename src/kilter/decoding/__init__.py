"""Decoding: diverse and reranked text from any transformers model, and rankers to choose it by.

Torch only: transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.decoding.best_of_n import BestOfN
from kilter.decoding.diverse_beam_search import DiverseBeamSearch, diverse_beam_search
from kilter.decoding.mmi_beam_search import MMIBeamSearch
from kilter.decoding.rankgen import RankGenLoss, rank_gen_loss
from kilter.decoding.rankgen_scorer import RankGenScorer
from kilter.decoding.rankgen_search import RankGenSearch
from kilter.decoding.sibling_beam_search import SiblingBeamSearch

__all__ = [
    "BestOfN",
    "DiverseBeamSearch",
    "MMIBeamSearch",
    "RankGenLoss",
    "RankGenScorer",
    "RankGenSearch",
    "SiblingBeamSearch",
    "diverse_beam_search",
    "rank_gen_loss",
]
