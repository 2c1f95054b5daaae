"""An encoder that finds translations though it has seen none: documents of each language to learn from, pairs to judge on."""

from kilter.tasks.bitext_retrieval.task import BitextRetrieval

__all__ = ["BitextRetrieval"]
