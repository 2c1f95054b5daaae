"""Preference: language models that are tuned to be preferred, by a reward, by comparisons, or by a reference answer.

Torch only: trl is loaded inside functions, its private names live in `kilter.hosts`.
"""

from kilter.preference.calibration import calibrate
from kilter.preference.finite_support import FiniteSolution, finite_fixed_point, finite_win_rate
from kilter.preference.fixed_point import FixedPoint, fixed_point
from kilter.preference.grao import GroupRelativeAlignment, effective_weights, group_relative_alignment
from kilter.preference.group_advantages import group_advantages
from kilter.preference.inference_aware_reward import inference_aware_reward
from kilter.preference.quantile_reward import QuantileRewardRegression
from kilter.preference.reward_transform import reward_transform
from kilter.preference.transform_curves import log_partition, win_rate_at_kl
from kilter.preference.win_rate_curves import density_kl, tilt, win_rate

__all__ = [
    "FiniteSolution",
    "FixedPoint",
    "GroupRelativeAlignment",
    "QuantileRewardRegression",
    "calibrate",
    "density_kl",
    "effective_weights",
    "finite_fixed_point",
    "finite_win_rate",
    "fixed_point",
    "group_advantages",
    "group_relative_alignment",
    "inference_aware_reward",
    "log_partition",
    "reward_transform",
    "tilt",
    "win_rate",
    "win_rate_at_kl",
]
