"""The task of ordering: what is drawn and read, what learns, how a set is judged, what is kept, and what is refused."""

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from kilter.core.paper import cards
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Recipe
from kilter.lab.run import run
from kilter.models.set_encoders import DeepSets, SetTransformer
from kilter.models.sorter import Sorter
from kilter.seq2seq import PointerNetwork, ReadProcessWrite
from kilter.tasks.ordering import Ordering, Shape
from kilter.tasks.ordering.networks import fresh, judge, sorted_without_fault, train_sorter
from kilter.tasks.ordering.sources import Records, numbers, own, table

pytestmark = pytest.mark.host
NETWORKS = [PointerNetwork, ReadProcessWrite, DeepSets, SetTransformer]


@dataclass(kw_only=True)
class Mine(Ordering):
    """A method on the task."""

    paper = replace(cards()["whitened-cse"], slug="mine")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("pointer-network", "mine"), **Ordering.smoke},
        "full": {},
    }

    def brings(self) -> Mapping[str, Term]:
        return {"mine": Term("Mine", lambda strength: Levers(module=mine))}


def mine(shape: Shape) -> Any:
    return DeepSets(shape.in_dim, shape.dim, **shape.written)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recipe, "kin", staticmethod(lambda: (Mine,)))


def records(folder: Path, name: str = "records.csv", rows: int = 20, **changes: Any) -> str:
    """A table of fruit, whose price is twice its weight; `changes` are of the row at place 3."""
    found = [{"name": f"no {place}", "weight": place * 7 % 20, "price": place * 14 % 40} for place in range(rows)]
    found[3] |= changes
    with (folder / name).open("w", newline="") as handle:
        writer: Any = csv.DictWriter(handle, ("name", "weight", "price"))
        writer.writeheader()
        writer.writerows(found)
    return str(folder / name)


# Records --------------------------------------------------------------------------------------------------------------


class TestSources:
    def test_numbers_are_between_0_and_1_and_the_seed_says_which(self) -> None:
        drawn = [numbers().train.draw(50, 4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        (items, keys), (again, _), (other, _) = drawn
        assert items.shape == (50, 4, 1)
        assert torch.equal(items[..., 0], keys)
        assert keys.min() >= 0
        assert keys.max() < 1
        assert keys.std() > 0.2
        assert torch.equal(items, again)
        assert not torch.equal(items, other)

    def test_a_set_has_different_records(self) -> None:
        pool = Records(("a", "b"), "b", torch.stack([torch.arange(9.0), -torch.arange(9.0)], 1))
        items, keys = pool.draw(200, 9, torch.Generator().manual_seed(0))
        assert torch.equal(items[..., 0].sort(1).values, torch.arange(9.0).expand(200, -1))
        assert torch.equal(keys, items[..., 1])
        assert len({tuple(row.tolist()) for row in keys}) > 50

    def test_scales_are_those_of_the_records_and_a_constant_column_is_left(self) -> None:
        pool = Records(("a", "b"), "b", torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        assert pool.scale() == ((2.0, 5.0), (1.0, 1.0))
        assert numbers().train.scale() == ((0.0,), (1.0,))

    def test_a_table_of_scikit_learn_has_what_it_foretells_as_a_column(self) -> None:
        found = table("diabetes", None, 5)
        assert found.train.by == "target"
        assert found.train.columns[-1] == "target"
        assert len(found.train.rows) + len(found.test.rows) == 442  # type: ignore[arg-type]
        assert table("diabetes", "bmi", 5).train.by == "bmi"
        for wrong, message in ((("diabetes", "bim"), "did you mean 'bmi'"), (("boston", None), "no table 'boston'")):
            with pytest.raises(ValueError, match=message):
                table(*wrong, 5)

    def test_own_records_are_their_numbers_and_the_rest_is_named(self, tmp_path: Path) -> None:
        found = own(records(tmp_path), None, "price", (), 3)
        assert found.train.columns == ("weight", "price")
        assert (len(found.train.rows), len(found.test.rows)) == (16, 4)  # type: ignore[arg-type]
        assert found.provenance.note == "Columns that are not read, for not all of their values are numbers: name."
        named = own(records(tmp_path), None, "price", ("price",), 3)
        assert named.provenance.note == "Columns that are not read: name, weight."
        assert not found.provenance.synthetic
        lines = "".join(json.dumps({"a": place, "b": str(place)}) + "\n" for place in range(12))
        (tmp_path / "r.jsonl").write_text(lines)
        found = own(str(tmp_path / "r.jsonl"), records(tmp_path, "no.csv") and str(tmp_path / "r.jsonl"), "b", (), 2)
        assert found.test.columns == ("a", "b")

    @pytest.mark.parametrize("value", ["n/a", "", "nan", "inf"])
    def test_a_column_that_is_no_number_is_refused_by_its_row(self, tmp_path: Path, value: str) -> None:
        source = records(tmp_path, price=value)
        with pytest.raises(ValueError, match=f"records.csv, line 5: column 'price' must be a number, got '{value}'"):
            own(source, None, "price", (), 3)
        with pytest.raises(ValueError, match="line 5: column 'price' must be a number"):
            own(source, None, "weight", ("price",), 3)
        assert own(source, None, "weight", (), 3).train.columns == ("weight",)

    def test_columns_are_those_of_all_rows(self, tmp_path: Path) -> None:
        lines = [{"a": place} | ({"b": place} if place else {}) for place in range(12)]
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        assert own(str(tmp_path / "r.jsonl"), None, "a", (), 2).provenance.note.endswith("numbers: b.")
        with pytest.raises(ValueError, match=r"r.jsonl, line 1: column 'b' must be a number, got None"):
            own(str(tmp_path / "r.jsonl"), None, "b", (), 2)

    @pytest.mark.parametrize(("start", "step"), [(20_250_000_000, 1), (1e300, 1e298), (0, 1e-200)])
    def test_numbers_that_are_long_large_or_small_are_told_apart(
        self, tmp_path: Path, start: float, step: float
    ) -> None:
        """Times in seconds and numbers of a register do not fit float32."""
        with (tmp_path / "r.csv").open("w") as handle:
            handle.write("time\n" + "".join(f"{start + place * step!r}\n" for place in range(20)))
        split = own(str(tmp_path / "r.csv"), None, "time", (), 4)
        items, keys = split.train.draw(9, 16, torch.Generator().manual_seed(0))
        seen = fresh(DeepSets(1, 8), split.train).scaled(items)[..., 0]
        assert seen.dtype == torch.float32
        assert torch.equal(seen.argsort(1), keys.argsort(1))
        assert (seen.sort(1).values.diff(dim=1) > 0.1).all()
        assert seen.std().item() == pytest.approx(1, abs=0.1)

    def test_a_column_with_one_number_in_all_rows_cannot_be_sorted_by(self, tmp_path: Path) -> None:
        rows = "".join(f"{place},{3 if place % 5 < 4 else place % 2}\n" for place in range(20))
        (tmp_path / "r.csv").write_text("a,b\n" + rows)
        with pytest.raises(ValueError, match=r"r.csv: column 'b' is 3 in every record"):
            own(str(tmp_path / "r.csv"), None, "b", (), 2)

    def test_what_is_not_there_or_too_little_is_refused(self, tmp_path: Path) -> None:
        source = records(tmp_path)
        for given, message in (
            ((source, None, "prize", (), 3), "no column 'prize'; did you mean 'price'"),
            ((source, None, "price", ("wait",), 3), "no column 'wait'"),
            ((source, None, "price", (), 5), "has 4 records for sets of 5"),
            ((source, records(tmp_path, "b.csv", 4), "price", (), 5), "b.csv: has 4 records for sets of 5"),
            ((str(tmp_path / "none.csv"), None, "price", (), 5), "none.csv"),
            (("-", None, "price", (), 5), "--train -: a run reads its records more than once"),
        ):
            with pytest.raises(ValueError, match=message):
                own(*given)


# Networks -------------------------------------------------------------------------------------------------------------


class TestNetworks:
    @pytest.mark.parametrize("kind", [DeepSets, SetTransformer])
    def test_a_rival_does_not_see_how_a_set_is_stored_nor_what_is_masked(self, kind: Any) -> None:
        torch.manual_seed(0)
        network = kind(2, 8).double().eval()
        items = torch.randn(3, 5, 2, dtype=torch.float64)
        targets, mixed = torch.arange(5).expand(3, -1), torch.tensor([3, 1, 4, 0, 2])
        found = network(items, targets)
        assert torch.allclose(network(items[:, mixed], mixed.argsort()[targets]), found[:, :, mixed], atol=1e-9)
        longer = torch.cat([items, torch.randn(3, 2, 2, dtype=torch.float64)], 1)
        mask = torch.arange(7).expand(3, -1) < 5
        assert torch.allclose(network(longer, targets, mask)[:, :, :5], found, atol=1e-9)
        assert network.decode(items).shape == (3, 5)

    @pytest.mark.parametrize("kind", NETWORKS)
    def test_each_is_kept_and_loaded(self, kind: Any, tmp_path: Path) -> None:
        torch.manual_seed(0)
        sorter = Sorter(kind(2, 8, mask_visited=True), ("a", "b"), "b", (1.0, 2.0), (2.0, 0.5))
        sorter.save(tmp_path)
        found = Sorter.load(tmp_path)
        assert (found.columns, found.by, found.mean, found.spread) == (("a", "b"), "b", (1.0, 2.0), (2.0, 0.5))
        given = [{"a": place % 3, "b": -place, "c": "x"} for place in range(5)]
        assert found.order(given) == sorter.order(given)
        assert sorted(found.order(given)) == [*range(5)]
        assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}

    def test_what_cannot_be_loaded_or_ordered_is_refused(self, tmp_path: Path) -> None:
        sorter = Sorter(DeepSets(1, 8), ("a",), "a", (0.0,), (1.0,))
        with pytest.raises(ValueError, match="record 1: column 'a' must be a number, got None"):
            sorter.order([{"a": 1}, {"b": 1}])
        for value in (math.nan, "?", True, 10**400):
            with pytest.raises(ValueError, match="record 1: column 'a' must be a number, got"):
                sorter.order([{"a": 1}, {"a": value}])
        assert sorter.order([{"a": "2.5"}, {"a": 1}]) == sorter.order([{"a": 2.5}, {"a": 1}])  # as a csv has it
        with pytest.raises(ValueError, match="records: there is none"):
            sorter.order([])
        with pytest.raises(ValueError, match="holds no model of records that is whole"):
            Sorter.load(tmp_path)
        sorter.save(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"cut")
        with pytest.raises(ValueError, match="holds no model of records that is whole"):
            Sorter.load(tmp_path)

    def test_a_set_is_right_where_each_item_stands_once_and_none_before_a_smaller_one(self) -> None:
        generator = torch.Generator().manual_seed(0)
        keys = torch.randint(4, (300, 3), generator=generator).float()
        written = torch.randint(3, (300, 3), generator=generator)
        found = sorted_without_fault(keys, written)
        for row, order, right in zip(keys.tolist(), written.tolist(), found.tolist(), strict=True):
            assert right == (sorted(order) == [0, 1, 2] and [row[place] for place in order] == sorted(row))
        assert 0 < found.float().mean() < 0.5

    @pytest.mark.slow
    def test_two_numbers_are_sorted_after_a_little_training(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        split = numbers()
        sorter = fresh(ReadProcessWrite(1, 16, steps=1), split.train)
        how: Any = {"learning_rate": 1e-2, "batch_size": 64, "device": "cpu", "precision": "float32"}
        before = judge(sorter, split.test, "exact_2", 400, 2, 1)
        train_sorter(
            sorter,
            split.train,
            tmp_path,
            sizes=(2,),
            seed=0,
            advance=lambda *_, **__: None,
            steps=150,
            save_steps=150,
            **how,
        )
        after = judge(sorter, split.test, "exact_2", 400, 2, 1)
        share, now = (sum(row["totals"]["exact_2"][0] for row in rows) / 400 for rows in (before, after))
        assert share < 0.7
        assert now > 0.9


# The task -------------------------------------------------------------------------------------------------------------


def test_the_network_of_an_arm_is_trained_judged_and_kept(tmp_path: Path) -> None:
    given = {**Mine.presets["smoke"], "arms": ("pointer-network", "mine", "masked+no-glimpse")}
    out = run(Mine(preset="smoke", device="cpu", **given, out=tmp_path / "run"), "kilter run mine")
    for arm, kind in (("pointer-network", PointerNetwork), ("mine", DeepSets), ("masked+no-glimpse", PointerNetwork)):
        folder = out / "arms" / arm / "seed-0"
        found = read_json(folder / "metrics.json")
        rows = read_rows(folder / "utterances.jsonl")
        for size in (2, 3):
            right = [row["totals"][f"exact_{size}"][0] for row in rows if f"exact_{size}" in row["totals"]]
            assert found[f"exact_{size}"] == pytest.approx(100 * sum(right) / 20)
        assert isinstance((sorter := Sorter.load(folder / "model")).network, kind)
        assert sorter.network.mask_visited == ("masked" in arm)
        assert sorter.network.glimpses == ("no-glimpse" not in arm)
        assert "Sorter.load(folder)" in (folder / "model" / "README.md").read_text(encoding="utf-8")
        assert not (folder / "checkpoints").exists()
    summary = read_json(out / "summary.json")
    assert [Path(one["file"]).stem for one in summary["figures"]] == ["sizes"]
    assert not summary["data"]["synthetic"]
    assert any("visited items are masked" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, "sizes=(): give one or more"),
        ({"sizes": (3, 3)}, "sizes=(3, 3)"),
        ({"sizes": (1, 3)}, "at least 2"),
        ({"train_data": "a.csv", "by": "x", "table": "wine"}, "--train and --table: give one"),
        ({"train_data": "a.csv"}, "--by is missing"),
        ({"eval_data": "a.csv"}, "--eval and --columns need --train"),
        ({"columns": ("a",)}, "--eval and --columns need --train"),
        ({"train_data": "a.csv", "eval_data": "a.csv", "by": "x"}, "judge on records that are not learnt from"),
        ({"by": "x"}, "--by needs records"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Mine(**options).prepare()
