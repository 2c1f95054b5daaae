"""Pretraining: which data come next, while a language model is trained.

Torch only: transformers is loaded inside functions.
"""

from kilter.pretraining.dga import DynamicGradientAlignment, reweight
from kilter.pretraining.domain_mixture import DomainMixture
from kilter.pretraining.domain_rules import balance_step, doge_step, importance_weights, proportional_weights
from kilter.pretraining.gradient_alignments import gradient_alignments
from kilter.pretraining.mixture_callback import MixtureCallback

__all__ = [
    "DomainMixture",
    "DynamicGradientAlignment",
    "MixtureCallback",
    "balance_step",
    "doge_step",
    "gradient_alignments",
    "importance_weights",
    "proportional_weights",
    "reweight",
]
