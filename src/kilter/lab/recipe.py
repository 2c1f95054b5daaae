"""What a recipe is: options, arms, data, and how to train and judge one arm with one seed.

A task (`kilter.tasks`) is an abstract recipe: data, network, training, judging. A recipe (`kilter.recipes`) is a final
subclass of one task: which arms are compared, and which claims that speaks to. Everything about seeds, resuming,
directories, intervals, tables and the report is in `kilter.lab`, once.
Nothing heavy is imported, so that `--help` answers at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Fixed, Suppress

from kilter.core.paper import Claim, Paper
from kilter.lab.arms import Arm, Levers, Mixture, Part, Role, Term, UnknownPart
from kilter.lab.metrics import RATE, SHARE, Measured, Metric
from kilter.lab.options import at_least, check_bounds

__all__ = [
    "RATE",
    "SHARE",
    "Advance",
    "Arm",
    "Judged",
    "Levers",
    "Metric",
    "Mixture",
    "Picture",
    "Provenance",
    "Recipe",
    "Role",
    "Term",
]


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
    subject: str = ""
    """a word for what the data are, e.g. captions: by it a verdict says where it was found"""


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


def plain(value: Any) -> Any:
    """A setting as YAML has it."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(kw_only=True)
class Recipe(ABC):
    """Options that every recipe has; a task adds its own, and a recipe those of its arms."""

    preset: str = "full"
    """which set of defaults: smoke (seconds, for tests), demo (minutes), full (the evidence)"""
    out: Path | None = None
    """run directory; by default ./runs/<method>-<preset>-<hash of the settings>"""
    seeds: Annotated[int, at_least(1)] = 1
    """how many seeds, 0, 1, 2, …"""
    arms: tuple[str, ...] = ()
    """which arms to run; by default all of the preset"""
    only: str | None = None
    """one piece of work, ARM/seed-N, for a scheduler that spreads them"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """arithmetic of training: float32, or automatic mixed precision"""
    threads: Annotated[int, at_least(1)] = 1
    """CPU threads; results are bit-identical for the same number"""
    jobs: Annotated[int, at_least(1)] = 1
    """pieces of work side by side, each in a process of its own"""
    borrowed: Annotated[dict[str, dict[str, Any]], Fixed, Suppress] = field(default_factory=dict)
    """settings of the methods whose arms stand here as guests, by method; kept with the run"""

    paper: ClassVar[Paper]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    metrics: ClassVar[Mapping[str, Metric]] = {}
    baseline: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    """the levers that an arm may pull here, names of `Levers`"""
    words: ClassVar[frozenset[str]] = frozenset()
    """words in an arm's name that concern all of it"""
    intervals: ClassVar[Literal["seeds", "examples"]] = "seeds"
    """what intervals are over when there are several seeds: the seeds, or the test examples with the seeds pooled"""
    own_by: ClassVar[tuple[str, ...]] = ("model",)
    """options that mean one's own work, so that the preset is `own` where none is asked for"""
    unhashed: ClassVar[frozenset[str]] = frozenset({"out", "only", "jobs", "arms", "seeds", "preset", "borrowed"})
    """options that change where or how much is run, not what one piece of work computes"""
    judging: ClassVar[frozenset[str]] = frozenset()
    """options by which a model is judged or decoded: its card leaves them out, since they did not make it"""
    kin: ClassVar[Callable[[], Iterable[type["Recipe"]]]] = staticmethod(tuple)
    """all recipes there are, set by `kilter.recipes`: the arms of those on this task may stand here as guests"""

    def prepare(self) -> None:  # noqa: B027 (most recipes have nothing to settle)
        """Check that the options fit each other, and settle those that depend on others, before any work."""

    # Arms -----------------------------------------------------------------------------------------------------

    def brings(self) -> Mapping[str, Term]:
        """The terms of this recipe's paper, made with its own options; they may stand in any recipe on its task."""
        return {}

    def rivals(self) -> Mapping[str, Term]:
        """The terms of the task: usual rivals without a paper here, and its networks."""
        return {}

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of: terms of the task and of this recipe, or of another one on the task.

        Raises:
            ValueError: a part that nobody brings, or a lever that the task does not take.
        """
        terms = {**self.rivals(), **self.brings()}
        for slug, settings in self.borrowed.items():
            terms = {**self._guest(slug, settings).brings(), **terms}
        try:
            found = Mixture.parse(arm, terms, plain=self.baseline, words=self.words)
        except UnknownPart as error:
            if not self._borrow(error.part):
                raise UnknownPart(error.part, arm, self.terms()) from None
            return self.mixture(arm)
        if refused := [lever for lever in found.levers().pulled() if lever not in self.takes]:
            raise ValueError(
                f"{arm!r} has a lever that this task does not take ({', '.join(refused)}); it takes "
                f"{', '.join(sorted(self.takes))}"
            )
        return found

    def terms(self) -> dict[str, Term]:
        """All that can stand in an arm: terms of this recipe, of the task, and of the other recipes on it."""
        found = {**self.brings(), **self.rivals()}
        for guest in self._guests():
            found |= {name: term for name, term in guest.brings().items() if name not in found}
        return found

    def _borrow(self, part: str) -> bool:
        """Take in the recipe on this task that brings a term, with its own defaults."""
        for guest in self._guests():
            new = guest.paper.slug not in self.borrowed
            if new and any(part == name or part.startswith(f"{name}-") for name in guest.brings()):
                self.borrowed = {**self.borrowed, guest.paper.slug: guest.own_settings()}
                return True
        return False

    def _guests(self) -> Iterator["Recipe"]:
        """The other recipes on this task, with the settings that are kept, else with their own defaults."""
        for kin in self.kin():
            if kin.paper.slug != self.paper.slug and self._is_kin(kin):
                yield self._guest(kin.paper.slug, self.borrowed.get(kin.paper.slug, {}))

    def _guest(self, slug: str, settings: Mapping[str, Any]) -> "Recipe":
        kin = next((one for one in self.kin() if one.paper.slug == slug and self._is_kin(one)), None)
        if kin is None:
            raise ValueError(f"the run has arms of {slug}, but no recipe of that name is on its task")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        guest = kin(**given)
        check_bounds(guest)
        return guest

    def _is_kin(self, other: type["Recipe"]) -> bool:
        return other.__base__ is type(self).__base__

    def own_settings(self) -> dict[str, Any]:
        """The options that are this recipe's and not its task's."""
        shared = {one.name for one in fields(type(self).__base__)}  # type: ignore[arg-type]
        return {one.name: plain(getattr(self, one.name)) for one in fields(self) if one.name not in shared}

    def made_by(self, arm: str) -> dict[str, Any]:
        """The settings that made an arm's model, for its card: the task's, and of recipes with a term in it."""
        makers = self.makers(arm)
        left_out = {*self.unhashed, *self.judging, "device", "threads"}
        left_out |= set() if self in makers else {*self.own_settings()}
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}
        given = {part.name: part.given for part in self._parts_of(arm) if part.given is not None}
        for one in makers:
            said = {term.option: given[name] for name, term in one.brings().items() if term.option and name in given}
            if one is self:
                found |= said
            else:
                found |= {f"{one.paper.slug}.{name}": value for name, value in (one.own_settings() | said).items()}
        return found

    def makers(self, arm: str) -> list["Recipe"]:
        """The recipes that have a term in an arm, this one first; none where the arm has only terms of the task."""
        said = {part.name for part in self._parts_of(arm)}
        guests = [self._guest(slug, settings) for slug, settings in self.borrowed.items()]
        return [one for one in (self, *guests) if not said.isdisjoint(one.brings())]

    def _parts_of(self, arm: str) -> tuple[Part, ...]:
        try:
            return self.mixture(arm).parts
        except ValueError:  # an arm that is no mixture, such as the model as given
            return ()

    @abstractmethod
    def describe(self, arm: str) -> Arm:
        """Label and role of an arm; ValueError for one that is not known."""

    def spoken(self, arm: str) -> str:
        """What an arm is called in lines of progress: its name."""
        return arm

    # What a task is -------------------------------------------------------------------------------------------

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

    # The report -----------------------------------------------------------------------------------------------

    def purpose(self) -> str:
        """The purpose in two sentences, for the report: the first two paragraphs of the recipe's docstring."""
        return " ".join(" ".join((type(self).__doc__ or self.paper.purpose).split("\n\n")[:2]).split())

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Figures for the report, from the finished run."""
        return ()

    def own_data(self) -> bool:
        """Whether this is the user's own work: such a run reports differences and judges no paper."""
        return any(getattr(self, one.name) != one.default for one in fields(self) if one.name in self.own_by)

    def claims(self) -> Sequence[Claim]:
        """What this run can judge; by default the claims on the paper's card."""
        return self.paper.claims

    def with_claims(self, ours: Iterable[Claim]) -> tuple[Claim, ...]:
        """The paper's claims, and those of `ours` that compare what none of them compares."""
        told = {(claim.metric, claim.baseline, claim.arm) for claim in self.paper.claims}
        return (*self.paper.claims, *(one for one in ours if (one.metric, one.baseline, one.arm) not in told))

    def verdicts(self, arms: Measured) -> Sequence[Mapping[str, Any]]:
        """Verdicts beyond those on claims: `claim`, `verdict` and `why`, and what was compared, as those have."""
        return ()

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Remarks in plain words that belong under the table."""
        return ()
