"""Stars: random variables that hang on one of them, the head; drawn here, as in the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from kilter.data.star_models import Star
from kilter.lab.arms import Levers, Term
from kilter.lab.options import above, at_least
from kilter.lab.recipe import Judged, Metric, Provenance
from kilter.tasks.set_likelihood.task import Order, SetLikelihood

if TYPE_CHECKING:
    from kilter.tasks.set_likelihood.learning import Sets

STARS = Provenance("stars of random variables drawn here", licence="none needed", digest="1")
"""No stand-in for anything: the paper draws them too."""


@dataclass(kw_only=True)
class StarVariables(SetLikelihood):
    """Options of every recipe on stars."""

    variables: Annotated[int, at_least(2)] = 20
    """of a star, the head among them (published: 10 to 50)"""
    symbols: Annotated[int, at_least(2)] = 10
    """that each variable can be (published: 10)"""
    peak: Annotated[float, above(0)] = 2.0
    """how sure the head makes the others: logits are this times normal numbers"""
    samples: Annotated[int, at_least(1)] = 2000
    """sets to learn from (published: 200 to 20,000)"""
    test_sets: Annotated[int, at_least(1)] = 2000
    """sets to judge on"""

    baseline: ClassVar[str] = "head-last"
    given: ClassVar[str] = "Head last"
    own_by: ClassVar[tuple[str, ...]] = ()
    judging = frozenset({"test_sets"})
    metrics: ClassVar[Mapping[str, Metric]] = {
        "star_nll": Metric("Nats per variable", "", "lower", 3, (0.0, None)),
        "star_excess": Metric("Nats per variable above those of the star itself", "", "lower", 3),
    }
    smoke: ClassVar[Mapping[str, Any]] = {
        "variables": 4,
        "symbols": 3,
        "samples": 40,
        "test_sets": 30,
        "dim": 8,
        "steps": 6,
        "batch_size": 8,
        "save_steps": 2,
    }
    """sizes of a preset that takes seconds"""

    def orders(self) -> Mapping[str, tuple[str, Order | None]]:
        """The head last, or first, or anywhere."""
        others = range(1, self.variables)
        return {
            "head-last": ("Head last", (*others, 0)),
            "head-first": ("Head first", (0, *others)),
            "uniform": ("Any order", None),
        }

    def role_of(self, order: str) -> Any:
        """Head first is what the paper finds better."""
        return "method" if order == "head-first" else "context"

    def rivals(self) -> Mapping[str, Term]:
        """Orders, and other numbers of samples and stars."""
        return {
            **super().rivals(),
            "samples": Term(
                "{:g} samples",
                lambda count: Levers(options={"samples": int(count)}),
                usual=2000.0,
                after=True,
                role="context",
                strength=_whole,
            ),
            "peak": Term(
                "peak {:g}", lambda peak: Levers(options={"peak": peak}), usual=2.0, after=True, role="context"
            ),
        }

    def credit(self) -> Provenance:
        """Nothing is read: every seed draws its own star."""
        return STARS

    def sets(self, seed: int) -> "Sets":
        """Draws of the seed's star, other ones to choose weights by and to judge on."""
        import torch

        from kilter.tasks.set_likelihood.learning import Sets

        def of(part: str) -> torch.Generator:  # of its own, so that no count changes what else is drawn
            return torch.Generator().manual_seed(Random(f"{seed} {part}").getrandbits(63))

        self._star = Star.drawn(self.variables, self.symbols, self.peak, of("star"))
        counts = {"train": self.samples, "dev": 1000, "test": self.test_sets}
        train, dev, test = (self._star.draw(count, of(part)) for part, count in counts.items())
        return Sets(train, dev, test, self.symbols)

    def judged(self, model: Any, order: Order | None, sets: "Sets") -> Judged:
        """Nats of each set, and how many of them are not the star's own."""
        from kilter.tasks.set_likelihood.learning import nats

        found, orders = nats(model, sets.test, order)
        own, count = self._star.nats(sets.test), sets.test.shape[1]
        rows = [
            {
                "input": place,
                "orders": [orders[place].tolist()] * (order is None),
                "totals": {"star_nll": [float(mine), count], "star_excess": [float(mine - least), count]},
            }
            for place, (mine, least) in enumerate(zip(found, own, strict=True))
        ]
        whole = found.numel() * count
        return Judged({"star_nll": float(found.sum()) / whole, "star_excess": float((found - own).sum()) / whole}, rows)

    def judged_in(self, *, searched: bool) -> Order | None:
        """Where any order was learnt the head comes last, as in the baseline."""
        order = super().judged_in(searched=searched)
        return self.orders()[self.baseline][1] if order is None and not searched else order

    def notes(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """What the figures are, and are not, whatever was compared."""
        return [
            f"A star has {self.variables} variables of {self.symbols} symbols; every seed draws another one. By the "
            "chain rule all orders have the same entropy, so that what differs is what was learnt. Weights are those "
            "of the checkpoint that did best on 1,000 other draws.",
            "The paper has no table of this: it says that the head is better first, but for many samples or nearly "
            "certain variables, where it does not matter.",
            *self.preferred(summary),
        ]


def _whole(strength: float) -> str:
    fits = strength >= 1 and strength == int(strength)
    return "" if fits else "the strength is a number of samples: whole, and at least 1"
