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
    """What a paper promises, in figures a run can check.

    Attributes:
        metric: key in the run's metrics, e.g. `delay_ms`.
        better: the direction of improvement.
        arm: the arm that must improve on `baseline`.
        by: the size claimed, in the metric's unit; the interval must clear it for the claim to hold.
        guard: `(metric, worst)`; the paired difference in this metric may rise by at most `worst`.
    """

    metric: str
    better: Literal["lower", "higher"]
    baseline: str
    arm: str
    by: float = 0.0
    guard: tuple[str, float] | None = None


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
        claims: what is checked by the recipe.
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


@cache
def cards() -> dict[str, Paper]:
    """Every card of the package by slug, read without importing the methods."""
    package = Path(__file__).parents[1]
    found = [card for file in sorted(package.glob("*/*.py")) if (card := _read_card(file))]
    return {card.slug: card for card in found}


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
