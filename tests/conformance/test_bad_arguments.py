"""Whatever is wrong with an argument, the error names it: every public function, objective, property and decoder.

They are found by themselves in the families' `__all__`. Good arguments are drawn by name: `DRAW` of `case.py`, `DRAWN`
below for what no objective takes, and for what only one paper takes `ARGUMENTS` of its own test file,

    ARGUMENTS = {"whitened": lambda: torch.eye(4)}

Batches hold four. Wrong arguments are made from the axes in the signatures and from the options.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from torch import Generator, Tensor

from kilter.core import LossOutput, Objective
from kilter.decoding import penalties
from kilter.ops.ctc_sum import ctc_sum
from kilter.speech import LowLatency, transducer_lattice
from tests.conformance.case import DRAW, FAMILIES, TESTS, VOCABULARY

DRAWN: dict[str, Callable[[], Any]] = {
    "log_probs": lambda: torch.randn(4, 12, 6, generator=Generator().manual_seed(0)).log_softmax(-1),
    "log_probs states": lambda: torch.randn(4, 12, 4, 6, generator=Generator().manual_seed(0)).log_softmax(-1),
    "teacher": lambda: torch.full((4, 12, 6), 1 / 6).log(),
    "scores": lambda: torch.full((4, 12, 6), 1 / 6).log(),
    "alignments": lambda: torch.arange(12).remainder(6).repeat(3, 4, 1),
    "edited": lambda: torch.zeros(3, 4, 12).long(),
    "alignments tokens": lambda: torch.ones(3, 4, 3).long(),
    "edited tokens": lambda: torch.zeros(3, 4, 3).long(),
    "lattice": lambda: transducer_lattice(
        DRAWN["log_probs states"](), *(good(name) for name in ("input_lengths", "targets", "target_lengths"))
    ),
    "lengths": lambda: torch.tensor([30, 20, 9, 5]),
    "hypotheses": lambda: torch.tensor([[[1, 2, 3], [2, 1, 0]]] * 4),
    "hypothesis_lengths": lambda: torch.tensor([[3, 2]] * 4),
    "word_errors": lambda: torch.tensor([[1.0, 0.0]] * 4),
    **{name: lambda: torch.eye(4) for name in ("prefix", "continuation", "generated")},
    "document": lambda: torch.tensor([0, 1, 1, 0]),
    "chosen": lambda: torch.tensor([[2, 2], [1, 0], [3, 4], [1, 1]]),
    "history": lambda: torch.ones(4, 2, 3).long(),
    "prefix steps": lambda: torch.ones(4, 5, 3).long(),
    "vectors": lambda: torch.eye(6),
    "vocabulary": lambda: VOCABULARY,
    "vocab_size": lambda: 6,
    "property": LowLatency,
    "rows": lambda: [{"audio": list(range(40))}],
    "audio": lambda: torch.ones(5),
    "scorer": lambda: "log_prob",
    "blank": lambda: 0,
    **{name: lambda: 0.5 for name in ("weight", "risk", "penalty", "rank_penalty")},
}
AXES = {"chosen": "batch beams", "history": "batch beams steps", "prefix": "batch width steps", "vectors": "vocab dim"}
"""Axes of what the penalties of decoding take, whose signatures have none."""

for path in sorted(TESTS.glob("*/test_*.py")):
    if "\nARGUMENTS = {" in path.read_text(encoding="utf-8"):
        DRAWN |= importlib.import_module(f"tests.{path.parent.name}.{path.stem}").ARGUMENTS

NOT_HERE = {
    *("RankGenScorer", "Hypothesis", "add_experts", "merge_experts", "PairSearch", "attach", "detach"),
    *("FiniteSolution", "FixedPoint"),
}
"""Take a model, see tests/decoding/test_rankgen_scorer.py, tests/embeddings/test_experts.py and test_pair_search.py,
tests/hosts/test_positions.py; or is a result."""

SINGULAR = {"targets": "targets?", "hypotheses": "hypothes[ei]s"}
"""How a message may name one of them."""

UNBOUNDED = {"seed", "offset", "ignore_index"}
"""Options that any number will do for."""


def good(name: str, axes: str = "") -> Any:
    """A good argument by its name, and by an axis where a name comes in two shapes."""
    by_axis = [f"{name} {axis}" for axis in axes.split() if f"{name} {axis}" in DRAWN]
    return DRAWN[(by_axis or [name])[0]]() if by_axis or name in DRAWN else DRAW[name](Generator().manual_seed(0))


def axes_of(annotation: Any) -> str:
    """Axes of a tensor by its annotation, which may allow None too."""
    found = [getattr(kind, "dim_str", "") for kind in (annotation, *get_args(annotation))]
    return next(filter(None, found), "").strip()


@dataclass
class Target:
    """Something to call with named arguments: good ones, and the axes of those that are tensors."""

    label: str
    call: Callable[..., Any]
    parameters: dict[str, inspect.Parameter]
    axes: dict[str, str]

    def unknown(self) -> list[str]:
        """Arguments that nobody draws."""
        needed = [name for name, one in self.parameters.items() if one.default is one.empty or name in self.axes]
        drawn = {*DRAWN, *DRAW, *(name.partition(" ")[0] for name in DRAWN)}
        return [name for name in needed if name not in drawn]

    def arguments(self) -> dict[str, Any]:
        return {
            name: good(name, self.axes.get(name, AXES.get(name, "")))
            if name in self.axes or one.default is one.empty
            else one.default
            for name, one in self.parameters.items()
            if name not in ("generator", "references", "tokenizer", "fuse")
        } | ({"references": good("references")} if "references" in self.parameters else {})


def target(label: str, thing: Any, axes: dict[str, str] | None = None) -> Target:
    """A function, or a class whose object is called with tensors right away."""
    makes = dict(inspect.signature(thing).parameters)
    takes: dict[str, inspect.Parameter] = {}
    if inspect.isclass(thing):
        method = thing.forward if issubclass(thing, Objective) else vars(thing).get("__call__")
        found = dict(inspect.signature(method).parameters) if method else {}
        takes = found if any(axes_of(one.annotation) for one in found.values()) else {}
        takes.pop("self", None)
    parameters = makes | takes

    def call(**given: Any) -> Any:
        made = thing(**{name: value for name, value in given.items() if name in makes and name not in takes})
        return made(**{name: value for name, value in given.items() if name in takes}) if takes else made

    read = {name: axes_of(one.annotation) for name, one in parameters.items()}
    known = {name: one for name, one in read.items() if one} if axes is None else axes
    return Target(label, call, parameters, {name: one for name, one in known.items() if name in parameters})


def targets() -> Iterator[Target]:
    for family in FAMILIES:
        package = importlib.import_module(f"kilter.{family}")
        for name in package.__all__:
            thing = getattr(package, name)
            if name not in NOT_HERE and (inspect.isclass(thing) or inspect.isfunction(thing)):
                yield target(f"{family}.{name}", thing)
    yield target("ops.ctc_sum", ctc_sum)
    for name in ("hamming", "cumulative", "overlap", "ngram", "embedding"):
        takes = ("chosen", "vectors") if name in ("hamming", "embedding") else AXES  # and do not look at the rest
        yield target(f"penalties.{name}", getattr(penalties, name), {argument: AXES[argument] for argument in takes})


FOUND = list(targets())
TARGETS = {one.label: one for one in FOUND if not one.unknown()}


def test_every_argument_can_be_drawn() -> None:
    unknown = {one.label: one.unknown() for one in FOUND if one.unknown()}
    assert not unknown, "say in ARGUMENTS of the method's own test file what a good one is"


def wrong_tensors(one: Target, name: str) -> Iterator[tuple[str, Any]]:
    """What may be wrong with a tensor."""
    value, axes = good(name, one.axes[name]), one.axes[name].split()
    yield "no tensor", "a text"
    yield "dtype", value.long() if value.is_floating_point() else value.float()
    if value.dtype == torch.bool:
        yield "nothing", torch.zeros_like(value)
    elif not value.is_floating_point():
        yield "booleans", value.bool()
    rows = [other for other, its in one.axes.items() if other != name and "batch" in its.split()]
    if not {"...", "*lead"} & set(axes):
        yield "an axis too many", value[None]
        if value.ndim > 1 or rows:
            yield "an axis too few", value[0]
        if rows and "batch" in axes:
            at = axes.index("batch")
            yield "a row too many", torch.cat([value, value.narrow(at, 0, 1)], at)
    if value.is_floating_point():
        yield "NaN", torch.full_like(value, torch.nan)
        yield "infinity", torch.full_like(value, torch.inf)
    elif value.dtype != torch.bool and name not in ("document", "group"):  # whose numbers say nothing
        yield "negative", torch.full_like(value, -2)
        yield "too large", torch.full_like(value, 99)


BAD = [
    pytest.param(label, name, how, value, id=f"{label}-{name}-{how}")
    for label, one in TARGETS.items()
    for name in one.axes
    for how, value in wrong_tensors(one, name)
]
_ANY = ("negative", "too large")
FINE = {
    # nothing there to compare with
    *((f"speech.{name}", "lengths", "too large") for name in ("trim_tail", "TrimTail")),
    ("speech.low_latency", "alignments", "negative"),
    ("speech.low_latency", "alignments", "too large"),
    ("speech.LowLatency", "alignments", "negative"),
    ("speech.LowLatency", "alignments", "too large"),
    ("speech.collapse", "alignments", "negative"),
    ("speech.collapse", "alignments", "too large"),
    ("speech.earlier_emissions", "alignments", "too large"),
    ("embeddings.ContextPrediction", "language", "too large"),
    ("embeddings.context_prediction_loss", "language", "too large"),
    ("embeddings.context_prediction_loss", "bank_language", "too large"),
    ("embeddings.context_prediction_loss", "bank_language", "negative"),
    ("embeddings.DistilledSentenceEmbedding", "labels", "dtype"),
    ("embeddings.pair_distillation_loss", "labels", "dtype"),
    ("preference.group_advantages", "rewards", "NaN"),  # a sample without a score
    *(
        (f"preference.{name}", mask, "nothing")  # empty answers count 0
        for name in ("GroupRelativeAlignment", "group_relative_alignment")
        for mask in ("sample_mask", "reference_mask")
    ),
    *(("preference.calibrate", name, how) for name in ("rewards", "reference") for how in ("dtype", "infinity")),
    ("preference.calibrate", "rewards", "NaN"),  # has no score, and stays without
    ("preference.reward_transform", "u", "NaN"),
    *((f"preference.{name}", "rewards", "infinity") for name in ("finite_win_rate", "finite_fixed_point")),
    *((f"embeddings.{name}", "domain", how) for name in ("DomainContrast", "domain_contrast_loss") for how in _ANY),
}
"""What is not wrong: the function knows no vocabulary, no number of frames; labels may be whole or not, and so may
rewards, of which one that is missing is NaN."""


@pytest.mark.parametrize(("label", "name", "how", "value"), BAD)
def test_a_wrong_tensor_is_named(label: str, name: str, how: str, value: Any, own_messages: None) -> None:
    arguments = TARGETS[label].arguments()
    if (label, name, how) in FINE:
        TARGETS[label].call(**arguments | {name: value})
        return
    with pytest.raises((TypeError, ValueError), match=rf"\b{SINGULAR.get(name, name)}\b"):
        TARGETS[label].call(**arguments | {name: value})


def numbers(one: Target) -> dict[str, Any]:
    """Options that are numbers."""
    given = {name: value for name, value in one.arguments().items() if name not in one.axes}
    return {k: v for k, v in given.items() if type(v) in (int, float) and k not in {*UNBOUNDED, "vocab_size"}}


OPTIONS = [
    pytest.param(label, name, value, id=f"{label}-{name}-{value}")
    for label, one in TARGETS.items()
    for name in numbers(one)
    for value in (-1, float("nan"), float("inf"), "a text", None)
    if not (value is None and one.parameters[name].default is None)
] + [
    pytest.param(label, name, "nonsense", id=f"{label}-{name}-nonsense")
    for label, one in TARGETS.items()
    for name, parameter in one.parameters.items()
    if get_origin(parameter.annotation) is Literal
]


@pytest.mark.parametrize(("label", "name", "value"), OPTIONS)
def test_a_wrong_option_is_named(label: str, name: str, value: Any, own_messages: None) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        TARGETS[label].call(**TARGETS[label].arguments() | {name: value})


def tensors_of(found: Any) -> list[Tensor]:
    if isinstance(found, LossOutput):
        return [found.loss, *found.stats.values()]
    return [found] if isinstance(found, Tensor) else []


@pytest.mark.parametrize("label", [label for label, one in TARGETS.items() if one.axes])
def test_an_empty_batch_is_none_of_it(label: str) -> None:
    one = TARGETS[label]
    given = {name: good(name, axes) for name, axes in one.axes.items()}
    empty = {
        name: value.narrow(at, 0, 0)
        for name, value in given.items()
        for at, axis in enumerate(one.axes[name].split())
        if axis in ("batch", "texts")
    }
    if "lattice" in one.parameters:
        pytest.skip("a lattice has its batch already")
    if label == "speech.collapse":
        empty = {name: given[name][:0, 0] if name == "alignments" else given[name][:0] for name in given}
    references = {"references": []} if "references" in one.parameters else {}
    for tensor in tensors_of(one.call(**one.arguments() | empty | references)):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("label", [label for label, one in TARGETS.items() if one.axes])
def test_any_integers_will_do(label: str) -> None:
    one = TARGETS[label]
    given = {name: good(name, axes) for name, axes in one.axes.items()}
    whole = {
        name: value for name, value in given.items() if not (value.is_floating_point() or value.dtype == torch.bool)
    }
    small = {name: value.int() for name, value in whole.items()}
    torch.manual_seed(0)
    expected = tensors_of(one.call(**one.arguments()))
    torch.manual_seed(0)
    found = tensors_of(one.call(**one.arguments() | small))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, check_dtype=False)
