"""An encoder for texts of several domains, trained on pairs of each and judged within each domain."""

from kilter.tasks.domain_retrieval.task import DomainRetrieval

__all__ = ["DomainRetrieval"]
