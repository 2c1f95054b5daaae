"""What an arm is made of: terms by name, each perhaps with a strength, joined by +.

`residual+awp-2+trim-tail-30` is a network, a loss and a curator of the training rows. A task has terms of its own, a
recipe brings those of its paper; together they are what an arm trains or decodes with, its `Levers`.
Standard library only: names are read before any work.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from kilter.core.errors import suggest

Role = Literal["baseline", "method", "context"]

_PART = re.compile(r"(.*?)(?:-(\d+(?:\.\d+)?))?", re.DOTALL)
_MANY = {"objective": "losses", "options": "networks"}
"""How several of a lever are called, where its own name will not do."""


@dataclass(frozen=True)
class Arm:
    """One way of training or decoding as people read of it, to be compared with the others on the same budget."""

    label: str
    role: Role = "method"
    series: str = ""
    """arms of one series are one method at several strengths: a figure joins them"""
    point: str = ""
    """what tells this arm from the others of its series"""


@dataclass(frozen=True, kw_only=True)
class Levers:
    """What an arm trains or decodes with; a task says which of these it can take (`Recipe.takes`).

    Whatever needs the model is a function of it, so that an arm can be named without loading anything.
    """

    objective: Callable[[Any], Any] | None = None
    """`(model) -> Objective`; the task says what it calls a model"""
    weight: float = 1.0
    """of the objective"""
    beside: bool = True
    """beside the task's own loss, or instead of it"""
    rows: Callable[[Any, Any, int], Any] | None = None
    """`(rows, model, seed) -> rows`: what is trained on"""
    sampler: Callable[[Any, int], Any] | None = None
    """`(rows, seed) -> sampler` of the training rows"""
    callbacks: Callable[[Any], Sequence[Any]] | None = None
    """`(model) -> callbacks` of the host's trainer"""
    module: Callable[[Any], Any] | None = None
    """`(model) -> model` with the module attached"""
    decoder: Any = None
    """how outputs are chosen, as the task's decoding wants it said"""
    reward: Callable[..., Any] | None = None
    """`(prompts, completions) -> numbers`"""
    options: Mapping[str, Any] = field(default_factory=dict)
    """options of the run that are others for this arm, such as its network"""

    def pulled(self) -> tuple[str, ...]:
        """Names of the levers that are not at rest."""
        rest = Levers()
        names = (one.name for one in fields(self) if one.name not in ("weight", "beside"))
        return tuple(name for name in names if getattr(self, name) != getattr(rest, name))


@dataclass(frozen=True)
class Term:
    """One word of an arm's name.

    Attributes:
        label: in words, with `{:g}` where the strength belongs.
        make: `(strength, **variants) -> Levers`; a variant asked for is given as True.
        usual: the strength where the name does not say one; None where it has none or it is chosen from `grid`.
        grid: strengths to choose from, where something can be judged for it.
        at: what the label gains where the name says the strength, such as `, λ {:g}`.
        after: whether the label stands behind the others', after a comma.
        role: of an arm that has this term.
        variants: words that may follow after a +, with what the label gains.
        strength: `(strength) -> why it cannot be`, empty where it can.
        option: the option of the recipe that is the usual strength; where a name says another, a card says that.
    """

    label: str
    make: Callable[..., Levers]
    usual: float | None = None
    grid: Sequence[float] = ()
    at: str = ""
    after: bool = False
    role: Role = "method"
    variants: Mapping[str, str] = field(default_factory=dict)
    strength: Callable[[float], str] = lambda value: ""
    option: str = ""


@dataclass(frozen=True)
class Part:
    """A term as an arm has it."""

    name: str
    term: Term
    given: float | None
    """the strength that the name says"""
    variants: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """With its variants, without a strength."""
        return "+".join((self.name, *self.variants))

    @property
    def said(self) -> str:
        """As an arm's name says it."""
        return "+".join((self.name + ("" if self.given is None else f"-{self.given:g}"), *self.variants))

    @property
    def strength(self) -> float | None:
        """That of the name, else the usual one."""
        return self.term.usual if self.given is None else self.given

    def levers(self, strength: float | None = None) -> Levers:
        """What it trains or decodes with, at its own strength or at one that was chosen."""
        at = self.strength if strength is None else strength
        return self.term.make(at, **dict.fromkeys(self.variants, True))

    def label(self, more: str = "") -> str:
        """In words, with what there is to say of the term before its variants."""
        said = self.term.label + (self.term.at if self.given is not None else "")
        return said.format(self.strength) + more + "".join(self.term.variants[word] for word in self.variants)


@dataclass(frozen=True)
class Mixture:
    """The parts of an arm, and words that concern all of it."""

    name: str
    parts: tuple[Part, ...] = ()
    words: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, name: str, terms: Mapping[str, Term], *, plain: str, words: Collection[str] = ()) -> "Mixture":
        """Read an arm's name.

        Args:
            name: the arm.
            terms: what can stand in it.
            plain: the arm without any.
            words: that concern the whole arm.

        Example:
            >>> wide = Term("wide network", lambda strength: Levers(options={"hidden_size": 512}), after=True)
            >>> trim = Term("TrimTail {:g}", lambda frames: Levers(rows=lambda rows, *_: rows), usual=50.0)
            >>> found = Mixture.parse("wide+trim-tail-20", {"wide": wide, "trim-tail": trim}, plain="ctc")
            >>> found.label("CTC only"), found.levers().pulled()
            ('TrimTail 20, wide network', ('rows', 'options'))

        Raises:
            ValueError: a part that is not known or stands twice, a strength that cannot be, two of one lever.
        """
        if name == plain:
            return cls(name)
        parts: dict[str, Part] = {}
        said: set[str] = set()
        for part in name.split("+"):
            if part == plain:
                raise ValueError(f"{name!r}: {plain} is the arm with nothing joined to it; leave it out")
            if part in words and part not in said:
                said.add(part)
            elif found := _read(part, name, terms, parts):
                parts[found.name] = found
            else:
                raise UnknownPart(part, name, terms)
        mixture = cls(name, tuple(parts.values()), frozenset(said))
        mixture.levers()
        return mixture

    def levers(self, strength: float | None = None) -> Levers:
        """What the parts pull together, those with a grid at `strength` if one was chosen.

        Raises:
            ValueError: two parts pull one lever; options join unless two parts set the same one.
        """
        each = {part.name: part.levers(strength if part.term.grid else None) for part in self.parts}
        joined: dict[str, Any] = {}
        for lever in dict.fromkeys(lever for found in each.values() for lever in found.pulled()):
            by = {name: getattr(found, lever) for name, found in each.items() if lever in found.pulled()}
            first = next(iter(by))
            together = dict(ChainMap(*by.values())) if lever == "options" else None
            if len(by) > 1 and (together is None or len(together) < sum(map(len, by.values()))):
                many = _MANY.get(lever, lever if lever.endswith("s") else f"{lever}s")
                raise ValueError(f"{self.name!r} has {len(by)} {many} ({', '.join(by)}); an arm takes one")
            joined[lever] = by[first] if together is None else together
            if lever == "objective":
                joined |= {"weight": each[first].weight, "beside": each[first].beside}
        return Levers(**joined)

    def label(self, plain: str, more: Callable[[Part], str] = lambda part: "") -> str:
        """In words, for tables and figures; `plain` where nothing is changed but what stands after a comma."""
        first = [part.label(more(part)) for part in self.parts if not part.term.after] or [plain]
        return ", ".join([" + ".join(first), *(part.label() for part in self.parts if part.term.after)])

    def single(self) -> Part | None:
        """The part of an arm of one, which has a strength: what a series is made of."""
        return self.parts[0] if len(self.parts) == 1 and self.parts[0].strength is not None else None


class UnknownPart(ValueError):
    """A word in an arm's name that no term has; another recipe on the task may bring it."""

    def __init__(self, part: str, name: str, terms: Mapping[str, Term]) -> None:
        self.part = part
        super().__init__(f"unknown part {part!r} in {name!r}{suggest(part, terms)}")


def _read(part: str, name: str, terms: Mapping[str, Term], parts: dict[str, Part]) -> Part | None:
    """The part as it is now: a term with its strength, or the nearest before it that has such a variant, with it."""
    for there in reversed(parts.values()):
        if part in there.term.variants and part not in there.variants:
            return Part(there.name, there.term, there.given, (*there.variants, part))
    term, strength = _PART.fullmatch(part).groups()  # type: ignore[union-attr]
    if term in parts:
        raise ValueError(f"{name!r} has {term} twice")
    if term not in terms:
        return None
    found = terms[term]
    if strength is None:
        return Part(term, found, None)
    if found.usual is None and not found.grid:
        return None
    if why := found.strength(float(strength)):
        raise ValueError(f"{part!r} in {name!r}: {why}")
    return Part(term, found, float(strength))
