"""Domains of English prose: what Debian's packages document, from political history to the manual pages.

Source: documentation packages of the machine's own Debian mirror, through apt (`kilter.data.apt_documentation`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from kilter.core.errors import suggest
from kilter.data.apt_documentation import DOMAINS
from kilter.data.assets import Located, locate

TARGET = "manual-pages"
"""The domain that the others are to serve, where a run wants one held out."""


def locate_documentation() -> Located:
    """Where the documentation is, of what day, and whom to credit.

    Raises:
        FileNotFoundError: It is not here and cannot be fetched.
        ConnectionError: apt could not fetch it; its own words are in the message.
    """
    return locate("debian-documentation", progress=False)


def documentation_domains(names: Iterable[str] | None = None) -> dict[str, list[str]]:
    """The documents of each domain: plain text, a blank line between paragraphs, in the order of the packages' files.

    Args:
        names: Of `DOMAINS`, in the order wanted; None: all that the release has, in that table's order.

    Raises:
        ValueError: There is no such domain, the release has no packages of it, or a file is broken.
        FileNotFoundError: The documentation is not here and cannot be fetched.
        ConnectionError: apt could not fetch it; its own words are in the message.
    """
    wanted = [*DOMAINS] if names is None else [*names]
    if strange := next((one for one in wanted if one not in DOMAINS), None):
        raise ValueError(f"no domain of documentation is called {strange!r}{suggest(strange, DOMAINS)}")
    folder = locate_documentation().path
    here = [name for name in wanted if (folder / f"{name}.jsonl").is_file()]
    if names is not None and (lacking := [name for name in wanted if name not in here]):
        packages = " ".join(package for name in lacking for package in DOMAINS[name].packages)
        raise ValueError(
            f"{folder}: no documentation of {', '.join(lacking)}, because the release that it was fetched from lacks "
            f"one of {packages}; leave it out, or fetch from Debian 12"
        )
    return {name: _read(folder / f"{name}.jsonl") for name in here}


def _read(file: Path) -> list[str]:
    try:
        return ["\n\n".join(json.loads(line)["paragraphs"]) for line in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        again = "delete the folder and run `kilter fetch debian-documentation`"
        raise ValueError(f"{file}: broken ({error!r}); {again}") from error
