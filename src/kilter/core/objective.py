"""The one contract worth having: named tensors in, `LossOutput` out.

An objective never sees a model, a batch dict or a tokenizer, so it fits any training loop; the names of its
`forward` arguments (see `kilter.core.glossary`) are the declaration a host reads to know what to pass.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from kilter.core.configured import Configured
from kilter.core.property import is_property, property_name


@dataclass(frozen=True)
class LossOutput:
    """What an objective returns.

    Attributes:
        loss: the scalar to differentiate.
        parts: the weighted terms by name; they sum to `loss`.
        stats: detached diagnostics by name; never summed, never differentiated.

    Example:
        >>> import torch
        >>> ctc = torch.tensor(2.0)
        >>> LossOutput(ctc, parts={"ctc": ctc}).parts
        {'ctc': tensor(2.)}
    """

    loss: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)
    stats: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)


class Objective(Configured, ABC):
    """Base of every training objective; subclasses are final.

    A subclass stores its options under the names of its constructor's arguments, which is all that `config()`
    and the printed form need, and draws whatever is random from the `generator` its `forward` is given.
    """

    inputs: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments of `forward`, read off its signature."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.inputs = tuple(inspect.signature(cls.forward).parameters)[1:]

    @abstractmethod
    def forward(self, *args: Any, **kwargs: Any) -> LossOutput:
        """Compute the objective from tensors given by their glossary names."""


class ModelObjective(Configured, ABC):
    """Base of an objective that must call the model again, or see its states: it is given the model and a batch.

    Its parts hold the model's own loss too, so `objective(model, **batch).loss` is all that is differentiated. Options
    are stored as an `Objective` stores them; what makes the pass is the objective, so it names its own arguments.
    """

    @abstractmethod
    def forward(self, model: nn.Module, **batch: Any) -> LossOutput:
        """Compute the objective, the model's own loss included."""


def check_objective(objective: Any) -> None:
    """Refuse what is no objective, and say where it belongs.

    Raises:
        TypeError: a property, which an objective takes; a class of objectives instead of one; one that needs the
            model, which only a host of encoder-decoders has to give; anything else.
    """
    if isinstance(objective, Objective):
        return
    name = property_name(objective)
    if is_property(objective):
        got = f"the property {name}; give an objective that has it, AlignWithPurpose(property)"
    elif isinstance(objective, ModelObjective):
        got = f"{name}, which needs the model: use align_seq2seq(model, objective)"
    elif isinstance(objective, type) and issubclass(objective, (Objective, ModelObjective)):
        got = f"the class {name}; give one made from it, {name}(…)"
    else:
        got = type(objective).__name__
    raise TypeError(f"objective must be a kilter Objective, got {got}")
