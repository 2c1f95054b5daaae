"""Likelihood of sets: a model learns the joint distribution of variables that it writes in one order or another."""

from kilter.tasks.set_likelihood.stars import StarVariables
from kilter.tasks.set_likelihood.words import WordGroups

__all__ = ["StarVariables", "WordGroups"]
