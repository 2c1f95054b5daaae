"""Recognition of speech: what arms are called, what they train with, and arms that another recipe brings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import yaml

from kilter.core.paper import Paper
from kilter.lab.arms import Levers, Term
from kilter.lab.options import at_least
from kilter.lab.recipe import Recipe
from kilter.lab.run import run
from kilter.recipes.align_with_purpose import AlignWithPurposeRecipe
from kilter.tasks.recognition import Recognition

SMOKE: Any = AlignWithPurposeRecipe.presets["smoke"] | {"warm_up_steps": 3, "steps": 2, "save_steps": 2, "seeds": 1}


@dataclass(kw_only=True)
class FastEmitRecipe(Recognition):
    """Raise what is not blank."""

    strength: Annotated[float, at_least(0)] = 0.25

    paper: ClassVar[Paper] = Paper("fast-emit", "On X", ("A B",), 2021, "X", "https://x", "objective", "earlier", ())
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"arms": ("ctc", "fast-emit")}}

    def brings(self) -> Mapping[str, Term]:
        """The term beside CTC."""

        def objective(recogniser: Any) -> Any:
            from kilter.speech import PeakFirst

            return PeakFirst(weight=1.0)

        return {
            "fast-emit": Term(
                "FastEmit {:g}", lambda w: Levers(objective=objective, weight=w), usual=self.strength, option="strength"
            ),
            "sampled": Term("sampled", lambda s: Levers(reward=lambda prompts, completions: [])),
        }


@pytest.fixture
def kin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes on the task, and no others."""
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (AlignWithPurposeRecipe, FastEmitRecipe)))


def awp(**options: Any) -> AlignWithPurposeRecipe:
    return AlignWithPurposeRecipe(**{**SMOKE, **options})


@pytest.mark.parametrize(
    ("arm", "label", "role", "series", "point"),
    [
        ("ctc", "CTC only, the same extra steps", "baseline", "", ""),
        ("awp", "AWP 1.5 falling to 0", "method", "awp, falling", "1.5"),
        ("awp-2+constant", "AWP 2", "method", "awp", "2"),
        ("awp+trim-tail", "AWP 1.5 falling to 0 + TrimTail 50", "method", "", ""),
        ("awp+compat", "AWP 1.5 falling to 0, published bugs", "method", "awp+compat, falling", "1.5"),
        ("bayes-risk", "Bayes risk 20", "method", "bayes-risk", "20"),
        ("residual", "CTC only, residual connections", "context", "", ""),
        ("residual+peak-first", "Peak-First 0.01 falling to 0, residual connections", "method", "", ""),
        ("mwer", "n-best MWER", "method", "mwer", "1"),
        ("warm-up", "After the warm-up, before the extra steps", "context", "", ""),
    ],
)
def test_what_arms_are_called(arm: str, label: str, role: str, series: str, point: str) -> None:
    found = awp().describe(arm)
    assert (found.label, found.role, found.series, found.point) == (label, role, series, point)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("cts", "arms: unknown part 'cts' in 'cts'"),
        ("trim-tail+constant", "only awp and .*peak-first.* have a weight that could fall"),
        ("bayes-risk+constant", "could fall"),
        ("constant", "could fall"),
        ("awp-0", "a strength of 0 is plain CTC"),
        ("trim-tail-20.5", "a whole number of frames"),
        ("awp+peak-first", "2 losses"),
        ("before", "unknown part 'before'"),
    ],
)
def test_arms_that_make_no_sense(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        awp().describe(arm)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("fast-emi", "did you mean 'fast-emit'"),
        ("cts", "its strength \\(awp, .*, fast-emit, "),
        ("mwer+constant", "only awp .*fast-emit.* have a weight"),
    ],
)
def test_what_is_said_of_an_unknown_arm_knows_the_guests(kin: None, arm: str, said: str) -> None:
    recipe = awp()
    with pytest.raises(ValueError, match=said):
        recipe.describe(arm)
    assert recipe.borrowed == {}, "naming guests does not take them in"


def test_a_model_is_its_makers(kin: None) -> None:
    """What goes into its card: papers and settings of those whose terms it was trained with, and of no other."""
    recipe = awp()

    def made(arm: str) -> tuple[list[str], set[str]]:
        own = {"samples", "fast-emit.strength"}
        return [one.paper.slug for one in recipe.makers(arm)], own & recipe.made_by(arm).keys()

    assert made("fast-emit-2+trim-tail") == (["fast-emit"], {"fast-emit.strength"})
    assert made("awp") == (["align-with-purpose"], {"samples"})
    assert made("peak-first") == ([], set())
    assert recipe.made_by("fast-emit-2")["fast-emit.strength"] == 2


def test_a_card_has_the_strength_and_the_schedule_of_the_arm() -> None:
    recipe = awp()

    def made(arm: str) -> list[object]:
        return [recipe.made_by(arm).get(name) for name in ("weight", "schedule", "encoder")]

    assert made("awp") == [1.5, "linear", "conv"]
    assert made("gru+awp-0.5+constant") == [0.5, "constant", "gru"]
    assert made("peak-first-0.2+constant") == [None, "constant", "conv"]
    assert made("mwer-0.2") == [None, None, "conv"]


@pytest.mark.host
@pytest.mark.parametrize("arm", ["awp", "awp+compat", "peak-first", "delay-penalty", "bayes-risk", "mwer"])
def test_every_loss_can_be_made(arm: str) -> None:
    pytest.importorskip("transformers")
    from kilter.core.objective import Objective
    from kilter.models.recogniser import Recogniser

    recogniser = Recogniser.small(("one", "two"), "conv", 8000)
    made = awp().mixture(arm).levers().objective
    assert made
    assert isinstance(objective := made(recogniser), Objective)
    if arm.startswith("awp"):
        assert objective.config()["property"].compat == ("compat" in arm)


def test_an_arm_of_another_recipe_is_a_guest_with_its_own_defaults(kin: None) -> None:
    recipe = awp()
    assert recipe.describe("fast-emit").label == "FastEmit 0.25 falling to 0"
    assert recipe.borrowed == {"fast-emit": {"strength": 0.25}}
    assert recipe.describe("fast-emit-2+trim-tail").label == "FastEmit 2 falling to 0 + TrimTail 50"
    other = FastEmitRecipe()
    assert other.describe("awp").label == "AWP 1.5 falling to 0"
    assert other.borrowed["align-with-purpose"]["samples"] == 5


def test_a_guest_with_a_lever_that_the_task_does_not_take_is_refused(kin: None) -> None:
    with pytest.raises(ValueError, match=r"a lever that this task does not take \(reward\)"):
        awp().describe("sampled")


def test_settings_of_a_guest_are_checked(kin: None) -> None:
    with pytest.raises(ValueError, match="strength must be at least 0"):
        awp(borrowed={"fast-emit": {"strength": -1.0}}).describe("fast-emit")


@pytest.mark.recipe
@pytest.mark.host
@pytest.mark.usefixtures("digits", "kin")
@pytest.mark.slow
def test_a_run_keeps_what_its_guests_were_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings() -> dict[str, Any]:
        return yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["settings"]

    run(awp(arms=("ctc",), out=tmp_path / "run"), "kilter run align-with-purpose")
    assert settings()["borrowed"] == {}
    run(awp(arms=("ctc", "fast-emit"), out=tmp_path / "run"), "kilter run align-with-purpose")
    assert settings()["borrowed"] == {"fast-emit": {"strength": 0.25}}
    card = (tmp_path / "run" / "arms" / "fast-emit" / "seed-0" / "model" / "README.md").read_text(encoding="utf-8")
    assert "method `fast-emit`: earlier" in card
    assert "`fast-emit.strength` 0.25" in card
    assert FastEmitRecipe.paper.bibtex() in card
    assert AlignWithPurposeRecipe.paper.title not in card
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<cite>On X</cite>" in report
    monkeypatch.setattr(FastEmitRecipe.__init__, "__kwdefaults__", {**FastEmitRecipe.__init__.__kwdefaults__, "strength": 9.0})  # fmt: skip  # noqa: E501
    assert FastEmitRecipe().strength == 9.0
    again = awp(arms=("ctc", "fast-emit"), out=tmp_path / "run")
    run(again, "kilter run align-with-purpose")
    assert again.describe("fast-emit").label == "FastEmit 0.25 falling to 0", "it goes on as it began"
    with pytest.raises(ValueError, match="holds arms of fast-emit"):
        run(awp(borrowed={"fast-emit": {"strength": 1.0}}, out=tmp_path / "run"), "kilter run align-with-purpose")
