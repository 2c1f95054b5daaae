"""A run on the user's own data reports differences, and no verdict on a paper."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Arm
from kilter.lab.files import read_json
from kilter.lab.metrics import Metric
from kilter.lab.recipe import Judged, Provenance, Recipe
from kilter.lab.run import run


@dataclass(kw_only=True)
class Toy(Recipe):
    """Two arms, of which one is better."""

    data: str | None = None
    """the user's own"""

    paper = replace(cards()["rankgen"], claims=(Claim("wrong", "lower", "plain", "toy"),))
    own_by: ClassVar[tuple[str, ...]] = ("data",)
    metrics: ClassVar[dict[str, Metric]] = {"wrong": Metric("Wrong", "%")}
    baseline: ClassVar[str] = "plain"

    def describe(self, arm: str) -> Arm:
        return Arm(arm.capitalize(), "baseline" if arm == "plain" else "method")

    def build_data(self) -> Provenance:
        return Provenance("made up")

    def train(self, arm: str, seed: int, folder: Path, advance: Any) -> Path:
        folder.mkdir(parents=True)
        return folder

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        wrong = (5.0 if arm == "plain" else 2.0) + seed / 10 * (arm == "toy")
        return Judged({"wrong": wrong}, [])

    def verdicts(self, arms: Any) -> list[dict[str, Any]]:
        return [{"claim": "Toys are fun", "verdict": "holds", "why": "we know"}]


@pytest.mark.parametrize(("data", "verdicts"), [(None, ["Toy beats plain at wrong", "Toys are fun"]), ("mine", [])])
def test_only_a_claim_that_was_tried_is_judged(data: str | None, verdicts: list[str], tmp_path: Path) -> None:
    recipe = Toy(arms=("plain", "toy"), seeds=2, data=data, out=tmp_path / "run", device="cpu")
    assert recipe.own_data() == (data is not None)
    summary = read_json(run(recipe, "kilter run toy") / "summary.json")
    assert [found["claim"] for found in summary["verdicts"]] == verdicts
    assert summary["differences"]["toy"]["wrong"]["mean"] == pytest.approx(-2.95)
