"""English documentation out of Debian's packages, which apt downloads; nothing is installed, and nothing of it is run.

Source: the machine's own Debian or Ubuntu mirror, by the packages' names. The departure: only prose is kept, as
`kilter.data.plain_text` takes it out of the markup, and a document is a file's part below a heading, or an entry.
"""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kilter.data.apt import files, run, settings_in, stanzas, update, write_about
from kilter.data.plain_text import READERS, unpacked


@dataclass(frozen=True)
class Domain:
    """Packages, as patterns of their names, and which of their files are read, and how.

    Of several packages that fit one pattern the newest is taken: their names have versions in them.
    """

    packages: tuple[str, ...]
    files: str
    form: str


DOMAINS = {
    "politics": Domain(("anarchism",), r"doc/anarchism/html/[^/]+\.html", "html"),
    "python": Domain((r"python3\.\d+-doc",), r"html/(?:library|tutorial|howto|reference|faq)/[^/]+\.html", "html"),
    "perl": Domain(("perl-doc",), r"pod/perl(?!\w*delta|toc|gpl|artistic|cn|jp|ko|tw)\w*\.pod", "pod"),
    "databases": Domain((r"postgresql-doc-\d+",), r"html/(?!release)[^/]+\.html", "html"),
    "git": Domain(("git-doc",), r"git-doc/(?:howto/|technical/)?[^/]+\.html", "html"),
    "web-server": Domain(("apache2-doc",), r"manual/en/.*\.html", "html"),
    "debian": Domain(
        ("debian-policy", "debian-reference-en", "developers-reference"),
        r"(?:policy\.html|debian-reference|developers-reference)/[^/]+\.html",
        "html",
    ),
    "office": Domain(("libreoffice-help-en-us",), r"en-US/text/.*\.html", "html"),
    "mail": Domain(("exim4-doc-html",), r"spec_html/[^/]+\.html", "html"),
    "statistics": Domain(("r-doc-html",), r"doc/manual/[^/]+\.html", "html"),
    "glosses": Domain(("wordnet-base",), r"wordnet/data\.\w+", "wordnet"),
    "computing": Domain(("dict-foldoc",), r"foldoc\.dict\.dz", "entries"),
    "jargon": Domain(("dict-jargon",), r"jargon\.dict\.dz", "entries"),
    "sayings": Domain(
        ("fortunes-min", "fortunes"),
        r"fortunes/(?:computers|definitions|humorists|law|literature|riddles|science|wisdom|work)",
        "sayings",
    ),
    "manual-pages": Domain(("manpages", "manpages-dev"), r"man/man\d/[^/]+\.gz", "roff"),
}
"""The domains in their order."""


def fetch_documentation(folder: str | os.PathLike[str], *, progress: bool = True) -> None:
    """Write `<domain>.jsonl` with a document a row, `about.json`, which says of what day, and `SHA256SUMS`.

    A row has `id` (file and number of the document in it) and `paragraphs`. A domain whose packages this release has
    not is left out, and `about.json` says so.

    Raises:
        FileNotFoundError: `apt-get` or `dpkg-deb` is not on this machine, or the release has none of the packages.
        ConnectionError: apt could not get the files; its own words are in the message.
        ValueError: A package is broken, or holds nothing that can be read; it is named.
    """
    from rich.console import Console
    from rich.progress import track

    if missing := [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]:
        raise FileNotFoundError(
            f"{' and '.join(missing)} not found: the documentation comes from Debian's packages through apt; fetch it "
            "on a Debian or Ubuntu machine (a container will do) and copy the folder"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, quiet=not progress)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".apt-") as scratch:
        with console.status("apt fetches the packages of documentation (60 MB)"):
            targets = update(Path(scratch), ())
            packages = _packages(files(targets, "Packages"))
            archives = _download([one for ours in packages.values() for one in ours], Path(scratch))
        documents = {}
        for name in track(packages, "Reading documentation", console=console, transient=True):
            rows = [row for package in packages[name] for row in _documents(archives[package], DOMAINS[name])]
            if not rows:
                raise ValueError(f"{', '.join(packages[name])}: no prose found in files like {DOMAINS[name].files}")
            lines = (json.dumps({"id": id, "paragraphs": told}, ensure_ascii=False) + "\n" for id, told in rows)
            (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
            documents[name] = len(rows)
        versions = {package: file.name.split("_")[1].replace("%3a", ":") for package, file in sorted(archives.items())}
        left_out = [name for name in DOMAINS if name not in documents]
        write_about(folder, targets, "Packages", packages=versions, documents=documents, left_out=left_out)


def _packages(lists: Iterable[Path]) -> dict[str, list[str]]:
    """Of each domain that this release has, its packages."""
    known = {line.removeprefix("Package: ") for file in lists for stanza in stanzas(file) for line in stanza[:1]}
    found = {}
    for name, domain in DOMAINS.items():
        fit = [[one for one in known if re.fullmatch(pattern, one)] for pattern in domain.packages]
        if all(fit):
            found[name] = [max(some, key=lambda one: [int(part) for part in re.findall(r"\d+", one)]) for some in fit]
    if not found:
        raise FileNotFoundError("apt's sources have no documentation packages: they need a mirror's component main")
    return found


def _download(packages: list[str], scratch: Path) -> dict[str, Path]:
    """The archive of each package."""
    folder = scratch / "packages"
    folder.mkdir()
    run("apt-get", "-c", str(settings_in(scratch)), "download", *packages, cwd=folder)
    found = {file.name.split("_")[0]: file for file in folder.glob("*.deb")}
    if lacking := [package for package in packages if package not in found]:
        raise ConnectionError(f"apt did not download {', '.join(lacking)}; try again")
    return found


def _documents(archive: Path, domain: Domain) -> Iterator[tuple[str, list[str]]]:
    """The documents of a package, by file and number."""
    wanted = re.compile(domain.files + "$")
    done = subprocess.run(("dpkg-deb", "--fsys-tarfile", str(archive)), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise ValueError(f"{archive.name}: not a whole package ({said}); try again")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        members = sorted((one for one in tar if one.isfile() and wanted.search(one.name)), key=lambda one: one.name)
        for member in members:
            content = tar.extractfile(member)
            text = unpacked(content.read() if content else b"")
            for number, told in enumerate(READERS[domain.form](text), start=1):
                yield f"{member.name.removeprefix('./')} {number}", told
