"""TRL: rewards that know what the base model gets, and groups that have a reference answer among them.

Papers: InfAlign (Balashankar et al., ICML 2025), GRAO. No trainer is made here; the stock ones are given data, a reward
or a handle.
"""

from importlib.metadata import version

from kilter.core.installed import hint, numbers
from kilter.hosts.reference_rewards import add_reference_rewards
from kilter.hosts.trl_group import AlignGroup, align_group

__all__ = ["TESTED", "AlignGroup", "add_reference_rewards", "align_group"]

TESTED = ">=1.9,<1.17"
"""The GRPO of 1.15.0 itself needs triton, which a CPU has not: there it fails with or without a handle."""

_LEAST = TESTED.split(",")[0].removeprefix(">=")
_FOUND = version("trl")
if numbers(_FOUND) < numbers(_LEAST):
    raise ImportError(f"kilter.hosts.trl needs trl {_LEAST} or newer, found {_FOUND}: {hint('preference')}")
