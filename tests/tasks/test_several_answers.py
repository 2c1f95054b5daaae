"""Several answers to one input: what the arms decode with, and recipes that share the task."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from kilter.core.paper import Paper
from kilter.decoding import DiverseBeamSearch
from kilter.lab.arms import Term
from kilter.lab.options import check_bounds
from kilter.lab.recipe import Recipe
from kilter.models.decoders import DECODERS, Strength
from kilter.models.small_seq2seq import pair_tokenizer, small_seq2seq
from kilter.models.text_decoding import decoding
from kilter.models.text_model import TextModel
from kilter.recipes.diverse_beam_search import DiverseBeamSearchRecipe
from kilter.tasks.several_answers import SeveralAnswers, decoded_by

pytestmark = pytest.mark.host

ROW = replace(DECODERS["diverse-beam"], own={**DECODERS["diverse-beam"].own, "n": 2})
"""Of no table: a setting of the constructor that the shell does not know."""


@dataclass(kw_only=True)
class Elsewhere(SeveralAnswers):
    """Another recipe on the task, with a decoder that no table has."""

    width: int = 2
    """of its own"""

    paper = Paper("elsewhere", "E", ("A B",), 2020, "V", "https://example.org", "decoder", "-", ())

    def brings(self) -> Mapping[str, Term]:
        """One decoder."""
        strength = Strength("Elsewhere", "κ", "diversity_penalty", (0.1, 0.2), 0.2, {"diversity": "ngram"})
        return {"else": decoded_by(ROW, strength, groups="all", n=self.width)}


class Outside(Recipe):
    """On no task that others have."""

    paper: ClassVar[Paper] = replace(Elsewhere.paper, slug="outside")


@pytest.fixture
def recipe() -> DiverseBeamSearchRecipe:
    made = DiverseBeamSearchRecipe(outputs=6, groups=3, max_new_tokens=8)
    made.prepare()
    return made


@pytest.fixture
def kin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes there are."""
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (Outside, Elsewhere, DiverseBeamSearchRecipe)))


def options(recipe: SeveralAnswers, arm: str, strength: float | None = None) -> dict[str, Any]:
    """What the decoder of an arm is asked for, as far as the arm decides it."""
    return dict(recipe.mixture(arm).levers(strength).decoder.options)


@pytest.mark.parametrize(
    ("name", "label", "role"),
    [
        ("beam", "Beam search", "baseline"),
        ("dbs", "DBS, Hamming", "method"),
        ("dbs-0.5", "DBS, Hamming, λ 0.5", "method"),
        ("dbs-ngram-2", "DBS, 2-grams, λ 2", "method"),
        ("dbs+compat", "DBS, Hamming, ends charged as published", "method"),
        ("dbs-0.5+compat", "DBS, Hamming, λ 0.5, ends charged as published", "method"),
        ("sibling-1.5", "Sibling ranks, γ 1.5", "context"),
        ("mmi", "MMI", "context"),
        ("nucleus-0.95", "Nucleus sampling, p 0.95", "context"),
    ],
)
def test_labels(recipe: DiverseBeamSearchRecipe, name: str, label: str, role: str) -> None:
    found = recipe.describe(name)
    assert (found.label, found.role) == (label, role)


def test_a_series_is_one_decoder_at_several_strengths(recipe: DiverseBeamSearchRecipe) -> None:
    arms = ("dbs-0.5", "dbs-2", "dbs-0.5+compat", "dbs-ngram-2", "dbs", "beam")
    found = [(arm.series, arm.point) for arm in map(recipe.describe, arms)]
    assert found == [("dbs", "0.5"), ("dbs", "2"), ("dbs+compat", "0.5"), ("dbs-ngram", "2"), ("", ""), ("", "")]


@pytest.mark.parametrize(
    "name",
    [
        "beams",
        "beam-2",
        "dbs-x",
        "dbs--1",
        "diverse",
        "",
        "nucleus-1.5",
        "nucleus-0",
        "compat",
        "dbs+mmi",
        "mmi+compat",
    ],
)
def test_names_that_are_none(recipe: DiverseBeamSearchRecipe, name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        recipe.describe(name)


def test_an_arm_is_its_decoder_at_a_strength(recipe: DiverseBeamSearchRecipe) -> None:
    assert options(recipe, "dbs", 0.8) == {"groups": 3, "diversity": "hamming", "diversity_penalty": 0.8}
    assert options(recipe, "dbs-0.2", 0.2) == options(recipe, "dbs", 0.2)
    assert options(recipe, "sibling", 3.0) == {"rank_penalty": 3.0}
    assert options(recipe, "nucleus") == {"top_p": 0.9}


def test_every_decoder_has_strengths_to_choose_from(recipe: DiverseBeamSearchRecipe) -> None:
    for name, term in {**recipe.brings(), **recipe.rivals()}.items():
        assert len(term.grid) >= 4
        assert sorted(set(term.grid)) == list(term.grid)
        assert term.usual is not None
        assert term.grid[0] <= term.usual <= term.grid[-1]
        assert not any(term.strength(value) for value in term.grid), name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"outputs": 1}, "outputs must be at least 2, got 1"),
        ({"groups": 0}, "groups must be at least 1, got 0"),
        ({"vocabulary": 99}, "vocabulary must be at least 100"),
        ({"dropout": 1.0}, "dropout is a share from 0 to below 1, got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"model": "m", "data": "p", "seeds": 2, "arms": ("beam", "dbs")}, "without sampling each seed"),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], said: str) -> None:
    recipe = DiverseBeamSearchRecipe(**given)

    def check() -> None:
        check_bounds(recipe)
        recipe.prepare()

    with pytest.raises(ValueError, match=said):
        check()


def test_seeds_are_for_what_samples(tmp_path: Path) -> None:
    DiverseBeamSearchRecipe(model=str(tmp_path), data="p", seeds=2, arms=("beam", "nucleus-0.5")).prepare()


@pytest.mark.host
def test_a_model_that_is_none_is_refused_before_any_work(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ValueError, match=r"nowhere: not a folder or hub id of a causal or encoder–decoder"):
        DiverseBeamSearchRecipe(model=f"{tmp_path}/nowhere", data="p", arms=("beam",)).prepare()


# Recipes on one task ----------------------------------------------------------------------------------------------


def test_an_arm_of_one_stands_in_the_other(kin: None) -> None:
    host = Elsewhere(outputs=4, max_new_tokens=8)
    found = host.describe("dbs-0.5")
    assert (found.label, found.role) == ("DBS, Hamming, λ 0.5", "method")
    assert host.borrowed == {"diverse-beam-search": {"groups": None}}
    assert options(host, "dbs-0.5")["groups"] == "all"
    assert options(Elsewhere(borrowed={"diverse-beam-search": {"groups": 2}}), "dbs-0.5")["groups"] == 2
    guest = DiverseBeamSearchRecipe()
    assert guest.describe("else").label == "Elsewhere"
    assert guest.borrowed == {"elsewhere": {"width": 2}}


def test_what_nobody_brings_is_said_so(kin: None) -> None:
    with pytest.raises(
        ValueError, match="there is no 'other'; an arm is beam, or one of else, sibling, mmi, nucleus, dbs"
    ):
        Elsewhere().describe("other")


# What they write --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text() -> TextModel:
    torch.manual_seed(0)
    tokenizer = pair_tokenizer(["NAME is a red bus near the cat", "a dog and a blue hat"], entries=60)
    return TextModel(small_seq2seq(tokenizer, hidden_size=16, layers=1).eval(), tokenizer)


def written(recipe: SeveralAnswers, text: TextModel, arm: str, strength: float | None = None) -> list[dict[str, Any]]:
    from kilter.data.referenced import Referenced

    rows = recipe._judge(text, arm, strength, [Referenced("a red dog"), Referenced("NAME is")], 0, lambda done: None)[1]
    return [output for row in rows for output in row["outputs"]]


def test_the_published_code_charges_ends(recipe: DiverseBeamSearchRecipe, text: TextModel) -> None:
    plain, theirs = (written(recipe, text, arm) for arm in ("dbs-2", "dbs-2+compat"))
    assert written(recipe, text, "dbs-0") == written(recipe, text, "dbs-0+compat")
    assert sum(not output["text"] for output in theirs) < sum(not output["text"] for output in plain)


def test_every_arm_gives_as_many_outputs(recipe: DiverseBeamSearchRecipe, text: TextModel) -> None:
    for arm in ("beam", "dbs-1", "dbs-embedding-1", "sibling-1", "mmi-0.5", "nucleus-0.9"):
        assert len(written(recipe, text, arm)) == 2 * recipe.outputs, arm


def test_a_guest_has_as_many_groups_as_outputs(kin: None, text: TextModel) -> None:
    assert {output["group"] for output in written(Elsewhere(outputs=4, max_new_tokens=8), text, "dbs-0.5")} == {
        0,
        1,
        2,
        3,
    }


def test_a_row_that_no_table_has(text: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = DiverseBeamSearch.__init__
    monkeypatch.setattr(DiverseBeamSearch, "__init__", lambda self, **own: made.append(own) or real(self, **own))
    written(Elsewhere(outputs=4, max_new_tokens=8, width=3), text, "else")
    assert [(own["diversity"], own["n"]) for own in made] == [("ngram", 3)]
    write = decoding(text, ROW, ROW.settings(None, None, outputs=2, groups=2), max_new_tokens=3)
    assert len(write([[5, 1]], [0])[0]) == 2
