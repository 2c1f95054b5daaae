"""What a run measured, as recipes and verdicts see it: the metrics, and the arms' figures in them.

Standard library only, and below recipes and summaries, which both build on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kilter.evaluation.intervals import Interval


SHARE = (0.0, 100.0)
"""Bounds of a share in per cent."""
RATE = (0.0, None)
"""Bounds of an error rate: there may be more errors than words."""


@dataclass(frozen=True)
class Metric:
    """How a figure is called, printed and judged; keys are those of `metrics.json`."""

    label: str
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"
    digits: int = 2
    bounds: tuple[float | None, float | None] = (None, None)
    """the least and the most it can be by nature: intervals end there"""
    log: bool = False
    """it differs by orders of magnitude: an axis across is logarithmic"""
    exp: bool = False
    """it is e to the ratio of its totals, as perplexity is to nats and tokens"""


@runtime_checkable
class Measured(Protocol):
    """The figures of a run's arms, and the paired intervals between them; `kilter.lab.summary.Arms` is one."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What is measured, by its key."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """What each arm is called in words."""
        ...

    @property
    def figures(self) -> Mapping[str, Mapping[int, Mapping[str, Any]]]:
        """The figures of each seed of each arm."""
        ...

    def value(self, arm: str, metric: str) -> "Interval | None":
        """Mean and interval of one metric of an arm; None where it was not measured."""
        ...

    def difference(self, arm: str, metric: str, baseline: str) -> "Interval | None":
        """Paired difference from another arm in one metric; None where it cannot be had."""
        ...

    def ratio(self, arm: str, metric: str, baseline: str) -> "Interval | None":
        """How many times another arm's figure, paired; None where it cannot be had."""
        ...
