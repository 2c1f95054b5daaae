"""What a recipe is: options, arms, data, and how to train and judge one arm with one seed.

Everything about seeds, resuming, directories, intervals, tables and the report is in `kilter.lab`, once.
Standard library only, so that `--help` answers at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from kilter.core.paper import Claim, Paper

if TYPE_CHECKING:
    from kilter.lab.summary import Arms

Role = Literal["baseline", "method", "context"]


@dataclass(frozen=True)
class Arm:
    """One way of training, to be compared with the others on the same budget."""

    label: str
    role: Role = "method"
    series: str = ""
    """arms of one series are one method at several strengths: a figure joins them"""
    point: str = ""
    """what tells this arm from the others of its series"""


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


@dataclass(frozen=True)
class Provenance:
    """The data a run used, and whom to credit."""

    title: str
    licence: str = "not stated"
    attribution: str = ""
    page: str = ""
    source: str = ""
    synthetic: bool = False
    note: str = ""
    skipped: Sequence[tuple[str, str]] = ()
    digest: str = ""
    """changes when the data does, so that a run does not go on with other data"""


@dataclass(frozen=True)
class Judged:
    """What `evaluate` returns.

    Attributes:
        metrics: flat names to numbers; costs begin with `cost_`.
        utterances: one JSON-able row per test example; `totals` in a row maps a metric to `[numerator,
            denominator]`, so that the metric is the ratio of the sums (what the bootstrap resamples).
    """

    metrics: Mapping[str, float]
    utterances: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A figure of the report: an SVG text, perhaps with audio (bytes of a wav file)."""

    name: str
    title: str
    caption: str
    svg: str
    audio: bytes | None = None


Advance = Callable[..., None]
"""`advance(done, total, unit="steps")`: moves the progress bar of a piece of work; `unit` says what is counted."""


@dataclass(kw_only=True)
class Recipe(ABC):
    """Options that every recipe has; subclasses add their own and say what the arms are."""

    preset: str = "full"
    """which set of defaults: smoke (seconds, for tests), demo (minutes), full (the evidence)"""
    out: Path | None = None
    """run directory; by default ./runs/<method>-<preset>-<hash of the settings>"""
    seeds: int = 1
    """how many seeds, 0, 1, 2, …"""
    arms: tuple[str, ...] = ()
    """which arms to run; by default all of the preset"""
    only: str | None = None
    """one piece of work, ARM/seed-N, for a scheduler that spreads them"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """arithmetic of training: float32, or automatic mixed precision"""
    threads: int = 1
    """CPU threads; results are bit-identical for the same number"""
    jobs: int = 1
    """pieces of work side by side, each in a process of its own"""

    paper: ClassVar[Paper]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    metrics: ClassVar[Mapping[str, Metric]] = {}
    baseline: ClassVar[str]
    intervals: ClassVar[Literal["seeds", "examples"]] = "seeds"
    """what intervals are over when there are several seeds: the seeds, or the test examples with the seeds pooled"""
    own_by: ClassVar[tuple[str, ...]] = ("model",)
    """options that mean one's own work, so that the preset is `own` where none is asked for"""
    unhashed: ClassVar[frozenset[str]] = frozenset({"out", "only", "jobs", "arms", "seeds", "preset"})
    """options that change where or how much is run, not what one piece of work computes"""

    def prepare(self) -> None:  # noqa: B027 (most recipes have nothing to settle)
        """Check that the options fit each other, and settle those that depend on others, before any work."""

    @abstractmethod
    def describe(self, arm: str) -> Arm:
        """Label and role of an arm; ValueError for one that is not known."""

    @abstractmethod
    def build_data(self) -> Provenance:
        """Find and read the data (kept on the recipe), and say what was used."""

    def warm_up(self, arm: str, seed: int, run: Path, advance: Advance) -> None:  # noqa: B027 (nor to share)
        """What arms of one seed share, done once in the run directory; not part of an arm's cost."""

    @abstractmethod
    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train one arm, resuming what `folder` holds; returns the folder of the saved model."""

    @abstractmethod
    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Judge a saved model on the test data."""

    def purpose(self) -> str:
        """The purpose in two sentences, for the report: the first two paragraphs of the recipe's docstring."""
        return " ".join(" ".join((type(self).__doc__ or self.paper.purpose).split("\n\n")[:2]).split())

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Figures for the report, from the finished run."""
        return ()

    def claims(self) -> Sequence[Claim]:
        """What this run can judge; by default the claims on the paper's card."""
        return self.paper.claims

    def verdicts(self, arms: "Arms") -> Sequence[Mapping[str, str]]:
        """Verdicts beyond those on the paper's claims: `claim`, `verdict` and `why`, as those have."""
        return ()

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Remarks in plain words that belong under the table."""
        return ()
