"""apt, as a client of the machine's own Debian or Ubuntu mirror: its lists, and packages that are not installed.

The departure from calling it plainly: apt keeps its lists in a folder of the caller's, so that neither root is needed
nor anything of the system's changes, and what the system's lists are too old for does not matter.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from kilter.data.catalogue import ABOUT, SUMS

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


def update(scratch: Path, languages: Sequence[str]) -> list[dict[str, str]]:
    """Have apt fetch its lists into `scratch`; which files there are, and of what they are.

    Args:
        scratch: An empty folder; `settings_in` names apt's settings there.
        languages: Of the descriptions that are fetched too; none where it is empty.

    Raises:
        ConnectionError: apt could not get them; its own words are in the message.
    """
    for name in ("state/lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    settings = settings_in(scratch)
    wanted = "".join(f'"{language}"; ' for language in languages or ("none",))
    settings.write_text(_SETTINGS.replace("{languages}", wanted).replace("{folder}", str(scratch)), "utf-8")
    said = run("apt-get", "-c", str(settings), "update")
    rows = [line.split("|", len(_TARGET) - 1) for line in run(*_LIST, "-c", str(settings)).splitlines()]
    targets = [dict(zip(_TARGET, row, strict=True)) for row in rows]
    targets = [one for one in targets if one["ORIGIN"] in _ORIGINS and Path(one["FILENAME"]).is_file()]
    for kind, language in (("Packages", ""), ("Translations", "en"))[: 1 + bool(languages)]:
        if not files(targets, kind, language):
            raise ConnectionError(
                f"apt got no {kind} of {' or '.join(_ORIGINS)}: {said.strip()[-500:]}\n"
                "Check the connection, and that apt's sources name a mirror of one of the two."
            )
    return targets


def settings_in(scratch: Path) -> Path:
    """The settings under which apt keeps to the folder `scratch`."""
    return scratch / "apt.conf"


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command says.

    Raises:
        ConnectionError: It failed; its own words are in the message.
    """
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise ConnectionError(f"`{' '.join(command[:1])} {command[-1]}` failed: {said}\nCheck the connection.")
    return done.stdout + done.stderr


def files(targets: Iterable[Mapping[str, str]], kind: str, language: str = "") -> list[Path]:
    """The lists of a kind, and of a language where one is named."""
    chosen = (one for one in targets if one["CREATED_BY"] == kind and language in ("", one["LANGUAGE"]))
    return [Path(one["FILENAME"]) for one in chosen]


def write_about(folder: Path, targets: Iterable[Mapping[str, str]], kind: str, **more: Any) -> None:
    """Write down of what release and day the folder's files are, by apt's lists of a kind, and their checksums."""
    first = next(one for one in targets if one["CREATED_BY"] == kind)
    lists = Path(first["FILENAME"]).parent
    release = next(lists.glob(f"*_dists_{first['RELEASE']}_*Release")).read_text("utf-8")
    date = re.search(r"^Date: (.*)$", release, re.MULTILINE)
    told = {name.lower(): first[name] for name in ("ORIGIN", "CODENAME", "VERSION")}
    about = {**told, "date": date[1] if date else "", **more}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    sums = {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), "utf-8")


def stanzas(file: Path) -> Iterator[list[str]]:
    """The lines of each stanza."""
    with file.open(encoding="utf-8") as lines:
        for filled, stanza in groupby(lines, key=lambda line: line != "\n"):
            if filled:
                yield [line.rstrip("\n") for line in stanza]
