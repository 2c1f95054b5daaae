"""sentence-transformers: an objective on vectors of texts as the loss of its stock trainer.

The trainer takes any module that holds the model and is called with tokenised columns and labels; that is the seam.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kilter.core.errors import extra
from kilter.core.glossary import INPUTS
from kilter.core.objective import Objective, check_objective
from kilter.core.paper import cards
from kilter.hosts.wrapped import unwrapped

TESTED = ">=5.2.3,<6.3"

_COLUMN = "kilter_column"
"""Under which key a tokenised column carries its name."""


def as_st_loss(objective: Objective, model: nn.Module) -> "STLoss":
    r"""Make an objective the loss of a `SentenceTransformerTrainer`.

    Every text column becomes a matrix of vectors `(batch, dim)`, and the objective is given by name what its
    `forward` asks for (see `kilter.core.glossary`). The trainer tells columns by their order, which must then be that
    of `forward`, with integers in a column `label`; or let `by_name` sort them out:

        loss = as_st_loss(RankGenLoss(), model)
        trainer = SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss)
        trainer.data_collator = loss.by_name(trainer.data_collator)

    Parts are logged under their names. Of several processes each computes the loss of its own batch, and gradients
    are averaged, as with the library's own losses.

    Args:
        objective: e.g. `RankGenLoss()`; without learnable parameters, since the trainer would neither share them
            between processes nor save them.
        model: a `SentenceTransformer`.

    Returns:
        A module that holds both.

    Raises:
        TypeError: no objective or no SentenceTransformer; an objective that asks for other things than vectors and
            one integer per row.
        ValueError: an objective with parameters.
        ModuleNotFoundError: sentence-transformers is missing.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> from kilter.decoding import RankGenLoss
        >>> model = SentenceTransformer(modules=[nn.Identity()], device="cpu")  # yours
        >>> as_st_loss(RankGenLoss(), model).vectors
        ('prefix', 'continuation', 'generated')
    """
    library = extra("sentence_transformers", "generation")
    check_objective(objective)
    if not isinstance(unwrapped(model), library.SentenceTransformer):
        raise TypeError(f"model must be a SentenceTransformer, got {type(model).__name__}")
    if any(True for _ in objective.parameters()):
        raise ValueError(
            f"{type(objective).__name__} has parameters; the trainer would neither share them between processes nor "
            "save them: put them into a module of the model"
        )
    return STLoss(objective, model)


class STLoss(nn.Module):
    """What `as_st_loss` returns: model and objective in one module.

    Attributes:
        model: the SentenceTransformer; the trainer puts its wrapped form here.
        objective: what is trained for.
        vectors: names of the text columns, in the order of the objective's `forward`.
        label: name of the integer column, if the objective asks for one.
        stats: the objective's statistics of the last batch, detached.
    """

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        parameters = inspect.signature(objective.forward).parameters
        self.required = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
        self.vectors = tuple(name for name in parameters if INPUTS.get(name, "").startswith("Float (batch, dim)"))
        labels = [name for name in parameters if INPUTS.get(name, "").startswith("Int (batch,)")]
        self.label = labels[0] if labels else None
        strange = self.required - {*self.vectors, *labels[:1]}
        if strange or not self.vectors:
            names = ", ".join(sorted(strange or parameters))
            raise TypeError(
                f"{type(objective).__name__} asks for {names}; sentence-transformers has vectors of texts, one matrix "
                "for each column, and one integer per row"
            )
        self.stats: Mapping[str, Tensor] = {}

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts, which the trainer sums and logs."""
        columns = [dict(features) for features in sentence_features]
        names = [features.pop(_COLUMN, None) for features in columns]
        if None in names:
            names = [*self.vectors[: len(columns)]]
        self._check(names, len(columns), labels is not None)
        given = {
            name: self.model(features)["sentence_embedding"] for name, features in zip(names, columns, strict=True)
        }
        if labels is not None and self.label is not None:
            given[self.label] = labels.long().flatten()
        out = self.objective(**given)
        self.stats = out.stats
        return dict(out.parts)

    def _check(self, names: Sequence[str], columns: int, labelled: bool) -> None:
        missing = self.required - {*names} - ({self.label} if labelled else set())
        if len(names) != columns or missing:
            what = f"no {', '.join(sorted(missing))}" if missing else f"{columns} text columns"
            raise ValueError(
                f"the data has {what}; {type(self.objective).__name__} takes text columns "
                f"{', '.join(self.vectors)}" + (f", and integers {self.label} (in a column label)" * bool(self.label))
            )

    def by_name(self, collator: Any) -> "ByName":
        """The trainer's collator, given the objective's columns by name: in any order, others left out."""
        return ByName(collator, self.vectors, self.label, self.required)

    def get_config_dict(self) -> dict[str, Any]:
        """For the model card that is saved with the model."""
        return {"objective": repr(self.objective)}

    @property
    def citation(self) -> str:
        """The paper of the objective, for the model card."""
        name = type(self.objective).__name__
        return "\n".join(card.bibtex() for card in cards().values() if name in card.names)


class ByName:
    """A collator that picks an objective's columns by name, says which is which, and leaves the rest to the host's."""

    def __init__(self, collator: Any, vectors: Sequence[str], label: str | None, required: Iterable[str]) -> None:
        self.collator = collator
        self.vectors = tuple(vectors)
        self.label = label
        self.required = frozenset(required)

    @property
    def valid_label_columns(self) -> list[str]:
        """What the host's batch samplers ask for."""
        return ["label"] if self.label is None else [self.label]

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Tokenise; each column carries its name."""
        there = rows[0].keys() if rows else ()
        if missing := self.required - set(there):
            raise ValueError(
                f"the data lacks the columns {', '.join(sorted(missing))}; it has {', '.join(there)}: rename them"
            )
        texts = [name for name in self.vectors if name in there]
        kept = {name: name for name in ("dataset_name", *texts) if name in there}
        if self.label is not None and self.label in there:
            kept[self.label] = "label"
        batch = self.collator([{new: row[old] for old, new in kept.items()} for row in rows])
        return batch | {f"{name}_{_COLUMN}": name for name in texts}
