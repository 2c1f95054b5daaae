"""Language modelling: next-token prediction on texts of several domains, judged at growing length and on a target."""

from kilter.tasks.language_modelling.rows import Learner, Rows
from kilter.tasks.language_modelling.task import SECONDS, LanguageModelling

__all__ = ["SECONDS", "LanguageModelling", "Learner", "Rows"]
