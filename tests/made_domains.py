"""Made-up pairs of texts by domain: a summary and a description that says its words again among others."""

import random
from collections.abc import Iterable
from typing import Any

from tests.made_descriptions import Made

WORDS = {
    "python": ("module", "class", "parser", "wheel", "binding", "script", "loop", "import"),
    "games": ("castle", "dragon", "puzzle", "racing", "level", "sword", "wizard", "card"),
    "sound": ("mixer", "chorus", "synth", "tempo", "organ", "filter", "tape", "loudness"),
}


def made_pairs_of(sections: Iterable[str], *, pairs: int = 60, seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    """As `kilter.data.domains.debian_domains`."""
    rng = random.Random(seed)
    found: dict[str, list[tuple[str, str]]] = {}
    for section in sections:
        known = WORDS[section]
        some: dict[str, str] = {}
        while len(some) < pairs:
            words = [rng.choice(known) for _ in range(4)]
            some.setdefault(" ".join(words), " ".join(["this", *rng.sample(words, 4), "has", rng.choice(known)]))
        found[section] = [*some.items()]
    return found


def made_domains(patch: Any) -> None:
    """Put them in the place of Debian's."""
    from kilter.data import debian_descriptions, domains

    patch.setattr(domains, "debian_domains", made_pairs_of)
    patch.setattr(debian_descriptions, "locate_descriptions", Made)
