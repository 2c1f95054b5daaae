"""What tasks share whose arms tune the encoder they are given: how arms are read, named, and given their options.

A task joins a loss with curators, a module, what comes afterwards; this refuses what has no meaning there.
"""

import os
from abc import ABC
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from kilter.lab.arms import Arm, Levers, Mixture, UnknownPart
from kilter.lab.recipe import Recipe


@dataclass(kw_only=True)
class Tuning(Recipe, ABC):
    """A recipe whose baseline is the encoder as given, and whose arms tune it with one loss at most."""

    baseline: ClassVar[str] = "untrained"
    given: ClassVar[str] = "The encoder as given"
    """label of the baseline"""
    of_a_loss: ClassVar[Collection[str]] = ("rows", "sampler", "callbacks")
    """levers that mean nothing in an arm without a loss"""

    def prepare(self) -> None:
        """Check that it is one process.

        Raises:
            ValueError: torchrun has started several.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']}: {self.paper.slug} trains in one process; start it without "
                "torchrun, and let --jobs do several arms and seeds side by side"
            )

    def mixture(self, arm: str) -> Mixture:
        """What an arm is made of.

        Raises:
            ValueError: see `Recipe.mixture`; curators of a training that there is not, a weight where there is one
                loss, or an option that there is not.
        """
        try:
            found = super().mixture(arm)
        except UnknownPart as error:
            known = ", ".join([self.baseline, *self.terms()])
            raise ValueError(f"arms: there is no {error.part!r}; there are {known}, joined by +") from None
        levers = found.levers()
        if levers.objective is None and (idle := {*self.of_a_loss} & {*levers.pulled()}):
            raise ValueError(f"{arm!r} has {', '.join(sorted(idle))} but no loss to train with; join one by +")
        if levers.weight != 1:
            raise ValueError(
                f"{arm!r} has a weight of {levers.weight:g}, but there is no other loss to weigh it against"
            )
        if unknown := levers.options.keys() - {one.name for one in fields(self)}:
            raise ValueError(f"{arm!r} changes {', '.join(sorted(unknown))}, but {self.paper.slug} has no such option")
        return found

    def describe(self, arm: str) -> Arm:
        """Label and role of an arm."""
        found = self.mixture(arm)
        label = self.label(found)
        if arm == self.baseline:
            return Arm(label, "baseline")
        role = "method" if any(part.term.role == "method" for part in found.parts) else "context"
        if (part := found.single()) is None:
            return Arm(label, role)
        return Arm(label, role, part.full_name, f"{part.strength:g}")

    def label(self, found: Mixture) -> str:
        """An arm in words."""
        return found.label(self.given)

    def made_by(self, arm: str) -> dict[str, Any]:
        """With what the arm's own terms change."""
        return super().made_by(arm) | dict(self.mixture(arm).levers().options)

    def changed_by(self, levers: Levers) -> Any:
        """The run with the options of an arm."""
        changed = copy(self)
        vars(changed).update(levers.options)
        return changed
