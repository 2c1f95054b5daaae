"""Made-up sentences and scored pairs under the names of the assets, so that a run needs no data of anybody's."""

import random
from pathlib import Path

_WHO = ("A man", "A woman", "The old sailor", "A child", "The baker", "My sister", "A dog", "The teacher")
_DOES = ("is reading", "carries", "has lost", "looks at", "paints", "is selling", "remembers", "throws")
_WHAT = ("a book", "the red boat", "an apple", "two letters", "the map of the town", "a guitar", "the lamp", "a coat")
_WHERE = ("in the garden", "near the harbour", "at night", "on the train", "without a word", "after the rain")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.choice(part) for part in (_WHO, _DOES, _WHAT, _WHERE)) + "."] = None
    return [*found]


def pairs(count: int, seed: int = 1) -> list[tuple[str, str, float]]:
    """Pairs of sentences; the score is how many of their parts are the same, from 0 to 5."""
    rng = random.Random(seed)
    parts = (_WHO, _DOES, _WHAT, _WHERE)
    found = []
    for _ in range(count):
        first, likeness = [rng.choice(part) for part in parts], rng.random()
        second = [one if rng.random() < likeness else rng.choice(part) for one, part in zip(first, parts, strict=True)]
        same = sum(one == other for one, other in zip(first, second, strict=True))
        found.append((" ".join(first) + ".", " ".join(second) + ".", 1.25 * same))
    return found


def write_data(folder: Path) -> None:
    """Folders `wiki-simcse` and `stsb` as the readers want them; the checksums must be off."""
    for name in ("wiki-simcse", "stsb"):
        (folder / name).mkdir(parents=True)
    (folder / "wiki-simcse" / "wiki_head.txt").write_text("\n".join([*sentences(300), "cut"]), encoding="utf-8")
    for part, seed in (("test", 1), ("dev", 2)):
        lines = [f"g\tf\ty\t0\t{score}\t{first}\t{second}" for first, second, score in pairs(120, seed)]
        (folder / "stsb" / f"sts-{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
