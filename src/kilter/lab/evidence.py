"""The recorded evidence of a method, all its files, and the ledger of claims made from it.

Reads JSON and cards only, so that `kilter list` answers at once.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilter.core.paper import Claim, Paper, cards, method_file
from kilter.lab.files import read_json
from kilter.lab.provenance import changed_since

Record = Mapping[str, Any]
"""What one evidence file holds: the summary of a run, and every seed's figures."""

VERDICTS = ("holds", "holds in direction", "not seen here", "contradicted")


@dataclass(frozen=True)
class Line:
    """A claim as the ledger has it; with neither verdict nor reason it waits for a run.

    Attributes:
        method: slug of the method.
        claim: what is claimed, in our words.
        published: the published figure, empty where the abstract has none or only a run makes the claim.
        ours: what was measured, with its interval.
        verdict: one of the four words; empty where it was not tried.
        reason: why it cannot be tried here; empty where it can.
        where: what it was tried on.
        file: the evidence file, by its name without ending.
    """

    method: str
    claim: str
    published: str = ""
    ours: str = ""
    verdict: str = ""
    reason: str = ""
    where: str = ""
    file: str = ""


def recorded(slug: str) -> dict[str, Record]:
    """Every evidence file of a method by its name without ending, that of preset `full` first."""
    package = Path(__file__).parents[1]
    folders = (package / "evidence", package.parents[1] / "evidence")  # in a wheel, in the source tree
    files = sorted(file for folder in folders for file in folder.glob(f"{slug}*.json"))
    found = {file.stem: record for file in files if (record := read_json(file))["method"] == slug}
    return dict(sorted(found.items(), key=lambda item: (item[1]["preset"] != "full", item[0])))


def places(found: Mapping[str, Record]) -> dict[str, str]:
    """What each file is about in a word or two; the preset tells files about the same data apart."""
    said: dict[str, str] = {}
    for name, record in found.items():
        subject = record["data"].get("subject") or record["data"]["title"]
        said[name] = f"{subject}, preset {record['preset']}" if subject in said.values() else subject
    return said


def verdict(slug: str) -> str:
    """The verdicts on a method's claims in a few words: those of preset `full`, then what else was found, and where."""
    if not (found := recorded(slug)):
        return "no evidence yet"
    where = places(found)
    words = {name: {item["verdict"] for item in record["verdicts"]} for name, record in found.items()}
    general = set().union(*(words[name] for name, record in found.items() if record["preset"] == "full"))
    parts = [word for word in VERDICTS if word in general]
    for word in VERDICTS:
        if word not in general and (on := [where[name] for name in found if word in words[name]]):
            parts.append(f"{word} on {' and '.join(on)}")
    return "; ".join(parts) or "no verdict"


def ledger() -> list[Line]:
    """All claims of all methods; one that several presets speak to has a line for each."""
    return [line for card in cards().values() for line in claims_of(card)]


def claims_of(card: Paper) -> list[Line]:
    """The claims of a card, tried or not, then those that only its runs make."""
    found = recorded(card.slug)
    where = places(found)
    lines, left = [], [(name, item) for name, record in found.items() for item in record["verdicts"]]
    for claim in card.claims:
        said = {"method": card.slug, "claim": claim.text, "published": claim.published}
        own = [(name, item) for name, item in left if _speaks_to(item, claim)]
        left = [pair for pair in left if pair not in own]
        lines += [Line(**said, **_judged(item), where=where[name], file=name) for name, item in own]
        if not own:
            lines.append(Line(**said, reason=claim.reason))
    lines += [Line(card.slug, item["claim"], **_judged(item), where=where[name], file=name) for name, item in left]
    return lines


def _speaks_to(item: Mapping[str, Any], claim: Claim) -> bool:
    return not claim.reason and claim.key.items() <= item.items()


def _judged(item: Mapping[str, Any]) -> dict[str, str]:
    return {"ours": item["why"], "verdict": item["verdict"]}


def changed(record: Record) -> list[str] | None:
    """Which files of the method, its guests, their recipes and tasks are others now; None where that is not known."""
    slugs = (record["method"], *record.get("settings", {}).get("borrowed", ()))
    files = dict.fromkeys(file for slug in slugs for file in _sources(slug))  # guests are on the task of their host
    return changed_since(record["commit"], [*files])


def _sources(slug: str) -> Iterator[Path]:
    package = Path(__file__).parents[1]
    recipe = package / "recipes" / slug.replace("-", "_")
    recipe = recipe if recipe.is_dir() else recipe.with_suffix(".py")
    yield method_file(slug)
    yield recipe
    for module in _imported(recipe, "kilter.tasks."):
        place = package.joinpath(*module.split(".")[1:])
        yield place if place.is_dir() else place.with_suffix(".py")


def _imported(place: Path, floor: str) -> Sequence[str]:
    """Modules of a floor that a file, or a folder of files, imports from, wherever in it."""
    files = place.glob("*.py") if place.is_dir() else [place]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    found = {node.module or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return sorted(module for module in found if module.startswith(floor))
