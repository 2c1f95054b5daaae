"""Pretraining: positions that are read digit by digit, and which data come next while a model is trained.

Torch only: transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.pretraining.dga import DynamicGradientAlignment, reweight
from kilter.pretraining.domain_mixture import DomainMixture
from kilter.pretraining.domain_rules import balance_step, doge_step, importance_weights, proportional_weights
from kilter.pretraining.gradient_alignments import gradient_alignments
from kilter.pretraining.mixture_callback import MixtureCallback
from kilter.pretraining.position_digits import position_digits
from kilter.pretraining.position_losses import position_contrast, position_transfer
from kilter.pretraining.position_samplers import PositionSampler
from kilter.pretraining.seqpe import SeqPE, attach, detach
from kilter.pretraining.sequential_position_encoder import SequentialPositionEncoder

__all__ = [
    "DomainMixture",
    "DynamicGradientAlignment",
    "MixtureCallback",
    "PositionSampler",
    "SeqPE",
    "SequentialPositionEncoder",
    "attach",
    "balance_step",
    "detach",
    "doge_step",
    "gradient_alignments",
    "importance_weights",
    "position_contrast",
    "position_digits",
    "position_transfer",
    "proportional_weights",
    "reweight",
]
