"""Debian's package descriptions out of the machine's own Debian or Ubuntu mirror, through apt.

Source: its files Translation-xx and Packages, which the Debian Description Translation Project fills. The departure:
translations are joined on the English text's MD5, not on the package's name, so that none is of an older text.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from kilter.data.apt import files, stanzas, update, write_about

LANGUAGES = ("en", "cs", "da", "de", "es", "fi", "fr", "hu", "it", "ja")
LANGUAGES += ("ko", "nl", "pl", "pt", "pt_BR", "ru", "sk", "sv", "uk", "zh_CN")


def fetch_descriptions(
    folder: str | os.PathLike[str], *, languages: Sequence[str] = LANGUAGES, progress: bool = True
) -> None:
    """Write `<language>.jsonl` with a description a row, `about.json`, which says of what day, and `SHA256SUMS`.

    A row has `id` (the MD5 of the English description, the same in all languages), `package`, `section`, `summary` and
    `paragraphs`. Descriptions that several packages share stand there once.

    Raises:
        FileNotFoundError: `apt-get` is not on this machine.
        ConnectionError: apt could not get the files; its own words are in the message.
    """
    from rich.console import Console
    from rich.progress import track

    if shutil.which("apt-get") is None:
        raise FileNotFoundError(
            "apt-get not found: the package descriptions come from a Debian or Ubuntu mirror through apt; fetch them "
            "on such a machine (a container will do) and copy the folder"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, quiet=not progress)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".apt-") as scratch:
        with console.status("apt fetches the package descriptions (37 MB)"):
            targets = update(Path(scratch), languages)
        sections = dict(pair for file in files(targets, "Packages") for pair in _sections(file))
        steps = track(languages, "Reading descriptions", console=console, transient=True)
        english = {
            row["id"]: "" for file in files(targets, "Translations", "en") for row in _descriptions(file, sections)
        }
        documents = {}
        for language in steps:
            rows = [row for file in files(targets, "Translations", language) for row in _descriptions(file, sections)]
            documents[language] = _write(folder / f"{language}.jsonl", rows, english)
        write_about(folder, targets, "Translations", documents=documents)


# Stanzas --------------------------------------------------------------------------------------------------------------


def _sections(file: Path) -> Iterator[tuple[str, str]]:
    """The section of each package; `contrib/games` is games."""
    for stanza in stanzas(file):
        fields = dict(line.split(": ", 1) for line in stanza if line.startswith(("Package: ", "Section: ")))
        yield fields["Package"], fields.get("Section", "").rpartition("/")[2]


def _write(target: Path, rows: Iterable[Mapping[str, Any]], order: Iterable[str]) -> int:
    """Write the descriptions of a language that are of an English one, in its order; how many there are."""
    by_id: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        by_id.setdefault(row["id"], row)
    found = [by_id[id] for id in order if id in by_id]
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found), "utf-8")
    return len(found)


def _descriptions(file: Path, sections: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for package, digest, head, *body in stanzas(file):
        name, summary = package.removeprefix("Package: "), head.partition(": ")[2]
        yield {
            "id": digest.removeprefix("Description-md5: "),
            "package": name,
            "section": sections.get(name, ""),
            "summary": summary.strip(),
            "paragraphs": paragraphs(body),
        }


def paragraphs(body: Iterable[str]) -> list[str]:
    r"""The paragraphs of a description, which a dot parts; in one, lines that are set apart stay lines.

    Example:
        >>> paragraphs([" It draws", " maps.", " .", " Of these:", "  * roads", "    and ways", "  * rivers"])
        ['It draws maps.', 'Of these:\n* roads and ways\n* rivers']
    """
    found = []
    for filled, block in groupby(body, key=lambda line: line != " ."):
        rows: list[tuple[int, str]] = []
        for line in block if filled else ():
            indent, text = len(line) - len(line.lstrip()), " ".join(line.split())
            goes_on = rows and (indent > rows[-1][0] > 1 or indent == rows[-1][0] == 1)
            rows[-1 if goes_on else len(rows) :] = [
                (rows[-1][0], f"{rows[-1][1]} {text}") if goes_on else (indent, text)
            ]
        if rows:
            found.append("\n".join(text for _, text in rows))
    return found
