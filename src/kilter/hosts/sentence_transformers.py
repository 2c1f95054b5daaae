"""sentence-transformers: an objective on vectors of texts as the loss of its stock trainer.

The trainer takes any module that holds the model and is called with tokenised columns and labels; that is the seam.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from kilter import dist
from kilter.core.errors import extra
from kilter.core.installed import hint
from kilter.core.objective import Objective, check_objective
from kilter.core.options import whole
from kilter.core.paper import cards
from kilter.hosts.st_columns import ByName, Columns, check_labels
from kilter.hosts.st_state import Means, keep_in_step, load_objective, save_objective
from kilter.hosts.wrapped import unwrapped

TESTED = ">=5.2.3,<6.3"


def as_st_loss(
    objective: Objective,
    model: nn.Module,
    *,
    labels: str | tuple[str, ...] | None = None,
    mini_batch_size: int | None = None,
) -> "STLoss":
    r"""Make an objective the loss of a `SentenceTransformerTrainer`.

    Every text column becomes a matrix of vectors `(batch, dim)`, and the objective is given by name what its
    `forward` asks for (see `kilter.core.glossary`). The trainer tells columns by their order, which must then be that
    of `forward`, with numbers in a column `label`; or let `by_name` sort them out:

        loss = as_st_loss(RankGenLoss(), model)
        trainer = SentenceTransformerTrainer(model, args, train_dataset=pairs, loss=loss)
        trainer.data_collator = loss.by_name(trainer.data_collator)

    The objective sees vectors as they are before a `Normalize` at the model's end, which itself stays as it is. An
    argument `views` is given all text columns, stacked, in one pass through the model where they look alike.

    Parts are logged under their names, statistics as `stats/…`, means over the batches since the last log. Of several
    processes each computes the loss of its own batch, and gradients are averaged, as with the library's own losses.

    What the objective learns or remembers (a head, a bank, running statistics) is optimised with the model, the same in
    all processes, and saved in each checkpoint beside it (`objective.safetensors`); a resumed run ends as one that was
    not stopped. It is no part of the saved model: `loss.save_objective(folder)` writes it where it is wanted.

    Args:
        objective: e.g. `RankGenLoss()`.
        model: a `SentenceTransformer`.
        labels: the argument of `forward` that the label column feeds; by default those that are numbers of each row. Of
            several names, the column holds a list in each row, split in that order, of which an argument that has
            several numbers of a row (a teacher's logits) takes what the others leave; the text columns feed the other
            arguments.
        mini_batch_size: GradCache: rows that go through the model at once, while the loss is that of the whole batch;
            the memory of a small batch for a fifth to a third more time. Needs a sentence-transformers that has it.

    Returns:
        A module that holds both.

    Raises:
        TypeError: no objective or no SentenceTransformer; an objective that asks for other things than vectors and
            numbers of each row.
        ValueError: `labels` names what the objective does not take.
        ModuleNotFoundError: sentence-transformers is missing, or too old for `mini_batch_size`.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> from kilter.decoding import RankGenLoss
        >>> model = SentenceTransformer(modules=[nn.Identity()], device="cpu")  # yours
        >>> as_st_loss(RankGenLoss(), model).vectors
        ('prefix', 'continuation', 'generated')
    """
    library = extra("sentence_transformers")
    check_objective(objective)
    if not isinstance(unwrapped(model), library.SentenceTransformer):
        raise TypeError(f"model must be a SentenceTransformer, got {type(model).__name__}")
    if mini_batch_size is not None:
        whole("mini_batch_size", mini_batch_size, low=1)
        _check_mini_batches(unwrapped(model), library.__version__)
    return STLoss(objective, model, labels=labels, mini_batch_size=mini_batch_size)


def _check_mini_batches(model: nn.Module, version: str) -> None:
    try:
        from sentence_transformers.base.losses import has_static_embedding_input
    except ImportError as error:
        text = f"mini_batch_size needs a newer sentence-transformers than {version}: {hint('embeddings')} brings it"
        raise ModuleNotFoundError(text, name=error.name) from error
    if has_static_embedding_input(model):
        raise ValueError("mini_batch_size: a model that begins with a StaticEmbedding has no rows to divide")


class STLoss(nn.Module):
    """What `as_st_loss` returns: model and objective in one module.

    Attributes:
        model: the SentenceTransformer; the trainer puts its wrapped form here.
        objective: what is trained for.
        vectors: names of the arguments that text columns feed, in the order of the objective's `forward`.
        labels: names of the arguments that the label column feeds.
        stats: the objective's statistics of the last batch, detached.
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        *,
        labels: str | tuple[str, ...] | None = None,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.columns = Columns(objective, labels)
        self.model = model
        self.objective = objective
        self.vectors = self.columns.vectors
        self.labels = self.columns.labels
        self.mini_batch_size = mini_batch_size
        self.stats: Mapping[str, Tensor] = {}
        self.raw = Raw(unwrapped(model))
        self._means = Means()
        self._is_kept = False
        keep_in_step(objective)

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts, which the trainer sums and logs."""
        if not self._is_kept:
            self._find_trainer()
        columns = [dict(features) for features in sentence_features]
        names = self.columns.names(columns, labels is not None)
        if self.mini_batch_size is not None:
            from kilter.hosts.st_mini_batches import in_mini_batches

            return in_mini_batches(self, columns, lambda vectors: self._parts(names, vectors, labels))
        with self.raw.on(unwrapped(self.model)):
            vectors = self._embed(columns)
        return self._parts(names, vectors, labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> dict[str, Tensor]:
        """The weighted parts, for losses of the library's kind that embed the columns themselves."""
        names = self.columns.names([{} for _ in embeddings], labels is not None)
        return self._parts(names, embeddings, labels)

    def _embed(self, columns: list[dict[str, Any]]) -> list[Tensor]:
        """The vectors of each column; views are of one length, so one pass is enough for them."""
        if self.columns.stacked and (embed_columns := _together()):
            return embed_columns(self.model, columns, separate_first=False)
        return [self.model(features)["sentence_embedding"] for features in columns]

    def _parts(self, names: list[str], vectors: list[Tensor], labels: Tensor | None) -> dict[str, Tensor]:
        training = unwrapped(self.model).training
        self.objective.train(training)  # the trainer tells the model only
        if training:
            dist.as_first(self.objective.buffers())  # as DistributedDataParallel does with the model's
        out = self.objective(**self.columns.arguments(names, vectors, labels))
        self.stats = out.stats
        self._means.add(out.stats, training=training)
        return dict(out.parts)

    def keep_with(self, trainer: Any) -> None:
        """Save and take up the objective with a trainer's checkpoints, and log its statistics.

        Stock trainers are found by themselves, when they are made; so this is for what calls the loss in other ways.
        """
        from kilter.hosts.st_trainer import Kept

        self._is_kept = True
        names = getattr(getattr(trainer, "data_collator", None), "valid_label_columns", ("label",))
        check_labels(trainer.train_dataset, names)
        Kept.of(trainer).add(self.objective, self._means)

    def _apply(self, fn: Callable[..., Any], *more: Any, **named: Any) -> "STLoss":
        """Move to a device, which is the first that a trainer does with its loss."""
        self._find_trainer()
        return super()._apply(fn, *more, **named)

    def _find_trainer(self) -> None:
        from kilter.hosts.st_trainer import trainer_above

        if trainer := trainer_above():
            self.keep_with(trainer)

    def save_objective(self, folder: str | PathLike[str]) -> None:
        """Write what the objective has learnt and remembers: `objective.safetensors` and `objective.json`."""
        save_objective(self.objective, Path(folder))

    def load_objective(self, folder: str | PathLike[str]) -> None:
        """Take up what `save_objective`, or a checkpoint, wrote.

        Raises:
            FileNotFoundError: there is nothing.
            ValueError: it belongs to another objective, or to one with other sizes.
        """
        load_objective(self.objective, Path(folder))

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
        self._layers: WeakSet[nn.Module] = WeakSet()
        self._hook(model)

    def _hook(self, model: nn.Module) -> None:
        for layer in _last_ones(model):
            if layer not in self._layers:
                layer.register_forward_pre_hook(self._keep)
                layer.register_forward_hook(self._put_back)
                self._layers.add(layer)

    @contextmanager
    def on(self, model: nn.Module) -> Iterator[None]:
        """For the objective; `encode` and evaluators outside see what the model gives."""
        self._hook(model)  # a search for hyper-parameters makes new models
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


def _last_ones(model: nn.Module) -> list[nn.Module]:
    """The `Normalize` layers that a model ends in; of each way through a `Router`."""
    layers = [*model.children()]
    if layers and isinstance(ways := getattr(layers[-1], "sub_modules", None), nn.ModuleDict):
        return [found for way in ways.values() for found in _last_ones(way)]
    is_one = [type(layer).__name__ == "Normalize" for layer in reversed(layers)]
    return layers[len(layers) - [*is_one, False].index(False) :]
