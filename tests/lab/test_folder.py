"""A run goes on with what it began with: settings, data and guests, also of a kilter that had fewer options."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kilter.lab import folder
from kilter.lab.files import write_json
from kilter.lab.recipe import Provenance
from kilter.recipes.align_with_purpose import AlignWithPurposeRecipe


def recipe(**options: Any) -> AlignWithPurposeRecipe:
    return AlignWithPurposeRecipe(**{**AlignWithPurposeRecipe.presets["smoke"], "preset": "smoke", **options})


def begin(place: Path, **without: Any) -> Path:
    """A run directory of these settings, as an older kilter wrote it."""
    made = folder.made_with(recipe())
    for name in without["without"]:
        del made["settings"][name]
    place.mkdir(parents=True)
    (place / "recipe.yaml").write_text(yaml.safe_dump(made))
    return place


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_out_the_run_of_the_same_settings_is_found_though_options_are_newer() -> None:
    new = folder.default_folder(recipe())
    assert new.name.startswith("align-with-purpose-smoke-")
    old = begin(Path("runs", "align-with-purpose-smoke-0dd1e5"), without=["borrowed", "margin", "start_step"])
    assert folder.default_folder(recipe()) == old
    assert folder.default_folder(recipe(margin=1.0)) not in (old, new)
    assert folder.default_folder(recipe(weight=3.0)) not in (old, new)


def test_of_two_the_one_with_its_own_hash_is_taken() -> None:
    own = begin(folder.default_folder(recipe()), without=[])
    begin(Path("runs", "align-with-purpose-smoke-000000"), without=["margin"])
    assert folder.default_folder(recipe()) == own


def test_another_setting_is_named() -> None:
    out = begin(Path("run"), without=["margin"])
    folder.check_folder(out, recipe())
    with pytest.raises(ValueError, match=r"holds a run with margin=0.0, this one has 0.5"):
        folder.check_folder(out, recipe(margin=0.5))


def test_a_folder_of_something_else_is_left_alone() -> None:
    Path("mine").mkdir()
    Path("mine", "thesis.tex").touch()
    with pytest.raises(ValueError, match="not a run directory"):
        folder.check_folder(Path("mine"), recipe())


@pytest.mark.parametrize(
    ("before", "now", "same"), [("", "", 1), ("", "a", 1), ("a", "", 1), ("a", "a", 1), ("a", "b", 0)]
)
def test_an_empty_digest_matches_any(before: str, now: str, same: int) -> None:
    write_json(Path("data.json"), {"title": "Digits", "digest": before})
    if same:
        folder.check_data(Path("data.json"), Provenance("Digits", digest=now))
    else:
        with pytest.raises(ValueError, match="the data is another now"):
            folder.check_data(Path("data.json"), Provenance("Digits", digest=now))
    with pytest.raises(ValueError, match="begun with Digits"):
        folder.check_data(Path("data.json"), Provenance("Letters", digest=now))
