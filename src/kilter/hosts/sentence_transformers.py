"""sentence-transformers: an objective on vectors of texts as the loss of its stock trainer.

The trainer takes any module that holds the model and is called with tokenised columns and labels; that is the seam.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from kilter.core.errors import extra
from kilter.core.objective import Objective, check_objective
from kilter.core.paper import cards
from kilter.hosts.st_columns import ByName, Columns
from kilter.hosts.wrapped import unwrapped

TESTED = ">=5.2.3,<6.3"


def as_st_loss(objective: Objective, model: nn.Module, *, labels: str | tuple[str, ...] | None = None) -> "STLoss":
    r"""Make an objective the loss of a `SentenceTransformerTrainer`.

    Every text column becomes a matrix of vectors `(batch, dim)`, and the objective is given by name what its
    `forward` asks for (see `kilter.core.glossary`). The trainer tells columns by their order, which must then be that
    of `forward`, with numbers in a column `label`; or let `by_name` sort them out:

        loss = as_st_loss(RankGenLoss(), model)
        trainer = SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss)
        trainer.data_collator = loss.by_name(trainer.data_collator)

    The objective sees vectors as they are before a `Normalize` at the model's end, which itself stays as it is. An
    argument `views` is given all text columns, stacked, in one pass through the model where they look alike.

    Parts are logged under their names. Of several processes each computes the loss of its own batch, and gradients
    are averaged, as with the library's own losses.

    Args:
        objective: e.g. `RankGenLoss()`.
        model: a `SentenceTransformer`.
        labels: the argument of `forward` that the label column feeds; by default the one that is an integer per row. Of
            several names, the column holds a list in each row, split in that order; the text columns feed the other
            arguments.

    Returns:
        A module that holds both.

    Raises:
        TypeError: no objective or no SentenceTransformer; an objective that asks for other things than vectors and
            numbers of each row.
        ValueError: `labels` names what the objective does not take.
        ModuleNotFoundError: sentence-transformers is missing.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> from kilter.decoding import RankGenLoss
        >>> model = SentenceTransformer(modules=[nn.Identity()], device="cpu")  # yours
        >>> as_st_loss(RankGenLoss(), model).vectors
        ('prefix', 'continuation', 'generated')
    """
    library = extra("sentence_transformers", "embeddings")
    check_objective(objective)
    if not isinstance(unwrapped(model), library.SentenceTransformer):
        raise TypeError(f"model must be a SentenceTransformer, got {type(model).__name__}")
    return STLoss(objective, model, labels=labels)


class STLoss(nn.Module):
    """What `as_st_loss` returns: model and objective in one module.

    Attributes:
        model: the SentenceTransformer; the trainer puts its wrapped form here.
        objective: what is trained for.
        vectors: names of the arguments that text columns feed, in the order of the objective's `forward`.
        labels: names of the arguments that the label column feeds.
        stats: the objective's statistics of the last batch, detached.
    """

    def __init__(self, objective: Objective, model: nn.Module, *, labels: str | tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.columns = Columns(objective, labels)
        self.model = model
        self.objective = objective
        self.vectors = self.columns.vectors
        self.labels = self.columns.labels
        self.stats: Mapping[str, Tensor] = {}
        self._raw = Raw(unwrapped(model))

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts, which the trainer sums and logs."""
        columns = [dict(features) for features in sentence_features]
        names = self.columns.names(columns, labels is not None)
        with self._raw.on():
            vectors = self._embed(columns)
        self.objective.train(unwrapped(self.model).training)  # the trainer tells the model only
        out = self.objective(**self.columns.arguments(names, vectors, labels))
        self.stats = out.stats
        return dict(out.parts)

    def _embed(self, columns: list[dict[str, Any]]) -> list[Tensor]:
        """The vectors of each column; views are of one length, so one pass is enough for them."""
        if self.columns.stacked and (embed_columns := _together()):
            return embed_columns(self.model, columns, separate_first=False)
        return [self.model(features)["sentence_embedding"] for features in columns]

    def by_name(self, collator: Any) -> ByName:
        """The trainer's collator, given the objective's columns by name: in any order, others left out."""
        return ByName(collator, self.columns)

    def get_config_dict(self) -> dict[str, Any]:
        """For the model card that is saved with the model."""
        return {"objective": repr(self.objective)}

    @property
    def citation(self) -> str:
        """The paper of the objective, for the model card."""
        name = type(self.objective).__name__
        return "\n".join(card.bibtex() for card in cards().values() if name in card.names)


def _together() -> Any:
    """How the library embeds columns that look alike in one pass; None before 6.1, which knew no such thing."""
    try:
        from sentence_transformers.base.losses.merged_forward import embed_columns
    except ImportError:
        return None
    return embed_columns


class Raw:
    """Vectors as they are before the `Normalize` at a model's end, while it is on.

    By hooks on that layer, so that whatever is wrapped around the model is run as always: processes are kept in step,
    what is compiled stays so.
    """

    _KEY = "kilter_raw"

    def __init__(self, model: nn.Module) -> None:
        self._is_on = False
        for layer in _first_of_last(model):
            layer.register_forward_pre_hook(self._keep)
            layer.register_forward_hook(self._put_back)

    @contextmanager
    def on(self) -> Iterator[None]:
        """For the objective; `encode` and evaluators outside see what the model gives."""
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def _keep(self, layer: nn.Module, inputs: Any) -> Any:
        features = inputs[0]
        if self._is_on:
            return ({**features, self._KEY: features["sentence_embedding"]}, *inputs[1:])
        return None

    def _put_back(self, layer: nn.Module, inputs: Any, output: Any) -> Any:
        if not self._is_on:
            return None
        return {name: value for name, value in output.items() if name != self._KEY} | {
            "sentence_embedding": output[self._KEY]
        }


def _first_of_last(model: nn.Module) -> list[nn.Module]:
    """The first of the `Normalize` layers in a row that a model ends in; one for each way through a `Router`."""
    layers = [*model.children()]
    if layers and isinstance(ways := getattr(layers[-1], "sub_modules", None), nn.ModuleDict):
        return [found for way in ways.values() for found in _first_of_last(way)]
    last = []
    while layers and type(layers[-1]).__name__ == "Normalize":
        last = [layers.pop()]
    return last
