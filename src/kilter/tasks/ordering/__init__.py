"""Ordering: a model that is given a set learns to write its items in order, and is judged on sets of every size."""

from kilter.tasks.ordering.task import Ordering, Shape

__all__ = ["Ordering", "Shape"]
