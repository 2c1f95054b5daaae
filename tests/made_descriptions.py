"""Made-up package descriptions and translations: languages that differ by the ending of every word."""

import random
from typing import Any

from kilter.data.documents import Document

WORDS = ("map", "road", "river", "bridge", "harbour", "island", "tower", "garden", "forest", "window", "kettle")
ENDINGS = {"en": "", "de": "en", "fr": "e", "it": "o"}


def sentence(language: str, words: list[str]) -> str:
    return " ".join(f"{word}{ENDINGS[language]}" for word in words).capitalize() + "."


def made_descriptions(languages: Any = ("en",), *, documents: int = 120, seed: int = 0) -> dict[str, list[Document]]:
    """As `kilter.data.debian_descriptions.descriptions`; of fewer packages in French than in the others."""
    rng = random.Random(seed)
    told = [[[rng.choice(WORDS) for _ in range(6)] for _ in range(4)] for _ in range(documents)]
    found = {}
    for language in languages:
        some = told if language != "fr" else told[: 2 * documents // 3]
        found[language] = [
            Document(f"package {number}", tuple(sentence(language, words) for words in one), "games")
            for number, one in enumerate(some)
        ]
    return found


def made_pairs(language: str) -> list[tuple[str, str]]:
    """As `kilter.data.bitext.tatoeba_pairs`."""
    rng = random.Random(7)
    some = [[rng.choice(WORDS) for _ in range(5)] for _ in range(40)]
    return [(sentence(language, words), sentence("en", words)) for words in some]


class Made:
    """As `kilter.data.assets.Located`, as far as it is asked."""

    def credit(self) -> dict[str, Any]:
        return {"title": "Made-up package descriptions", "licence": "none", "digest": "made-up"}


def made_debian(patch: Any) -> None:
    """Put both in the places of the real ones."""
    from kilter.data import bitext, debian_descriptions

    patch.setattr(debian_descriptions, "descriptions", made_descriptions)
    patch.setattr(debian_descriptions, "locate_descriptions", Made)
    patch.setattr(bitext, "tatoeba_pairs", made_pairs)
