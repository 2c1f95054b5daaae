"""A recipe on two tasks that costs nothing, to try the shell on: counting sheep, or wolves."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kilter.core.paper import Claim, Paper
from kilter.lab.recipe import Advance, Arm, Judged, Metric, Provenance, Recipe

PAPER = Paper(
    slug="made-up",
    title="On Counting",
    authors=("Ada Lovelace",),
    year=1843,
    venue="Memoirs",
    url="https://example.org",
    lever="objective",
    purpose="fewer animals missed",
    names=(),
    claims=(Claim("missed", "lower", "plain", "made-up"),),
)


@dataclass(kw_only=True)
class Sheep(Recipe):
    """Count sheep.

    Twice.
    """

    task: str = "sheep"
    """what is counted"""
    dreamt: bool = False
    """whether the animals are made up"""

    paper: ClassVar[Paper] = PAPER
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        name: {"arms": ("plain", "made-up")} for name in ("smoke", "demo", "full")
    }
    metrics: ClassVar[Mapping[str, Metric]] = {"missed": Metric("Missed")}
    baseline: ClassVar[str] = "plain"

    def describe(self, arm: str) -> Arm:
        return Arm(arm, "baseline" if arm == "plain" else "method")

    def build_data(self) -> Provenance:
        return Provenance("A meadow", synthetic=self.dreamt, note="Nobody went out." if self.dreamt else "")

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        advance(1, 1)
        return folder

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        return Judged({"missed": self.missed(seed) / (1 if arm == "plain" else 2)}, [])

    def missed(self, seed: int) -> float:
        return 1.0 + seed


@dataclass(kw_only=True)
class Wolves(Sheep):
    """Count wolves."""

    task: str = "wolves"
    """what is counted"""
    teeth: int = 42
    """of each"""

    def missed(self, seed: int) -> float:
        return self.teeth + float(seed)


RECIPE = {"sheep": Sheep, "wolves": Wolves}
