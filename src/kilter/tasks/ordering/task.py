"""The task: a network that is given a set learns to write its items in order, smallest first.

By default numbers drawn here, as in the paper; or records of a table, ordered by one of their columns, which is among
what the network reads. Nothing heavy is imported, so that `--help` answers at once.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from tyro.conf import arg

from kilter.lab.arms import Levers, Term
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import above, at_least
from kilter.lab.recipe import SHARE, Advance, Judged, Metric, Picture, Provenance, Recipe
from kilter.lab.tuning import Tuning

_TRAINED_WITH = ("steps", "batch_size", "learning_rate", "device", "precision", "save_steps")
_ACROSS = (
    "Sets sorted without a fault, against their size",
    "Of test sets that no network has seen; one item out of its place makes a set wrong. Shades are intervals.",
)
_TEST_SEED = 1


class Shape(NamedTuple):
    """What a network is made for: numbers of an item, width, glimpses, and whether visited items are masked."""

    in_dim: int
    dim: int
    glimpses: int
    mask_visited: bool

    @property
    def written(self) -> dict[str, Any]:
        """As keyword arguments of the writer."""
        return {"glimpses": self.glimpses, "mask_visited": self.mask_visited}


def metric_of(size: int) -> str:
    """What the share of sets of a size that are sorted without a fault is called.

    Example:
        >>> metric_of(10)
        'exact_10'
    """
    return f"exact_{size}"


def _metric(size: int) -> Metric:
    return Metric(f"Sets of {size} sorted", "%", "higher", 1, SHARE)


@dataclass(kw_only=True)
class Ordering(Tuning):
    """Options of every recipe on ordering."""

    train_data: Annotated[str | None, arg(name="train")] = None
    """your records to learn from: .csv, .jsonl, .json with a number by which they are ordered, or a hub dataset"""
    eval_data: Annotated[str | None, arg(name="eval")] = None
    """your records to judge on; by default every fifth of yours"""
    by: str | None = None
    """the column by which records are ordered; it is among those that are read"""
    columns: tuple[str, ...] = ()
    """columns of your records to be read beside it; by default all that hold numbers throughout"""
    table: str | None = None
    """records of scikit-learn instead: breast_cancer, diabetes, digits, iris or wine"""
    sizes: tuple[int, ...] = (5, 10, 15)
    """items of the sets that are learnt from and judged on, of each size alike"""
    apart: bool = False
    """a network of its own for each size, which learns much faster, rather than one for all of them"""
    dim: Annotated[int, at_least(8)] = 128
    """width of the networks"""
    glimpses: Annotated[int, at_least(0)] = 1
    """attentions to the set before each item that is written"""
    mask_visited: bool = False
    """keep what is written from being written again, which the paper does not"""
    test_sets: Annotated[int, at_least(1)] = 2000
    """sets of each size to judge on"""
    steps: Annotated[int, at_least(1)] = 1000
    """optimiser steps of every network"""
    batch_size: Annotated[int, at_least(1)] = 128
    """sets in a batch, all of one size"""
    learning_rate: Annotated[float, above(0)] = 1e-3
    """of AdamW, falling to 0 as a cosine"""
    save_steps: Annotated[int, at_least(1)] = 200
    """steps between checkpoints; what a kill can cost"""

    baseline: ClassVar[str] = "pointer-network"
    given: ClassVar[str] = "Pointer network"
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"module", "options"})
    """A module is the network itself, `(shape) -> network` with the calls of `kilter.seq2seq.ReadProcessWrite`, made
    for a `Shape`; other options are those of the training."""
    own_by: ClassVar[tuple[str, ...]] = ("train", "train_data")
    unhashed = Recipe.unhashed | {"save_steps"}
    judging = frozenset({"eval_data", "test_sets"})
    smoke: ClassVar[Mapping[str, Any]] = {
        "sizes": (2, 3),
        "dim": 8,
        "steps": 6,
        "batch_size": 8,
        "test_sets": 20,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""
    metrics: ClassVar[Mapping[str, Metric]] = {metric_of(one): _metric(one) for one in (5, 10, 15)}

    def prepare(self) -> None:
        """Check that the options fit each other; what is measured is measured at each size.

        Raises:
            ValueError: a size that is none or twice the same, data of two kinds, or a column of data that has none.
        """
        super().prepare()
        if not self.sizes or len({*self.sizes}) < len(self.sizes) or min(self.sizes) < 2:
            raise ValueError(f"sizes={self.sizes}: give one or more, each once and at least 2")
        if self.train_data and self.table:
            raise ValueError("--train and --table: give one; each brings the records")
        if self.train_data and self.by is None:
            raise ValueError("--by is missing: the column by which your records are ordered")
        if not self.train_data and (self.eval_data or self.columns):
            raise ValueError("--eval and --columns need --train: your records to learn from")
        if self.eval_data and self.eval_data == self.train_data:
            raise ValueError(
                f"--eval and --train are both {self.train_data}: judge on records that are not learnt from"
            )
        if self.by is not None and not (self.train_data or self.table):
            raise ValueError("--by needs records: --train FILE, or --table")
        self.metrics = {metric_of(one): _metric(one) for one in sorted(self.sizes)}  # type: ignore[misc]

    # Arms ---------------------------------------------------------------------------------------------------

    def rivals(self) -> Mapping[str, Term]:
        """Modern encoders of sets, and the networks with masks or without glimpses."""
        return {
            "set-transformer": Term(
                "Set Transformer", lambda strength: Levers(module=_rival("SetTransformer")), role="context"
            ),
            "deep-sets": Term("DeepSets", lambda strength: Levers(module=_rival("DeepSets")), role="context"),
            "masked": Term(
                "visited items masked",
                lambda strength: Levers(options={"mask_visited": True}),
                after=True,
                role="context",
            ),
            "no-glimpse": Term(
                "no glimpse", lambda strength: Levers(options={"glimpses": 0}), after=True, role="context"
            ),
        }

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """Numbers, a table of scikit-learn, or the user's records."""
        from kilter.tasks.ordering import sources

        most = max(self.sizes)
        if self.train_data is not None:
            self._split = sources.own(self.train_data, self.eval_data, str(self.by), self.columns, most)
        elif self.table is not None:
            self._split = sources.table(self.table, self.by, most)
        else:
            self._split = sources.numbers()
        return self._split.provenance

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the network of this arm, unless it is there."""
        levers = self.mixture(arm).levers()
        model = folder / "model"
        with one_at_a_time(model):
            networks = self._networks(model)
            for place, (kept, sizes) in enumerate(networks.items()):

                def moved(done: int, total: int, before: int = place) -> None:
                    advance(before * total + done, len(networks) * total)

                if not (kept / "README.md").exists():
                    self.changed_by(levers)._fit(arm, levers, seed, kept, sizes, moved)
        return model

    def _networks(self, model: Path) -> Mapping[Path, Sequence[int]]:
        """Where each network of an arm is kept, and the sizes that it learns."""
        return {model / f"size-{size}": (size,) for size in sorted(self.sizes)} if self.apart else {model: self.sizes}

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, sizes: Sequence[int], advance: Advance) -> None:
        import torch

        from kilter.lab.card import write_model_card
        from kilter.tasks.ordering import networks

        torch.manual_seed(seed)
        shape = Shape(len(self._split.train.columns), self.dim, self.glimpses, self.mask_visited)
        sorter = networks.fresh((levers.module or _baseline)(shape), self._split.train)
        how: Any = {name: getattr(self, name) for name in _TRAINED_WITH}
        work = folder.with_name("checkpoints")
        networks.train_sorter(sorter, self._split.train, work, sizes=sizes, seed=seed, advance=advance, **how)
        sorter.save(folder)
        write_model_card(folder, self, arm, self._split.provenance, library="kilter")
        shutil.rmtree(work, ignore_errors=True)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """Whether each test set is sorted without a fault."""
        from kilter.lab.totals import ratios
        from kilter.models.sorter import Sorter
        from kilter.tasks.ordering import networks

        sorters = [(Sorter.load(kept, self.device), sizes) for kept, sizes in self._networks(model).items()]
        rows = [
            row
            for sorter, sizes in sorters
            for size in sorted(sizes)
            for row in networks.judge(sorter, self._split.test, metric_of(size), self.test_sets, size, _TEST_SEED)
        ]
        return Judged(ratios(rows), rows)

    # The report ---------------------------------------------------------------------------------------------

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        sizes = ", ".join(map(str, self.sizes))
        what = (
            "Every arm has a network for each size, which learns it"
            if self.apart
            else f"Every arm is one network that learns sets of {sizes} items"
        )
        found = [
            f"{what} in {self.steps:,} batches of {self.batch_size}, for one seed the same sets in the same order. A "
            "set counts where every item is in its place; equal items may stand either way.",
        ]
        if self.train_data or self.table:
            records = self._split.train
            found.append(
                f"Records are ordered by {records.by}, which is among the {len(records.columns)} columns that a "
                "network reads: it learns which one matters, and to sort by it."
            )
        if self.mask_visited:
            found.append("Visited items are masked in every arm: an item is written once for certain.")
        elif any("masked" in arm.split("+") for arm in summary["arms"]):
            found.append(
                "Where visited items are masked, an item is written once for certain; without masks, as in the paper, "
                "a network has to learn that too. Compare masked arms with each other."
            )
        return [*found, *[summary["data"]["note"]] * bool(summary["data"]["note"])]

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against the size of sets."""
        from kilter.lab.curves import metric_curves

        if len(self.sizes) < 2:
            return []
        at = {float(one): metric_of(one) for one in sorted(self.sizes)}
        drawn = metric_curves(summary, at, across="items in a set", up="sets sorted, %")
        return [Picture("sizes", *_ACROSS, drawn)]


def _baseline(shape: Shape) -> Any:
    from kilter.seq2seq import PointerNetwork

    return PointerNetwork(shape.in_dim, shape.dim, **shape.written)


def _rival(name: str) -> Any:
    def made(shape: Shape) -> Any:
        from kilter.models import set_encoders

        return getattr(set_encoders, name)(shape.in_dim, shape.dim, **shape.written)

    return made
