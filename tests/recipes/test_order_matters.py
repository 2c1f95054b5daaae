"""The recipe from end to end: sorting, stars and words, kills, one's own records, and what is refused."""

import re
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.lab.files import read_json
from kilter.lab.run import run
from kilter.models.set_writer import SetWriter
from kilter.models.sorter import Sorter
from kilter.recipes.order_matters import RECIPE, OrderMattersSort, OrderMattersStar, OrderMattersWords
from kilter.seq2seq import ReadProcessWrite
from tests.prose import prose

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "order-matters", "--preset", "smoke", "--device", "cpu"]
TINY: dict[str, Any] = {**OrderMattersSort.presets["smoke"], "preset": "smoke", "device": "cpu"}


@pytest.fixture(scope="module")
def sort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run on numbers."""
    out = tmp_path_factory.mktemp("runs") / "sort"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run on a text of one's own."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(prose(120, 0), encoding="utf-8")
    given = {**OrderMattersWords.presets["smoke"], "train_data": str(folder / "text.txt")}
    return run(OrderMattersWords(preset="smoke", device="cpu", **given, out=folder / "run"), "")


def figures(run: Path, arm: str) -> dict[str, float]:
    found = read_json(run / "arms" / arm / "seed-0" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


def card(run: Path, arm: str) -> str:
    return (run / "arms" / arm / "seed-0" / "model" / "README.md").read_text(encoding="utf-8")


def killed(out: Path, recipe: type[Any], given: Mapping[str, Any], *, at: int) -> None:
    """A run that is stopped in a step and taken up again."""
    from transformers import Trainer

    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == at:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(recipe(**given, out=out), "")
    run(recipe(**given, out=out), "")


class TestSort:
    def test_every_arm_is_judged_at_every_size(self, sort: Path) -> None:
        summary = read_json(sort / "summary.json")
        for arm in TINY["arms"]:
            assert figures(sort, arm).keys() == {"exact_2", "exact_3"}
        assert summary["baseline"] == "pointer-network"
        assert [Path(one["file"]).stem for one in summary["figures"]] == ["sizes"]
        tried = {(one["metric"], one["baseline"], one["arm"]) for one in summary["verdicts"] if "metric" in one}
        assert {("exact_2", "process-0", "process-5"), ("exact_3", "process-5", "deep-sets")} <= tried

    def test_the_published_table_is_said_beside_ours(self, sort: Path) -> None:
        notes = read_json(sort / "summary.json")["notes"]
        (ten,) = [note for note in notes if "sets of 10" in note]
        assert "pointer network 8 and 28, 0 steps 7 and 30, 1 step 14 and 44, 5 steps 17 and 57" in ten
        assert any("read how arms differ, not how high they stand" in note for note in notes)
        assert not read_json(sort / "summary.json")["data"]["synthetic"]

    def test_the_network_is_kept_as_weights_and_json_and_its_card_loads_it(self, sort: Path) -> None:
        folder = sort / "arms" / "process-5" / "seed-0" / "model"
        assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
        found = Sorter.load(folder)
        assert isinstance(found.network, ReadProcessWrite)
        assert found.network.steps == 5
        code = card(sort, "process-5").partition("```python\n")[2].partition("```")[0].replace('"."', repr(str(folder)))
        names: dict[str, Any] = {}
        exec(code, names)
        assert len(names["sorter"].order([{"number": 0.3}, {"number": 0.1}])) == 2

    def test_a_killed_training_ends_with_the_same_bits(self, sort: Path, tmp_path: Path) -> None:
        killed(tmp_path / "run", OrderMattersSort, {**TINY, "arms": ("process-5",)}, at=3)
        file = "arms/process-5/seed-0/model/model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (sort / file).read_bytes()

    def test_sizes_apart_have_networks_of_their_own_and_a_kill_costs_no_size_twice(self, tmp_path: Path) -> None:
        given = {**TINY, "arms": ("process-5",), "apart": True}
        whole = run(OrderMattersSort(**given, out=tmp_path / "whole"), "")
        killed(tmp_path / "killed", OrderMattersSort, given, at=4)
        networks = [whole / "arms" / "process-5" / "seed-0" / "model" / f"size-{size}" for size in (2, 3)]
        assert [[one.name for one in sorted(network.parent.iterdir())] for network in networks] == 2 * [
            ["size-2", "size-3"]
        ]
        two, three = (Sorter.load(network).network.state_dict() for network in networks)
        assert any(not torch.equal(value, three[name]) for name, value in two.items())
        for network in networks:
            again = Sorter.load(tmp_path / "killed" / network.relative_to(whole)).network.state_dict()
            assert all(
                torch.equal(value, again[name]) for name, value in Sorter.load(network).network.state_dict().items()
            )
        assert figures(whole, "process-5") == figures(tmp_path / "killed", "process-5")
        assert {"exact_2", "exact_3"} == {*figures(whole, "process-5")}

    def test_a_training_killed_before_it_is_saved_is_not_done_again(
        self, sort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        recipe = {**TINY, "arms": ("process-5",), "out": tmp_path / "run"}
        with monkeypatch.context() as patch:
            patch.setattr(Sorter, "save", dies)
            with pytest.raises(KeyboardInterrupt):
                run(OrderMattersSort(**recipe), "")
        monkeypatch.setattr("transformers.Trainer.training_step", dies)
        run(OrderMattersSort(**recipe), "")
        file = "arms/process-5/seed-0/model/model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (sort / file).read_bytes()

    def test_your_records_are_sorted_and_the_model_is_left(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = "".join(f'{{"name": "n{place}", "age": {place * 7 % 30}, "size": {place}}}\n' for place in range(30))
        (tmp_path / "r.jsonl").write_text(rows, encoding="utf-8")
        small = [
            part
            for name, value in OrderMattersSort.presets["smoke"].items()
            if name not in ("arms", "sizes")
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        own = ["--task", "sort", "--train", str(tmp_path / "r.jsonl"), "--by", "age", "--sizes", "2", "4"]
        given = ["run", "order-matters", *own, *small, "--device", "cpu", "--out", str(tmp_path / "run")]
        assert main(given) == 0
        summary = read_json(tmp_path / "run" / "summary.json")
        assert summary["preset"] == "own"
        assert [*summary["arms"]] == ["pointer-network", "process-5"]
        assert not summary["verdicts"]
        assert any("ordered by age, which is among the 2 columns" in note for note in summary["notes"])
        assert any('Sorter.load("arms/process-5/seed-0/model")' in note for note in summary["notes"])
        assert any("Columns that are not read, for not all" in note and "name." in note for note in summary["notes"])
        assert any("masked in every arm" in note for note in summary["notes"])
        sorter = Sorter.load(tmp_path / "run" / "arms" / "process-5" / "seed-0" / "model")
        assert (sorter.columns, sorter.by) == (("age", "size"), "age")
        assert sorted(sorter.order([{"age": age, "size": 1} for age in (3, 1, 2)])) == [0, 1, 2]
        capsys.readouterr()
        (tmp_path / "r.jsonl").write_text(rows.replace('"age": 21', '"age": "?"'), encoding="utf-8")
        assert main([*given[:-1], str(tmp_path / "other")]) == 1
        assert re.search(r"r\.jsonl, line 4: column 'age' must be a number, got '\?'", capsys.readouterr().err)

    @pytest.mark.slow
    def test_a_table_of_scikit_learn_is_sorted(self, tmp_path: Path) -> None:
        given = {**TINY, "arms": ("process-5",), "table": "diabetes", "by": "bmi"}
        out = run(OrderMattersSort(**given, out=tmp_path / "run"), "")
        summary = read_json(out / "summary.json")
        assert "diabetes, a table of scikit-learn: 442 records of 11 numbers" in summary["data"]["title"]
        assert not any("Published" in note for note in summary["notes"])
        assert Sorter.load(out / "arms" / "process-5" / "seed-0" / "model").by == "bmi"

    @pytest.mark.parametrize(
        ("arm", "message"),
        [
            ("pointer-net", "there is no 'pointer-net'"),
            ("process-2.5", "must be whole"),
            ("process-5+set-transformer", "2 module"),
            ("pointer-network+masked", "leave it out"),
        ],
    )
    def test_an_arm_that_cannot_be_is_refused(self, arm: str, message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            OrderMattersSort().describe(arm)


class TestStar:
    def test_every_arm_has_its_figures(self, tmp_path: Path) -> None:
        assert main([*RUN, "--task", "star", "--out", str(tmp_path / "run")]) == 0
        summary = read_json(tmp_path / "run" / "summary.json")
        assert summary["baseline"] == "head-last"
        for arm in OrderMattersStar.presets["smoke"]["arms"]:
            assert figures(tmp_path / "run", arm).keys() == {"star_nll", "star_excess"}
        tried = {(one["metric"], one["baseline"], one["arm"]) for one in summary["verdicts"] if "metric" in one}
        assert ("star_nll", "head-last", "head-first") in tried
        assert summary["arms"]["samples-20"]["label"] == "Head last, 20 samples"
        assert SetWriter.load(tmp_path / "run" / "arms" / "head-first" / "seed-0" / "model").places == 4


class TestWords:
    def test_every_arm_has_its_figures_and_searches_say_what_they_prefer(self, words: Path) -> None:
        for arm in OrderMattersWords.presets["smoke"]["arms"]:
            assert figures(words, arm).keys() == {"perplexity", "perplexity_summed"}
        notes = read_json(words / "summary.json")["notes"]
        assert {"Search over two orders", "Search over 120 orders"} == {
            found[1] for note in notes if (found := re.match(r"Orders that (.*) prefers", note))
        }
        assert SetWriter.load(words / "arms" / "search" / "seed-0" / "model").places == 5

    def test_a_killed_search_ends_with_the_same_bits(self, words: Path, tmp_path: Path) -> None:
        """Its count of draws, which says when the uniform phase is over, is in the checkpoint."""
        source = words.parent / "text.txt"
        given = {**OrderMattersWords.presets["smoke"], "train_data": str(source), "arms": ("search",)}
        killed(tmp_path / "run", OrderMattersWords, {**given, "preset": "smoke", "device": "cpu"}, at=3)
        file = "arms/search/seed-0/model/model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (words / file).read_bytes()

    def test_variants_of_the_search_are_what_they_say(self) -> None:
        recipe = OrderMattersWords(warmup_steps=7)
        recipe.prepare()
        every = [[*order] for order in permutations(range(5))]
        for arm, sampler, steps, candidates in (
            ("search", "exact", 7, every),
            ("search+ancestral", "ancestral", 7, None),
            ("search+greedy", "greedy", 7, every),
            ("search+cold", "exact", 0, every),
            ("easy", "exact", 7, [[0, 1, 2, 3, 4], [4, 0, 2, 3, 1]]),
        ):
            found: Any = recipe.mixture(arm).levers().objective(None)  # type: ignore[misc]
            assert (found.search.sampler, found.search.warmup_steps) == (sampler, steps)
            assert candidates == (None if found.candidates is None else found.candidates.tolist())


@pytest.mark.parametrize("task", RECIPE)
def test_presets_name_arms_that_there_are(task: str) -> None:
    for preset, given in RECIPE[task].presets.items():
        recipe: Any = RECIPE[task](**{"preset": preset, **given})
        recipe.prepare()
        labels = [recipe.describe(arm).label for arm in recipe.arms]
        assert len({*labels}) == len(labels)
        assert preset not in ("full", "star", "words") or recipe.seeds >= 3


def test_a_task_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "order-matters", "--task", "sorts"]) == 2
    assert "did you mean 'sort'" in capsys.readouterr().err


def test_draws_depend_on_the_seed_and_the_step_alone() -> None:
    from kilter.lab.drawn import Draws

    rows = Draws(lambda count, generator: {"x": torch.rand(count, generator=generator)}, 8, 0)
    assert torch.equal(rows.__getitems__([4, 5])["x"], rows.__getitems__([4, 5])["x"])
    assert not torch.equal(rows.__getitems__([4, 5])["x"], rows.__getitems__([2, 3])["x"])
