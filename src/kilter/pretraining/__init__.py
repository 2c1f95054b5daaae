"""Pretraining: positions that are read digit by digit, and what else shapes a model before it is anyone's.

Torch only: transformers is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.pretraining.position_baselines import Alibi, LearntPositions, NoPositions, SinusoidalPositions
from kilter.pretraining.position_digits import position_digits
from kilter.pretraining.position_losses import position_contrast, position_transfer
from kilter.pretraining.position_samplers import PositionSampler
from kilter.pretraining.seqpe import SeqPE, attach, detach
from kilter.pretraining.sequential_position_encoder import SequentialPositionEncoder

__all__ = [
    "Alibi",
    "LearntPositions",
    "NoPositions",
    "PositionSampler",
    "SeqPE",
    "SequentialPositionEncoder",
    "SinusoidalPositions",
    "attach",
    "detach",
    "position_contrast",
    "position_digits",
    "position_transfer",
]
