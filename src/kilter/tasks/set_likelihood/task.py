"""What stars and groups of words share: how a model of sets is trained on orders of them, kept and judged.

Nothing heavy is imported, so that `--help` answers at once.
"""

import shutil
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from kilter.core.errors import suggest
from kilter.lab.arms import Levers, Term
from kilter.lab.files import read_rows
from kilter.lab.locks import one_at_a_time
from kilter.lab.options import above, at_least, share
from kilter.lab.recipe import Advance, Judged, Provenance, Recipe
from kilter.lab.tuning import Tuning

if TYPE_CHECKING:
    from kilter.tasks.set_likelihood.learning import Sets

Order = Sequence[int]
_TRAINED_WITH = ("steps", "batch_size", "learning_rate", "device", "precision", "save_steps")
_SAID = 3
"""So many of the orders that a search prefers are named."""


@dataclass(kw_only=True)
class SetLikelihood(Tuning):
    """Options of every recipe on the likelihood of sets."""

    order: str = ""
    """in which order sets are written, one of the arms without a search; by default that of the baseline"""
    dim: Annotated[int, at_least(4)] = 64
    """width of the model"""
    dropout: Annotated[float, share(whole=False)] = 0.1
    """of what enters the model's LSTM and leaves it"""
    steps: Annotated[int, at_least(1)] = 2000
    """optimiser steps of every arm; the weights of the best checkpoint are kept"""
    batch_size: Annotated[int, at_least(1)] = 64
    """sets in a batch"""
    learning_rate: Annotated[float, above(0)] = 2e-3
    """of AdamW, falling to 0 as a cosine"""
    save_steps: Annotated[int, at_least(1)] = 100
    """steps between checkpoints, by which weights are chosen too"""

    unhashed = Recipe.unhashed | {"save_steps"}
    of_a_loss: ClassVar[Collection[str]] = ()
    takes: ClassVar[frozenset[str]] = frozenset({"objective", "options"})
    """An objective is a search for orders, `(model) -> module`, whose forward takes `step_log_probs`, the places of a
    set and the rows of a batch, as that of `kilter.seq2seq.OrderSearch` does; other options are those of the run."""

    @abstractmethod
    def orders(self) -> Mapping[str, tuple[str, Order | None]]:
        """Orders by name, each with its label and places; None for another order of each set, whichever."""

    @abstractmethod
    def credit(self) -> Provenance:
        """Where the sets are from; they are read here if they are."""

    @abstractmethod
    def sets(self, seed: int) -> "Sets":
        """What is learnt from, chosen by and judged on."""

    @abstractmethod
    def judged(self, model: Any, order: Order | None, sets: "Sets") -> Judged:
        """The figures of a model that writes in that order, or in the one that it prefers."""

    def prepare(self) -> None:
        """Check that the options fit each other.

        Raises:
            ValueError: an order of no name.
        """
        super().prepare()
        self.order = self.order or self.baseline
        if self.order not in self.orders():
            raise ValueError(f"order: there is no {self.order!r}{suggest(self.order, self.orders())}")

    def rivals(self) -> Mapping[str, Term]:
        """Every order but the baseline's."""

        def lever(name: str) -> Any:
            return lambda strength: Levers(options={"order": name})

        others = {name: label for name, (label, _) in self.orders().items() if name != self.baseline}
        return {name: Term(label, lever(name), role=self.role_of(name)) for name, label in others.items()}

    def judged_in(self, *, searched: bool) -> Order | None:
        """The order in which the model of a run is judged and its weights are chosen; None for what it prefers."""
        return None if searched else self.orders()[self.order][1]

    def role_of(self, order: str) -> Any:
        """What an arm of that order is in tables."""
        return "context"

    # Data ---------------------------------------------------------------------------------------------------

    def build_data(self) -> Provenance:
        """See `credit`."""
        self._credit = self.credit()
        return self._credit

    # Training -----------------------------------------------------------------------------------------------

    def train(self, arm: str, seed: int, folder: Path, advance: Advance) -> Path:
        """Train the model of this arm, unless it is there."""
        levers = self.mixture(arm).levers()
        model = folder / "model"
        with one_at_a_time(model):
            if not (model / "README.md").exists():
                self.changed_by(levers)._fit(arm, levers, seed, model, advance)
        return model

    def _fit(self, arm: str, levers: Levers, seed: int, folder: Path, advance: Advance) -> None:
        import torch

        from kilter.lab.card import write_model_card
        from kilter.models.set_writer import SetWriter
        from kilter.tasks.set_likelihood import learning

        torch.manual_seed(seed)
        sets = self.sets(seed)
        model = SetWriter(sets.train.shape[1], sets.symbols, self.dim, dropout=self.dropout)
        search = None if levers.objective is None else levers.objective(model)
        how: Any = {name: getattr(self, name) for name in _TRAINED_WITH}
        how["judged_in"] = self.judged_in(searched=search is not None)
        work = folder.with_name("checkpoints")
        order = self.orders()[self.order][1]
        learning.train_writer(model, sets, order, search, work, seed=seed, advance=advance, **how)
        model.save(folder, order="searched" if search is not None else order, names=sets.names)
        write_model_card(folder, self, arm, self._credit, library="kilter")
        shutil.rmtree(work, ignore_errors=True)

    # Judging ------------------------------------------------------------------------------------------------

    def evaluate(self, arm: str, seed: int, model: Path) -> Judged:
        """How likely sets are that were not learnt from."""
        from kilter.models.set_writer import SetWriter

        levers = self.mixture(arm).levers()
        changed = self.changed_by(levers)
        order = changed.judged_in(searched=levers.objective is not None)
        return changed.judged(SetWriter.load(model, self.device), order, changed.sets(seed))

    def preferred(self, summary: Mapping[str, Any]) -> list[str]:
        """In words, which orders the models of searches prefer, of the first seed."""
        said = []
        for arm in summary["arms"]:
            if self.mixture(arm).levers().objective is None:
                continue
            rows = read_rows(sorted(((self.out or Path()) / "arms" / arm).glob("seed-*/utterances.jsonl"))[0])
            found = Counter(order for row in rows for order in map(tuple, row["orders"]))
            each = (
                f"{', '.join(str(place + 1) for place in order)} ({100 * count / found.total():.0f} %)"
                for order, count in found.most_common(_SAID)
            )
            said.append(f"Orders that {summary['arms'][arm]['label']} prefers, first seed: {'; '.join(each)}.")
        return said
