"""What the conformance suite needs to know of an objective: a `Case`, written in the objective's own test file.

The file `tests/<family>/test_<paper>.py` has a function `cases()` that returns a list of cases; nothing else is
edited for a new paper. Usually one line is enough:

    def cases() -> list[Case]:
        return [Case(lambda: FastEmit(weight=2.0))]

Inputs are then drawn by their glossary names (`DRAW` below). Batch and ragged axes are read off the shapes in the
signature (`Float[Tensor, "batch time vocab"]`), so no case spells them out.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

import kilter
from kilter.commands.new import families
from kilter.core import LossOutput, ModelObjective, Objective
from kilter.core.errors import missing

TESTS = Path(__file__).parents[1]
PACKAGES = {module.name for module in pkgutil.iter_modules(kilter.__path__) if module.ispkg}
FAMILIES = [family for family in families(TESTS.parent) if family in PACKAGES]

RAGGED = {"time": ("input_lengths", 0), "tokens": ("target_lengths", 0), "states": ("target_lengths", 1)}
"""Which lengths say how much of an axis is valid, and how many more than that."""

VOCABULARY = ["", "a", "b", "c", "d", " "]

DRAW: dict[str, Callable[[Generator], Any]] = {
    "log_probs": lambda g: torch.randn(4, 12, 6, generator=g, dtype=torch.float64).log_softmax(-1),
    "input_lengths": lambda g: torch.tensor([12, 7, 5, 9]),
    "targets": lambda g: torch.randint(1, 6, (4, 3), generator=g),
    "target_lengths": lambda g: torch.tensor([3, 2, 0, 1]),
    "references": lambda g: ["ab c", "cab", "b", "a d"],
    "views": lambda g: torch.randn(3, 4, 6, generator=g, dtype=torch.float64),
    "group": lambda g: torch.tensor([5, 3, 5, 8]),
    "centre": lambda g: torch.randn(4, 6, generator=g, dtype=torch.float64),
    "context": lambda g: torch.randn(4, 6, generator=g, dtype=torch.float64),
    "language": lambda g: torch.tensor([0, 1, 1, 0]),
    "anchor": lambda g: torch.randn(4, 6, generator=g, dtype=torch.float64),
    "positive": lambda g: torch.randn(4, 6, generator=g, dtype=torch.float64),
    "domain": lambda g: torch.tensor([0, 1, 1, 0]),
}
"""One input by name: four sequences, floats in float64."""

Fixed = tuple[Callable[..., "Tensor | LossOutput"], dict[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """One objective under test.

    Attributes:
        build: makes the objective.
        inputs: arguments of `forward` by name, drawn from a generator, floats in float64; None draws by `DRAW`.
        fixed: where chance or text stands in the way of comparing numbers: `(objective, inputs) -> (function,
            tensors)`, a function of tensors alone, its samples among them, annotated with shapes. What must not
            carry a gradient (samples, a teacher's values) enters as an input here. None takes the objective.
        skip: name of a check (see `checks.CHECKS`, or "compile", "processes") to the reason why it cannot apply.
        label: tells two cases of one class apart.
    """

    build: Callable[[], Objective]
    inputs: Callable[[Generator], dict[str, Any]] | None = None
    fixed: Callable[[Any, dict[str, Any]], Fixed] | None = None
    skip: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, [type(self.build()).__name__, self.label]))

    def drawn(self, seed: int = 0) -> dict[str, Any]:
        """Arguments of `forward`, without the generator."""
        generator = torch.Generator().manual_seed(seed)
        if self.inputs:
            return self.inputs(generator)
        return {name: DRAW[name](generator) for name in self.build().inputs if name != "generator"}

    def call(self, objective: Objective, seed: int = 0, **inputs: Any) -> LossOutput:
        """Call the objective, with a seeded generator if it takes one."""
        if "generator" in objective.inputs:
            inputs["generator"] = torch.Generator().manual_seed(seed)
        return objective(**inputs)

    def pure(self, objective: Objective | None = None) -> "Pure":
        """The function of tensors alone with its inputs."""
        objective = objective or self.build()
        inputs = self.drawn()
        function, tensors = self.fixed(objective, inputs) if self.fixed else (objective.forward, inputs)
        return Pure(function, tensors, shapes(function))


@dataclass(frozen=True)
class ModelCase:
    """One objective under test that is given the model, from `model_cases()` of its own test file.

    Attributes:
        build: makes the objective.
        model: makes the model, in eval mode and always the same.
        batch: what the model takes, labels among it, drawn from a generator.
        label: tells two cases of one class apart.
    """

    build: Callable[[], ModelObjective]
    model: Callable[[], nn.Module]
    batch: Callable[[Generator], dict[str, Any]]
    label: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, [type(self.build()).__name__, self.label]))

    def drawn(self, seed: int = 0) -> dict[str, Any]:
        """Arguments of `forward`."""
        return {"model": self.model(), **self.batch(torch.Generator().manual_seed(seed))}

    def call(self, objective: ModelObjective, **inputs: Any) -> LossOutput:
        """Call the objective."""
        return objective(**inputs)


@dataclass
class Pure:
    """A scalar function of tensors, their values, and the names of their axes."""

    function: Callable[..., Any]
    tensors: dict[str, Any]
    axes: dict[str, list[str]]

    def loss(self, tensors: dict[str, Any] | None = None) -> Tensor:
        """The scalar."""
        out = self.function(**(self.tensors if tensors is None else tensors))
        return out.loss if isinstance(out, LossOutput) else out

    def gradient(self, tensors: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar and its gradient for every float tensor (zeros where it does not depend on one)."""
        leaves = {
            name: value.detach().clone(memory_format=torch.preserve_format).requires_grad_()
            if is_float(value)
            else value
            for name, value in (self.tensors if tensors is None else tensors).items()
        }
        loss = self.loss(leaves)
        floats = {name: leaf for name, leaf in leaves.items() if is_float(leaf)}
        found = torch.autograd.grad(loss, list(floats.values()), allow_unused=True, materialize_grads=True)
        return loss.detach(), dict(zip(floats, found, strict=True))

    def map(self, change: Callable[[str, Any], Any]) -> dict[str, Any]:
        """The inputs, each changed by `change(name, value)`."""
        return {name: change(name, value) for name, value in self.tensors.items()}

    def batch(self, pick: list[int]) -> dict[str, Any]:
        """The inputs of some of the sequences, in the order of `pick`."""
        return self.map(lambda name, value: pick_batch(value, self.axes[name], pick))

    def padding(self, name: str) -> Tensor | None:
        """True where an input is beyond its sequence; None if it is not ragged."""
        value, axes = self.tensors[name], self.axes[name]
        if not isinstance(value, Tensor):
            return None
        beyond = torch.zeros(value.shape, dtype=torch.bool)
        for axis, (lengths, more) in RAGGED.items():
            if axis in axes and lengths in self.tensors:
                size = [1] * value.ndim
                size[axes.index(axis)] = -1
                position = torch.arange(value.shape[axes.index(axis)]).view(size)
                size = [1] * value.ndim
                size[axes.index("batch")] = -1
                beyond |= position >= (self.tensors[lengths] + more).view(size)
        return beyond if beyond.any() else None


def is_float(value: Any) -> bool:
    """Whether a value is a floating point tensor."""
    return isinstance(value, Tensor) and value.is_floating_point()


def pick_batch(value: Any, axes: list[str], pick: list[int]) -> Any:
    """Some of the sequences of one input."""
    if isinstance(value, Tensor):
        return value.index_select(axes.index("batch"), torch.tensor(pick)) if "batch" in axes else value
    return [value[i] for i in pick] if isinstance(value, list) else value


def shapes(function: Callable[..., Any]) -> dict[str, list[str]]:
    """Names of the axes of each argument, from its annotation (empty for what is not a tensor)."""
    parameters = inspect.signature(function).parameters
    return {name: getattr(p.annotation, "dim_str", "").split() for name, p in parameters.items()}


def public_objectives(kind: Any = Objective) -> dict[str, Any]:
    """Every concrete public objective of a kind defined in a family, by `family.Name`."""
    found = {}
    for family in FAMILIES:
        package = importlib.import_module(f"kilter.{family}")
        for module in pkgutil.walk_packages(package.__path__, f"kilter.{family}."):
            found |= {
                f"{family}.{name}": thing
                for name, thing in vars(importlib.import_module(module.name)).items()
                if inspect.isclass(thing) and issubclass(thing, kind) and thing.__module__ == module.name
                if not name.startswith("_") and not inspect.isabstract(thing)
            }
    return found


@cache
def all_cases() -> list[Case]:
    """The cases of every test file that has a function `cases`."""
    return list(_cases())


@cache
def all_model_cases() -> list[ModelCase]:
    """The cases of every test file that has a function `model_cases`."""
    return [case for path in case_files("model_cases") for case in read_cases(path, "model_cases")]


def case_files(function: str = "cases") -> list[Path]:
    """The test files that have a function `cases`, or another of that kind."""
    found = sorted(TESTS.glob("*/test_*.py"))
    return [path for path in found if f"\ndef {function}()" in path.read_text(encoding="utf-8")]


def read_cases(path: Path, function: str = "cases") -> list[Any]:
    """The cases of one test file."""
    return getattr(importlib.import_module(f"tests.{path.parent.name}.{path.stem}"), function)()


def _cases() -> Iterator[Case]:
    for path in case_files():
        with suppress(ModuleNotFoundError):  # `test_the_cases_of_every_file_can_be_had` says which, and why
            yield from read_cases(path)


def cannot_run(error: ModuleNotFoundError) -> str:
    """Why something is not run: a library that it needs is not installed. An error of our own is raised again."""
    if (error.name or "kilter").partition(".")[0] in ("kilter", "tests"):
        raise error
    return missing(error)
