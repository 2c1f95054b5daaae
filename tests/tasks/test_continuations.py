"""What an arm can be made of on continuations: every lever does something, and a method stands in another's recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kilter.core.paper import cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Recipe
from kilter.lab.run import run
from kilter.recipes.rankgen import RankGenRecipe
from kilter.tasks.continuations import Continuations
from tests.prose import write_books

SEEN: dict[str, list[Any]] = {}
"""What the levers of the guest were given, by arm's step count or by name."""


class Backwards:
    """The last rows first, one by one."""

    def __init__(self, rows: Any) -> None:
        self.rows = len(rows)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        for row in range(self.rows - 1, -1, -1):
            SEEN.setdefault("drawn", []).append(row)
            yield row


def objective(encoder: Any) -> Any:
    from kilter.decoding import RankGenLoss

    SEEN.setdefault("encoder", []).append(encoder)
    return RankGenLoss(negatives="inbook")


def ear(encoder: Any) -> list[Any]:
    from transformers import TrainerCallback

    class Ear(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            SEEN.setdefault("steps", []).append((state.global_step, state.max_steps))

    return [Ear()]


def longest(prefixes: Any, continuations: Any) -> torch.Tensor:
    return torch.tensor([float(len(text)) for text in continuations])


def first(scorer: Any, *, tokenizer: Any, generator: Any) -> Any:
    from kilter.decoding import BestOfN

    SEEN.setdefault("decoder", []).append(scorer)
    return BestOfN(scorer, 2, tokenizer=tokenizer, generator=generator)


@dataclass(kw_only=True)
class Mine(Continuations):
    """Another method on the task."""

    rows: int = 9

    paper = replace(cards()["rankgen"], slug="mine")

    def brings(self) -> Mapping[str, Term]:
        return {
            "mine": Term("My ranker", lambda strength: Levers(objective=objective)),
            "few": Term("few rows", lambda strength: Levers(rows=lambda rows, *_: rows.select(range(self.rows)))),
            "backwards": Term("backwards", lambda strength: Levers(sampler=lambda rows, seed: Backwards(rows))),
            "ear": Term("heard", lambda strength: Levers(callbacks=ear)),
            "short": Term("two steps", lambda strength: Levers(options={"steps": 2}), after=True),
            "longest": Term("Longest", lambda strength: Levers(reward=longest)),
            "two": Term("of two", lambda strength: Levers(decoder=first), after=True),
            "heavy": Term("Weighed", lambda weight: Levers(objective=objective, weight=weight), usual=0.5),
            "strange": Term("Strange", lambda strength: Levers(options={"bowls": 2})),
        }


@pytest.fixture(autouse=True)
def both_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (RankGenRecipe, Mine)))


def rank_gen(**options: Any) -> RankGenRecipe:
    return RankGenRecipe(**{**RankGenRecipe.presets["smoke"], "preset": "smoke", **options})


LABELS = {
    "untrained": ("The encoder as given (cosine), best of the samples", "baseline"),
    "inbook": ("Ranker against passages of the same book, best of the samples", "method"),
    "generative": ("Ranker against machine text, best of the samples", "method"),
    "both": ("Ranker against both, best of the samples", "method"),
    "both+blocks": ("Ranker against both, search in blocks", "method"),
    "both+compat": ("Ranker against both, long texts cut as published, best of the samples", "method"),
    "blocks": ("The encoder as given (cosine), search in blocks", "method"),
    "overlap": ("Words shared with the prefix, best of the samples", "context"),
    "overlap+blocks": ("Words shared with the prefix, search in blocks", "method"),
    "perplexity": ("The generator's own probability, best of the samples", "context"),
    "nucleus": ("Nucleus sampling, not ranked", "context"),
    "human": ("What the author wrote", "context"),
    "judge": ("The ranker that judges the samples", "context"),
    "mine+blocks": ("My ranker, search in blocks", "method"),
    "short+both+few": ("Ranker against both + few rows, two steps, best of the samples", "method"),
}


@pytest.mark.parametrize("arm", LABELS)
def test_arms_are_told_apart_in_words_in_whichever_recipe_they_stand(arm: str) -> None:
    for recipe in (rank_gen(), Mine()):
        found = recipe.describe(arm)
        assert (found.label, found.role) == LABELS[arm]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("bowl", "there is no 'bowl'; there are untrained, inbook, generative, both, blocks, overlap"),
        ("both+bowl", "there is no 'bowl'"),
        ("both+inbook", r"2 losses \(both, inbook\)"),
        ("both+nucleus", "nucleus stands alone"),
        ("human+overlap", "human stands alone"),
        ("both+overlap", "two rankers, one trained and one given"),
        ("few", "has rows but no loss to train with"),
        ("backwards+ear", "has callbacks, sampler but no loss"),
        ("heavy", "a weight of 0.5, but there is no other loss"),
        ("strange", "changes bowls, but rankgen has no such option"),
        ("blocks+two", r"2 decoders \(blocks, two\)"),
        ("nucleus+compat", "there is no 'compat'"),
    ],
)
def test_arms_that_make_no_sense_are_named(arm: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rank_gen().describe(arm)


def test_a_variant_belongs_to_the_term_before_it() -> None:
    def of(arm: str) -> tuple[str, dict[str, Any]]:
        levers = rank_gen().mixture(arm).levers()
        return levers.decoder(longest, tokenizer=None, generator=None).first_stage, dict(levers.options)

    assert of("both+blocks") == ("single", {})
    assert of("both+blocks+compat") == ("copies", {})
    assert of("both+compat+blocks") == ("single", {"compat": True})
    assert of("both+compat+blocks+compat") == ("copies", {"compat": True})


def test_the_search_has_the_options_of_its_recipe_also_as_a_guest() -> None:
    made = rank_gen(beams=3, block=5).mixture("both+blocks").levers().decoder(longest, tokenizer=None, generator=None)
    assert (made.beams, made.samples, made.block) == (3, 2, 5)
    made = Mine().mixture("mine+blocks").levers().decoder(longest, tokenizer=None, generator=None)
    assert (made.beams, made.samples, made.block) == (2, 10, 20)


ARMS = (
    "both",
    "both+compat",
    "both+blocks+compat",
    "mine+blocks",
    "mine+few+backwards+ear",
    "mine+ear+short",
    "longest",
    "longest+two",
    "blocks",
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run whose arms pull every lever."""
    from kilter.data.catalogue import Asset

    folder = tmp_path_factory.mktemp("data")
    write_books(folder / "books")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "kin", staticmethod(lambda: (RankGenRecipe, Mine)))
        patch.setattr(Asset, "checksums", lambda self: {})
        patch.setenv("KILTER_DATA", str(folder))
        SEEN.clear()
        yield run(rank_gen(arms=ARMS, out=folder / "run"), "kilter run rankgen")


def rows(done: Path, arm: str) -> list[dict[str, Any]]:
    return read_rows(done / "arms" / arm / "seed-0" / "utterances.jsonl")


def weights(done: Path, arm: str) -> bytes:
    return (done / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes()


@pytest.mark.recipe
@pytest.mark.host
@pytest.mark.slow
class TestLevers:
    def test_every_arm_was_judged_and_the_guest_is_kept_with_the_run(self, done: Path) -> None:
        assert {*read_json(done / "summary.json")["arms"]} == {*ARMS}
        assert yaml.safe_load((done / "recipe.yaml").read_text())["settings"]["borrowed"] == {"mine": {"rows": 9}}

    def test_rows_and_sampler(self, done: Path) -> None:
        assert {*SEEN["drawn"]} == {*range(9)}
        assert SEEN["drawn"][:9] == [*range(8, -1, -1)]

    def test_callbacks_and_options(self, done: Path) -> None:
        assert SEEN["steps"] == [*((step, 4) for step in range(1, 5)), (1, 2), (2, 2)]

    def test_an_objective_is_made_of_the_encoder_and_trains_it(self, done: Path) -> None:
        assert all(hasattr(encoder, "encode") for encoder in SEEN["encoder"])
        trained = ("both", "mine", "mine+few+backwards+ear", "mine+ear+short")
        assert len({weights(done, arm) for arm in trained}) == len(trained)

    def test_a_decoder_uses_the_ranker_of_the_arm_without_it(self, done: Path) -> None:
        for arm in ("mine+blocks", "both+blocks+compat", "blocks"):
            assert not (done / "arms" / arm / "seed-0" / "model").exists()
            assert not any("inbook" in row["totals"] for row in rows(done, arm))
        assert (done / "arms" / "mine" / "seed-0" / "model" / "modules.json").exists()

    def test_a_reward_ranks(self, done: Path) -> None:
        from kilter.tasks.continuations.reranking import finished

        samples = {row["id"]: row["texts"] for row in read_rows(done / "samples" / "seed-0.jsonl")}
        found = {row["input"]: row["text"] for row in rows(done, "longest") if "text" in row}
        assert found == {key: finished(max(texts, key=len)) for key, texts in samples.items()}
        assert any("inbook" in row["totals"] for row in rows(done, "longest"))
        assert SEEN["decoder"] == [longest] * len(samples)

    def test_compat_reaches_the_ranker_and_costs_nothing_where_no_text_is_long(self, done: Path) -> None:
        compat = {
            arm: read_json(done / "arms" / arm / "seed-0" / "model" / "rankgen.json")["compat"]
            for arm in ("both", "both+compat")
        }
        assert compat == {"both": False, "both+compat": True}
        assert weights(done, "both") == weights(done, "both+compat")
        assert rows(done, "both") == rows(done, "both+compat")
