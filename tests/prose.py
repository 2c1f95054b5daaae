"""Made-up prose: sentences that end as sentences do, for texts long enough to cut passages from."""

import random
from pathlib import Path

NAMES = ("Ada", "Brand", "Clara", "Dorn", "Elsie")
VERBS = ("saw", "feared", "praised", "followed", "forgot")
THINGS = ("the harbour", "a letter", "her brother", "the old house", "no reason", "the storm")


def prose(sentences: int, seed: int = 0) -> str:
    """Paragraphs of three to six sentences, with what real books have between them."""
    rng = random.Random(seed)
    said, parts = 0, ["CHAPTER I.", "Contents"]
    while said < sentences:
        lines = []
        for _ in range(rng.randint(3, 6)):
            words = [rng.choice(NAMES), rng.choice(VERBS), rng.choice(THINGS)]
            for _ in range(rng.randint(0, 3)):
                words += ["and", rng.choice(VERBS), rng.choice(THINGS)]
            lines.append(" ".join(words) + rng.choice(".!?."))
        said += len(lines)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def write_books(folder: Path, sentences: int = 400) -> Path:
    """Three texts under the names of the asset `books`."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(("frankenstein", "moby-dick", "pride-and-prejudice")):
        (folder / f"{name}.txt").write_text(prose(sentences, seed), encoding="utf-8")
    return folder
