"""The paper card: a constant in each method's file, from which lists, indexes, citations and tests are made.

Cards are read with `ast`, so listing every method imports neither torch nor the methods.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kilter.core.errors import UsageError, suggest

Lever = Literal["objective", "decoder", "module", "curator"]


@dataclass(frozen=True)
class Claim:
    """One result that a paper claims: in figures that a run can check, or with why none here can.

    Attributes:
        metric: key in the run's metrics, e.g. `delay_ms`; empty where the claim cannot be tried here.
        better: the direction of improvement.
        baseline: the arm that `arm` must beat.
        arm: the arm that must improve on `baseline`.
        by: the size claimed, in the metric's unit; the interval must clear it for the claim to hold. Below zero: how
            far behind `arm` may be and count as equal.
        guard: `(metric, worst)`; the paired difference in this metric may rise by at most `worst`.
        times: the size claimed as a multiple of the baseline's figure, in the place of `by`.
        text: the result in our own words; a claim that only a run makes has none.
        published: the published figure, as text; empty where the paper's abstract gives none.
        reason: why it cannot be tried here, e.g. "needs 280,000 hours of speech".

    Raises:
        ValueError: neither a metric with both arms nor a reason, or both.
    """

    metric: str = ""
    better: Literal["lower", "higher", ""] = ""
    baseline: str = ""
    arm: str = ""
    by: float = 0.0
    guard: tuple[str, float] | None = None
    times: float = 0.0
    text: str = ""
    published: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        """Check that it is tried, or says why not."""
        tried = (self.metric, self.better, self.baseline, self.arm)
        if not all(tried) and (any(tried) or not self.reason):
            raise ValueError(
                f"claim {self.text or tried}: give metric, better, baseline and arm, or the reason why it cannot be "
                "tried here"
            )
        if all(tried) and self.reason:
            raise ValueError(f"claim {self.text or tried}: it is tried, or there is a reason why not; give one of them")
        if self.reason and not self.text:
            raise ValueError("a claim with a reason needs text: what is claimed, in our own words")
        if self.times and (self.by or self.better == "lower"):
            raise ValueError(f"claim {self.text or tried}: times is for a higher figure, and stands instead of by")

    @property
    def key(self) -> dict[str, Any]:
        """What its verdict keeps of it, and is found by."""
        guard = [*self.guard] if self.guard else None
        size = {"times": self.times} if self.times else {"by": self.by}
        arms = {"arm": self.arm, "baseline": self.baseline}
        return {"metric": self.metric, "better": self.better, **arms, **size, "guard": guard}


@dataclass(frozen=True)
class Paper:
    """Metadata of one published system.

    Attributes:
        slug: the one name of the method everywhere: recipe, page, evidence, file.
        title: title of the paper.
        authors: names in order, `Given Family`.
        year: year of the version cited.
        venue: where it appeared.
        url: where to read it.
        lever: which of the four places it acts on.
        purpose: one line a newcomer understands.
        names: public names, importable from the method's family.
        claims: every result that the abstract claims, tried here or not.
        arxiv: arXiv identifier, if any.
    """

    slug: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    url: str
    lever: Lever
    purpose: str
    names: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    arxiv: str | None = None

    def bibtex(self) -> str:
        """The citation, ready to paste.

        Example:
            >>> where = ("Memoirs", "https://example.org")
            >>> card = Paper("x", "On X", ("Ada Lovelace",), 1843, *where, "objective", "-", ())
            >>> print(card.bibtex())
            @inproceedings{lovelace1843x,
              title = {{On X}},
              author = {Lovelace, Ada},
              year = {1843},
              booktitle = {Memoirs},
              url = {https://example.org},
            }
        """
        fields = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(", ".join(reversed(name.rsplit(" ", 1))) for name in self.authors),
            "year": str(self.year),
            "booktitle": self.venue,
            "url": self.url,
        }
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        key = f"{self.authors[0].rsplit(' ', 1)[-1].lower()}{self.year}{self.slug.split('-')[0]}"
        body = "\n".join(f"  {name} = {{{value}}}," for name, value in fields.items())
        return f"@inproceedings{{{key},\n{body}\n}}"


def method_card(slug: str) -> Paper:
    """The card of a method.

    Raises:
        UsageError: there is none of that name; the message says the nearest.
    """
    if slug not in cards():
        raise UsageError(f"there is no method {slug!r}{suggest(slug, cards())}")
    return cards()[slug]


def method_file(slug: str) -> Path:
    """The file of a method, which holds its card."""
    return _found()[slug][0]


@cache
def cards() -> dict[str, Paper]:
    """Every card of the package by slug, read without importing the methods."""
    return {slug: card for slug, (_, card) in _found().items()}


@cache
def _found() -> dict[str, tuple[Path, Paper]]:
    files = sorted(Path(__file__).parents[1].glob("*/*.py"))
    return {card.slug: (file, card) for file in files if (card := _read_card(file))}


def _read_card(file: Path) -> Paper | None:
    text = file.read_text(encoding="utf-8")
    if "\nPAPER = Paper(" not in text:
        return None
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "PAPER":
            return _build(node.value)
    return None


def _build(node: ast.expr) -> Any:
    """Evaluate literals, tuples of them, and calls of `Paper` and `Claim`."""
    if isinstance(node, ast.Call):
        maker = {"Paper": Paper, "Claim": Claim}[getattr(node.func, "id", "")]
        return maker(*map(_build, node.args), **dict(_keywords(node)))
    if isinstance(node, ast.Tuple):
        return tuple(map(_build, node.elts))
    return ast.literal_eval(node)


def _keywords(node: ast.Call) -> Iterator[tuple[str, Any]]:
    return ((keyword.arg or "", _build(keyword.value)) for keyword in node.keywords)
