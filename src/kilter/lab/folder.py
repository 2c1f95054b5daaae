"""The run directory's memory: with what a run was begun, so that only the same run goes on in it.

A run begun by an older kilter goes on: an option newer than it had its default, and data whose digest it did not keep
are taken for the same.
"""

from dataclasses import MISSING, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from kilter.lab import provenance
from kilter.lab.files import read_json, write_whole
from kilter.lab.recipe import Provenance, Recipe, plain

_OTHER = "choose another --out, or remove that folder"


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every option, as plain values."""
    return {one.name: plain(getattr(recipe, one.name)) for one in fields(recipe)}


def made_with(recipe: Recipe) -> dict[str, Any]:
    """What `recipe.yaml` holds."""
    made = {"versions": provenance.versions(), "commit": provenance.commit()}
    return {"method": recipe.paper.slug, "settings": settings(recipe), **made}


def default_folder(recipe: Recipe) -> Path:
    """`./runs/<method>-<preset>-<hash>`, unless a run of the same settings is there under another hash."""
    now = _identity(recipe)
    digest = sha256(yaml.safe_dump(now).encode()).hexdigest()[:6]
    name = f"{recipe.paper.slug}-{recipe.preset}-"
    folder = Path("runs", name + digest)
    if not folder.exists():  # begun before an option was added, it has the hash of the options it had
        for file in sorted(Path("runs").glob(f"{name}*/recipe.yaml")):
            if not _differing(_kept(file.parent), recipe):
                return file.parent
    return folder


def take_up_guests(out: Path, recipe: Recipe) -> None:
    """Arms of other recipes go on with the settings that the run has for them.

    Raises:
        ValueError: other ones were asked for.
    """
    kept = _kept(out).get("borrowed") or {}
    for slug, before in kept.items():
        if (now := recipe.borrowed.get(slug, before)) != before:
            raise ValueError(f"{out} holds arms of {slug} with {before}, this run has {now}; {_OTHER}")
    recipe.borrowed = {**recipe.borrowed, **kept}


def check_folder(out: Path, recipe: Recipe) -> None:
    """A run goes on only with the settings it began with.

    Raises:
        ValueError: the folder is something else, or a setting is another; it is named.
    """
    if not (out / "recipe.yaml").exists():
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ValueError(f"{out} is not empty and not a run directory; choose another --out")
    elif found := _differing(_kept(out), recipe):
        name, before, value = found
        raise ValueError(f"{out} holds a run with {name}={before!r}, this one has {value!r}; {_OTHER}")


def check_data(file: Path, data: Provenance) -> None:
    """A run that began on recordings must not go on with synthetic speech, nor one's own data change under it.

    Raises:
        ValueError: the data is another now.
    """
    if not file.exists():
        return
    before = read_json(file)
    digests = {before["digest"], data.digest} - {""}
    if before["title"] != data.title or len(digests) > 1:
        raise ValueError(
            f"{file.parent} was begun with {before['title']}, but the data is another now ({data.title}); "
            "bring the first back (kilter doctor says what is there), or choose another --out"
        )


def keep_settings(out: Path, card: dict[str, Any]) -> None:
    """Write `recipe.yaml`, once; later only guests are added to it."""
    file = out / "recipe.yaml"
    if file.exists():
        there = yaml.safe_load(file.read_text(encoding="utf-8"))
        if (borrowed := card["settings"]["borrowed"]) == (there["settings"].get("borrowed") or {}):
            return
        there["settings"]["borrowed"] = borrowed
        card = there
    write_whole(file, yaml.safe_dump(card, sort_keys=False, allow_unicode=True))


def _kept(out: Path) -> dict[str, Any]:
    file = out / "recipe.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))["settings"] if file.exists() else {}


def _identity(recipe: Recipe) -> dict[str, Any]:
    return {name: value for name, value in settings(recipe).items() if name not in recipe.unhashed}


def _differing(kept: dict[str, Any], recipe: Recipe) -> tuple[str, Any, Any] | None:
    """The first setting that is another than in the run, with both values."""
    defaults = {one.name: plain(one.default) for one in fields(recipe) if one.default is not MISSING}
    for name, value in _identity(recipe).items():
        if (before := kept.get(name, defaults.get(name))) != value:
            return name, before, value
    return None
