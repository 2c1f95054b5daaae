"""Order Matters on sets as inputs: sorting, by networks that read a set in one way or another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kilter.core.paper import Claim, cards
from kilter.lab.arms import Levers, Term
from kilter.lab.recipe import Picture
from kilter.tasks.ordering import Ordering, Shape

_STEPS = ("process-0", "process-1", "process-5", "process-10")
_ALL = (
    "pointer-network",
    "no-glimpse",
    "masked",
    *_STEPS,
    *(f"{arm}+no-glimpse" for arm in _STEPS),
    "process-5+masked",
    "set-transformer",
    "deep-sets",
)
_PUBLISHED = {
    5: ((81, 90), (65, 84), (84, 92), (88, 94), (90, 94)),
    10: ((8, 28), (7, 30), (14, 44), (17, 57), (19, 50)),
    15: ((0, 4), (1, 2), (0, 5), (2, 4), (0, 10)),
}
"""Per cent of sets that are sorted after 10,000 steps, without and with a glimpse: the pointer network, and processing
in 0, 1, 5 and 10 steps."""


@dataclass(kw_only=True)
class OrderMattersSort(Ordering):
    """Sort the items of a set with a network to which it is the same however it is stored.

    Each item is read by one small network, a vector of the whole set is made by attention in several steps, and an LSTM
    then points at one item after the other. A pointer network, which reads the items as a sequence, is the baseline.

    Without --train it sorts numbers between 0 and 1. With --train FILE --by COLUMN it learns to sort your records, of
    which it reads all numbers, that column among them, and leaves the network in arms/process-5/seed-0/model: load it
    with kilter.models.sorter.Sorter.load. --task star and --task words are about the order in which a set is written.

    Presets: smoke is a test of seconds, demo three arms in minutes, full all arms, three seeds;
    records: records of patients sorted by one of their measurements, four arms;
    published: as many steps as in the paper;
    own (by default with --train): the pointer network against processing in five steps, where both write every item
    once.
    """

    task: str = "sort"
    """sort, star or words"""

    paper = cards()["order-matters"]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"arms": ("pointer-network", "process-0", "process-5", "deep-sets"), **Ordering.smoke},
        "demo": {
            "arms": ("pointer-network", "process-0", "process-5"),
            "sizes": (5, 10),
            "apart": True,
            "steps": 300,
            "jobs": 2,
        },
        "full": {"arms": _ALL, "apart": True, "steps": 500, "seeds": 3, "jobs": 2},
        "records": {
            "arms": ("pointer-network", "process-5", "set-transformer", "deep-sets"),
            "table": "diabetes",
            "by": "bmi",
            "apart": True,
            "steps": 500,
            "seeds": 3,
            "jobs": 2,
        },
        "published": {"arms": _ALL, "apart": True, "steps": 10_000, "seeds": 3, "save_steps": 1000},
        "own": {"arms": ("pointer-network", "process-5"), "mask_visited": True},  # what --train means
    }

    def brings(self) -> Mapping[str, Term]:
        """Reading, processing and writing, with any number of steps."""
        how: Any = {"usual": 5.0, "strength": _whole}
        return {
            "process": Term(
                "Read, process in {:g} steps, write", lambda steps: Levers(module=_processing(steps)), **how
            )
        }

    # The report ---------------------------------------------------------------------------------------------

    def claims(self) -> Sequence[Claim]:
        """The paper's, and what steps, glimpses, masks and modern encoders of sets are worth at each size."""
        pairs = [
            *((other, "process-5") for other in ("pointer-network", "process-0", "process-1", "process-5+no-glimpse")),
            *(("process-5", other) for other in ("process-10", "process-5+masked", "set-transformer", "deep-sets")),
            ("masked", "process-5+masked"),
        ]
        return self.with_claims(
            Claim(f"exact_{size}", "higher", *pair) for size in sorted(self.sizes) for pair in pairs
        )

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """The published figures, and how ours are to be read beside them; or how to load what an own run left."""
        found = [*super().notes(summary)]
        if self.own_data():
            arm = next((arm for arm in summary["arms"] if arm.startswith("process")), None)
            which = f"/size-{max(self.sizes)}" if self.apart else ""
            load = f'sorter = kilter.models.sorter.Sorter.load("arms/{arm}/seed-0/model{which}")'
            return [*found, *[f"To load it, in the folder of the run: {load}."] * (arm is not None)]
        if self.table is None:
            found += [
                "What the paper leaves open (widths, scores, optimiser) is chosen here as is usual today, and training "
                "is shorter, so that its table has another level: read how arms differ, not how high they stand. There "
                f"each size has a network of its own{', too' * self.apart}.",
                *map(_said, _PUBLISHED),
            ]
        return found

    def pictures(self, summary: Mapping[str, Any], run: Path) -> Sequence[Picture]:
        """Accuracy against the size of sets, of arms with a glimpse and without masks; the table has all."""
        apart = {"no-glimpse", "masked"}
        shown = {name: arm for name, arm in summary["arms"].items() if apart.isdisjoint(name.split("+"))}
        return super().pictures({**summary, "arms": shown or summary["arms"]}, run)


def _processing(steps: float) -> Any:
    def made(shape: Shape) -> Any:
        from kilter.seq2seq import ReadProcessWrite

        return ReadProcessWrite(shape.in_dim, shape.dim, steps=int(steps), **shape.written)

    return made


def _whole(strength: float) -> str:
    return "" if strength == int(strength) else "the strength is a number of steps, and must be whole"


def _said(size: int) -> str:
    names = ("pointer network", *(f"{steps} step{'s' * (steps != 1)}" for steps in (0, 1, 5, 10)))
    each = (f"{name} {less} and {more}" for name, (less, more) in zip(names, _PUBLISHED[size], strict=True))
    return f"Published, per cent of sets of {size} sorted without and with a glimpse: {', '.join(each)}."
