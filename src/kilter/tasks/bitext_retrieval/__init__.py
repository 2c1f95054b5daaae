"""An encoder that finds translations though it has seen none, trained on documents of each language alone."""

from kilter.tasks.bitext_retrieval.task import BitextRetrieval

__all__ = ["BitextRetrieval"]
