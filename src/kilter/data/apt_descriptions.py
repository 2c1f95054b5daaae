"""Debian's package descriptions out of the machine's own Debian or Ubuntu mirror, through apt.

Source: its files Translation-xx and Packages, which the Debian Description Translation Project fills. The departure:
apt keeps them in a folder of its own here, so that neither root is needed nor anything of the system's changes; and
translations are joined on the English text's MD5, not on the package's name, so that none is of an older text.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from kilter.data.catalogue import ABOUT, SUMS

LANGUAGES = ("en", "cs", "da", "de", "es", "fi", "fr", "hu", "it", "ja")
LANGUAGES += ("ko", "nl", "pl", "pt", "pt_BR", "ru", "sk", "sv", "uk", "zh_CN")

_ORIGINS = ("Debian", "Ubuntu")
_SETTINGS = """\
#clear APT::Update;
#clear Acquire::Languages;
#clear Acquire::IndexTargets;
Acquire::Languages { {languages} };
Acquire::GzipIndexes "false";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::Retries "1";
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages"; flatMetaKey "Packages"; ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages"; flatDescription "$(RELEASE) Packages";
};
Acquire::IndexTargets::deb::Translations {
  MetaKey "$(COMPONENT)/i18n/Translation-$(LANGUAGE)"; flatMetaKey "$(LANGUAGE)"; Optional "true";
  ShortDescription "Translation-$(LANGUAGE)"; Description "$(RELEASE)/$(COMPONENT) Translation-$(LANGUAGE)";
  flatDescription "$(RELEASE) Translation-$(LANGUAGE)";
};
Dir::State "{folder}/state";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
"""
"""Of the machine's settings its sources stand: no scripts after an update, no icons, none of its folders."""
_TARGET: tuple[str, ...] = ("CREATED_BY", "LANGUAGE", "ORIGIN", "RELEASE", "CODENAME", "VERSION", "FILENAME")
_LIST = ("apt-get", "indextargets", "--format", "|".join(f"$({name})" for name in _TARGET))


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
            targets = _update(Path(scratch), languages)
        sections = dict(pair for file in _files(targets, "Packages") for pair in _sections(file))
        steps = track(languages, "Reading descriptions", console=console, transient=True)
        english = {
            row["id"]: "" for file in _files(targets, "Translations", "en") for row in _descriptions(file, sections)
        }
        documents = {}
        for language in steps:
            rows = [row for file in _files(targets, "Translations", language) for row in _descriptions(file, sections)]
            documents[language] = _write(folder / f"{language}.jsonl", rows, english)
        about = _about(targets) | {"documents": documents}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    sums = {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), "utf-8")


# apt ------------------------------------------------------------------------------------------------------------------


def _update(scratch: Path, languages: Sequence[str]) -> list[dict[str, str]]:
    """Have apt fetch its lists into `scratch`; which files there are, and of what they are."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    settings = scratch / "apt.conf"
    wanted = "".join(f'"{language}"; ' for language in languages)
    settings.write_text(_SETTINGS.replace("{languages}", wanted).replace("{folder}", str(scratch)), "utf-8")
    said = _run("apt-get", "-c", str(settings), "update")
    rows = [line.split("|", len(_TARGET) - 1) for line in _run(*_LIST, "-c", str(settings)).splitlines()]
    targets = [dict(zip(_TARGET, row, strict=True)) for row in rows]
    targets = [one for one in targets if one["ORIGIN"] in _ORIGINS and Path(one["FILENAME"]).is_file()]
    for kind, language in (("Packages", ""), ("Translations", "en")):
        if not _files(targets, kind, language):
            raise ConnectionError(
                f"apt got no {kind} of {' or '.join(_ORIGINS)}: {said.strip()[-500:]}\n"
                "Check the connection, and that apt's sources name a mirror of one of the two."
            )
    return targets


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise ConnectionError(f"`{' '.join(command[:1])} {command[-1]}` failed: {said}\nCheck the connection.")
    return done.stdout + done.stderr


def _files(targets: Iterable[Mapping[str, str]], kind: str, language: str = "") -> list[Path]:
    chosen = (one for one in targets if one["CREATED_BY"] == kind and language in ("", one["LANGUAGE"]))
    return [Path(one["FILENAME"]) for one in chosen]


def _about(targets: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The release that is described, and the day of its lists."""
    first = next(one for one in targets if one["CREATED_BY"] == "Translations")
    lists = Path(first["FILENAME"]).parent
    release = next(lists.glob(f"*_dists_{first['RELEASE']}_*Release")).read_text("utf-8")
    date = re.search(r"^Date: (.*)$", release, re.MULTILINE)
    told = {name.lower(): first[name] for name in ("ORIGIN", "CODENAME", "VERSION")}
    return told | {"date": date[1] if date else ""}


# Stanzas --------------------------------------------------------------------------------------------------------------


def _stanzas(file: Path) -> Iterator[list[str]]:
    """The lines of each stanza."""
    with file.open(encoding="utf-8") as lines:
        for filled, stanza in groupby(lines, key=lambda line: line != "\n"):
            if filled:
                yield [line.rstrip("\n") for line in stanza]


def _sections(file: Path) -> Iterator[tuple[str, str]]:
    """The section of each package; `contrib/games` is games."""
    for stanza in _stanzas(file):
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
    for package, digest, head, *body in _stanzas(file):
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
