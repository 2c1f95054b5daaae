"""Pretraining: which data come next, while a language model is trained.

Torch only: transformers is loaded inside functions.
"""

from kilter.pretraining.dga import DynamicGradientAlignment, reweight
from kilter.pretraining.domain_mixture import DomainMixture
from kilter.pretraining.gradient_alignments import gradient_alignments
from kilter.pretraining.mixture_callback import MixtureCallback

__all__ = [
    "DomainMixture",
    "DynamicGradientAlignment",
    "MixtureCallback",
    "gradient_alignments",
    "reweight",
]
