"""Likelihoods of sets: the model by hand and over all orders, stars whose entropy has no order, words, what is kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from kilter.core import LossOutput
from kilter.core.paper import cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Recipe
from kilter.lab.run import run
from kilter.models.set_writer import SetWriter, log_sum_over
from kilter.tasks.set_likelihood import StarVariables, WordGroups
from kilter.tasks.set_likelihood.learning import nats
from kilter.tasks.set_likelihood.stars import Star
from kilter.tasks.set_likelihood.words import groups_of, tokens_of
from tests.prose import prose

pytestmark = pytest.mark.host


class Reversing(nn.Module):
    """A search that always finds the order from the last place to the first."""

    def forward(self, step_log_probs: Any, num_elements: int, batch_size: int) -> LossOutput:
        order = torch.arange(num_elements).flip(0).expand(batch_size, -1)
        each = [step_log_probs(order[:, :at]).gather(1, order[:, at : at + 1]) for at in range(num_elements)]
        return LossOutput(-torch.cat(each, 1).sum(1).mean(), {})


def searching(strength: float | None) -> Levers:
    return Levers(objective=lambda model: Reversing(), beside=False)


@dataclass(kw_only=True)
class Stars(StarVariables):
    """A method on stars."""

    paper = replace(cards()["whitened-cse"], slug="stars")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": StarVariables.smoke, "full": {}}

    def brings(self) -> Mapping[str, Term]:
        return {"search": Term("Search", searching)}


@dataclass(kw_only=True)
class Words(WordGroups):
    """A method on words."""

    paper = replace(cards()["whitened-cse"], slug="words")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": WordGroups.smoke, "full": {}}

    def brings(self) -> Mapping[str, Term]:
        return {"search": Term("Search", searching)}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (Stars, Words)))


def writer(places: int = 3, symbols: int = 2) -> SetWriter:
    torch.manual_seed(0)
    model = SetWriter(places, symbols, 6).double().eval()
    with torch.no_grad():
        for one in model.parameters():
            one *= 2
    return model


# The model ------------------------------------------------------------------------------------------------------------


class TestModel:
    model = writer()
    every = torch.tensor([*product(range(2), repeat=3)])

    def test_all_sets_in_all_orders_have_a_probability_of_1(self) -> None:
        """Places are told apart, each comes once, and symbols are a distribution given their place."""
        with torch.no_grad():
            assert log_sum_over(self.model, self.every, [*permutations(range(3))]).exp().sum().item() == pytest.approx(
                1
            )

    def test_in_one_order_all_sets_have_a_probability_of_1(self) -> None:
        for order in ([0, 1, 2], [2, 0, 1], None):
            assert (-nats(self.model, self.every, order)[0]).exp().sum().item() == pytest.approx(1)

    def test_steps_are_those_of_the_whole(self) -> None:
        order = torch.tensor([2, 0, 1]).expand(8, -1)
        step = self.model.step_log_probs(self.every)
        with torch.no_grad():
            found = torch.cat([step(order[:, :at]).gather(1, order[:, at : at + 1]) for at in range(3)], 1)
            places, symbols = self.model(self.every, order)
            assert step(order[:, :2])[:, [0, 2]].isinf().all()
        assert torch.allclose(found, places + symbols, atol=1e-9)

    def test_orders_that_begin_alike_are_each_what_they_are_alone(self) -> None:
        every = torch.tensor([*permutations(range(3))])
        with torch.no_grad():
            for orders in (every, every[[4, 0, 5]], every[2:3]):
                alone = [sum(self.model(self.every, one.expand(8, -1))).sum(1) for one in orders]  # type: ignore[union-attr]
                assert torch.allclose(self.model.log_probs_of(self.every, orders), torch.stack(alone, 1), atol=1e-9)

    def test_the_preferred_order_has_each_place_once_and_does_not_look_ahead(self) -> None:
        """Sets that begin alike in it go on at the same place."""
        found = self.model.preferred(self.every)
        assert torch.equal(found.sort(1).values, torch.arange(3).expand(8, -1))
        assert (found[:, 0] == found[0, 0]).all()
        alike = self.every[:, found[0, 0]] == self.every[0, found[0, 0]]
        assert (found[alike, 1] == found[0, 1]).all()

    def test_it_is_kept_and_loaded(self, tmp_path: Path) -> None:
        model = SetWriter(3, 2, 6, dropout=0.5)
        model.save(tmp_path, order=[2, 0, 1])
        found = SetWriter.load(tmp_path)
        assert not found.training
        assert found.dropout == 0.5
        assert torch.equal(found(self.every, self.every * 0)[1], model.eval()(self.every, self.every * 0)[1])
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(ValueError, match="no model of sets that is whole"):
            SetWriter.load(tmp_path)


# Stars ----------------------------------------------------------------------------------------------------------------


class TestStars:
    def test_its_own_nats_are_its_entropy_whatever_the_order(self) -> None:
        """Check 8 of the paper: with the true table, the chain rule gives every order the same."""
        star = Star.drawn(3, 2, 1.5, torch.Generator().manual_seed(0))
        every = torch.tensor([*product(range(2), repeat=3)])
        log_p = -star.nats(every)
        p = log_p.exp().view(2, 2, 2)
        assert p.sum().item() == pytest.approx(1)
        entropy = -(log_p.exp() * log_p).sum()
        for order in permutations(range(3)):
            turned, said = p.permute(order), torch.zeros(())
            for place in range(3):
                now = turned.flatten(place + 1).sum(-1) if place < 2 else turned
                said = said - (now * (now / now.sum(-1, keepdim=True)).log()).sum()
            assert said.item() == pytest.approx(entropy.item(), abs=1e-5)

    def test_draws_are_as_likely_as_it_says(self) -> None:
        star = Star.drawn(3, 2, 1.0, torch.Generator().manual_seed(1))
        every = torch.tensor([*product(range(2), repeat=3)])
        drawn = star.draw(20_000, torch.Generator().manual_seed(2)) @ torch.tensor([4, 2, 1])
        seen, expected = torch.bincount(drawn, minlength=8), 20_000 * (-star.nats(every)).exp()
        assert ((seen - expected) ** 2 / expected).sum() < 24.3  # chi-square of 7, one in a thousand

    @pytest.mark.slow
    def test_head_first_is_learnt_better_from_few_samples(self, tmp_path: Path) -> None:
        given: dict[str, Any] = {
            **StarVariables.smoke,
            "variables": 8,
            "symbols": 4,
            "samples": 500,
            "test_sets": 500,
            "dim": 24,
            "steps": 90,
            "batch_size": 64,
            "learning_rate": 1e-2,
            "save_steps": 30,
        }
        arms = ("head-last", "head-first")
        out = run(Stars(preset="smoke", device="cpu", **given, arms=arms, out=tmp_path / "run"), "")
        last, first = (read_json(out / "arms" / arm / "seed-0" / "metrics.json") for arm in arms)
        assert 0 < first["star_excess"] < last["star_excess"]
        assert first["star_nll"] - first["star_excess"] == pytest.approx(last["star_nll"] - last["star_excess"])

    def test_what_is_judged_on_does_not_change_what_is_learnt(self) -> None:
        """A model may be judged again on more sets; those that it has learnt from are still others."""
        given = {**StarVariables.smoke, "samples": 40}
        found = [Stars(preset="smoke", **{**given, **more}) for more in ({}, {"test_sets": 60}, {"samples": 20})]
        first, more, fewer = (one.sets(0) for one in found)
        assert torch.equal(first.train, more.train)
        assert torch.equal(first.test, fewer.test)
        assert torch.equal(first.dev, more.dev)
        assert torch.equal(found[0]._star.others, found[1]._star.others)
        assert not torch.equal(first.train[:30], first.test)
        assert not torch.equal(first.train, found[0].sets(1).train)

    def test_of_any_order_weights_are_chosen_in_the_order_that_is_judged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def seen(model: Any, values: Any, order: Any) -> Any:
            asked.append(order)
            return nats(model, values, order)

        monkeypatch.setattr("kilter.tasks.set_likelihood.learning.nats", seen)
        given: dict[str, Any] = {**StarVariables.smoke, "steps": 2}
        run(Stars(preset="smoke", device="cpu", **given, arms=("uniform",), out=tmp_path / "run"), "")
        assert len(asked) == 2
        assert {*asked} == {(1, 2, 3, 0)}

    def test_samples_and_peak_are_words_in_an_arm(self, tmp_path: Path) -> None:
        recipe = Stars(preset="smoke", **StarVariables.smoke)
        recipe.prepare()
        assert recipe.describe("head-first+samples-30+peak-3").label == "Head first, 30 samples, peak 3"
        changed = recipe.changed_by(recipe.mixture("samples-30+peak-3").levers())
        assert (changed.order, changed.samples, changed.peak) == ("head-last", 30, 3.0)
        assert len(changed.sets(0).train) == 30
        with pytest.raises(ValueError, match="whole, and at least 1"):
            recipe.describe("samples-0.5")
        with pytest.raises(ValueError, match="there is no 'head-firs'; did you mean 'head-first'"):
            Stars(order="head-firs").prepare()


# Words ----------------------------------------------------------------------------------------------------------------


class TestWords:
    def test_words_and_signs_are_told_apart(self) -> None:
        assert tokens_of("Don’t go, Ann!") == ["don’t", "go", ",", "ann", "!"]
        known = {"<unk>": 0, "a": 1, "b": 2}
        assert groups_of(["a", "b", "c", "a", "b", "a"], known, 1).tolist() == [[1, 2, 0, 1, 2], [2, 0, 1, 2, 1]]
        assert groups_of([*"abcabaabcab"], known, 5).tolist() == [[1, 2, 0, 1, 2], [1, 1, 2, 0, 1]]

    def test_perplexities_are_those_of_rows_and_a_given_order_costs_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "text.txt").write_text(prose(120, 0), encoding="utf-8")
        given: dict[str, Any] = {**WordGroups.smoke, "train_data": str(tmp_path / "text.txt")}
        arms = ("scrambled", "uniform", "search")
        out = run(Words(preset="smoke", device="cpu", **given, arms=arms, out=tmp_path / "run"), "")
        for arm in arms:
            folder = out / "arms" / arm / "seed-0"
            found, rows = read_json(folder / "metrics.json"), read_rows(folder / "utterances.jsonl")
            for name in ("perplexity", "perplexity_summed"):
                totals = [row["totals"][name] for row in rows if name in row["totals"]]
                nats, words = (sum(one[place] for one in totals) for place in (0, 1))
                assert found[name] == pytest.approx(math.exp(nats / words))
            alike = [row["totals"] for row in rows if "perplexity_summed" in row["totals"]]
            assert len(alike) == 3
            fixed = arm == "scrambled"
            assert all((one["perplexity"] == one["perplexity_summed"]) == fixed for one in alike)
        summary = read_json(out / "summary.json")
        assert [note for note in summary["notes"] if note.startswith("Orders that Search prefers")]
        card = (out / "arms" / "uniform" / "seed-0" / "model" / "README.md").read_text(encoding="utf-8")
        assert "SetWriter.load(folder)" in card

    def test_a_text_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text.txt").write_text("A few words.", encoding="utf-8")
        with pytest.raises(ValueError, match=r"text.txt: too short for groups of 5 words"):
            Words(train_data=str(tmp_path / "text.txt")).build_data()
