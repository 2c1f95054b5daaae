"""What a run measured, as recipes and verdicts see it: the metrics, and the arms' figures in them.

Standard library only, and below recipes and summaries, which both build on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kilter.evaluation.intervals import Interval


@dataclass(frozen=True)
class Metric:
    """How a figure is called, printed and judged; keys are those of `metrics.json`."""

    label: str
    unit: str = ""
    better: Literal["lower", "higher"] = "lower"
    digits: int = 2


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
