"""Sentence encoders: trained on sentences or on texts of one meaning, and judged by whether cosines follow people."""

from kilter.tasks.sentence_similarity.rivals import views_of, whole_views
from kilter.tasks.sentence_similarity.task import SentenceSimilarity

__all__ = ["SentenceSimilarity", "views_of", "whole_views"]
