"""Made-up documentation: domains that differ by their words, some of them nearer to the manual pages than others."""

import random
from collections.abc import Iterable
from typing import Any

from kilter.data.debian_documentation import TARGET

WORDS = {
    "politics": ("people", "power", "freedom", "union", "strike", "state", "labour", "council"),
    "databases": ("table", "index", "query", "column", "key", "transaction", "view", "row"),
    "git": ("commit", "branch", "file", "option", "directory", "remote", "tree", "merge"),
    "mail": ("message", "router", "host", "option", "queue", "domain", "sender", "delivery"),
    "glosses": ("plant", "bird", "colour", "vessel", "person", "flower", "garment", "river"),
    TARGET: ("file", "option", "descriptor", "signal", "process", "directory", "error", "call"),
}
"""Of `git`, three words are the manual pages' too; of `mail` one; of the others none."""


def made_documentation(
    names: Iterable[str] | None = None, *, documents: int = 40, seed: int = 0
) -> dict[str, list[str]]:
    """As `kilter.data.debian_documentation.documentation_domains`, of the domains of `WORDS`."""
    found = {}
    for name in WORDS if names is None else names:
        rng = random.Random(f"{seed} {name}")
        found[name] = ["\n\n".join(_paragraph(rng, WORDS[name]) for _ in range(3)) for _ in range(documents)]
    return found


def _paragraph(rng: random.Random, words: tuple[str, ...]) -> str:
    sentences = (f"The {rng.choice(words)} of a {rng.choice(words)} is its {rng.choice(words)}." for _ in range(4))
    return " ".join(sentences)


class Made:
    """As `kilter.data.assets.Located`, as far as it is asked."""

    def credit(self) -> dict[str, Any]:
        return {"title": "Made-up documentation", "licence": "none", "digest": "made-up"}


def made_debian_documentation(patch: Any) -> None:
    """Put both in the places of the real ones."""
    from kilter.data import debian_documentation

    patch.setattr(debian_documentation, "documentation_domains", made_documentation)
    patch.setattr(debian_documentation, "locate_documentation", Made)
