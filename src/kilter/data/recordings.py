"""Which files are recordings: one list of suffixes, from what libsndfile reads, and the files below a folder.

Departure from a plain listing: hidden files and folders are no part of a folder (macOS leaves `._a.wav` beside a.wav),
and what is sound but cannot be read is told apart from what is no sound at all.
"""

import os
import shlex
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

from kilter.core.names import OTHER, READ, printable

_COMMON = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "au", "caf")


@cache
def readable() -> frozenset[str]:
    """Suffixes, with their dots and in lower case, of what the installed libsndfile reads.

    Example:
        >>> {".wav", ".flac", ".opus", ".aif"} <= readable(), ".m4a" in readable()
        (True, False)
    """
    import soundfile

    formats = soundfile.available_formats()
    return frozenset(f".{suffix}" for suffix, name in READ.items() if (name or suffix.upper()) in formats)


@cache
def unreadable() -> frozenset[str]:
    """Suffixes of what is sound as well, and has to be converted first."""
    return frozenset(f".{suffix}" for suffix in {*READ, *OTHER}) - readable()


def common() -> str:
    """The readable ones that people have, for messages."""
    known = [name for name in _COMMON if f".{name}" in readable()]
    return f"{', '.join(known[:-1])} or {known[-1]}"


def conversion(path: str | os.PathLike[str]) -> str:
    """The command that makes a wav of it.

    Example:
        >>> conversion("my talk.m4a")
        "ffmpeg -i 'my talk.m4a' 'my talk.wav'"
    """
    file = Path(printable(os.fspath(path)))
    made = file.with_stem(f"{file.stem}-converted") if file.suffix.lower() == ".wav" else file.with_suffix(".wav")
    return f"ffmpeg -i {shlex.quote(str(file))} {shlex.quote(str(made))}"


def why_unreadable(path: Path) -> str:
    """What is said of a recording of a kind that libsndfile does not read."""
    return f"{path.suffix} cannot be read ({common()} can); convert it: {conversion(path)}"


def table_of(folder: Path, tables: Container[str]) -> Path | None:
    """The manifest that lies in a folder, in upper or lower case; None where there is none.

    Raises:
        ValueError: There are two, of which one would be passed over.
    """
    found = sorted(file for file in folder.iterdir() if file.name.lower() in tables and file.is_file())
    if len(found) > 1:
        raise ValueError(f"{folder}: has both {found[0].name} and {found[1].name}; keep one, or name the one to read")
    return found[0] if found else None


def below(folder: Path, tables: Container[str] = ()) -> list[tuple[Path, str]]:
    """Recordings in a folder and the folders in it, in order, each with why it has to be left out, or an empty text.

    Args:
        folder: Where to look; links are followed.
        tables: Names of manifests; a folder below this one that holds one is given by that file.

    Raises:
        OSError: A folder cannot be listed.
    """
    return sorted(_walk(folder, tables, {_place(folder)}))


def _walk(folder: Path, tables: Container[str], seen: set[tuple[int, int]]) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as listing:
        entries = [*listing]
    for entry in entries:
        path, suffix, hidden = Path(entry.path), os.path.splitext(entry.name)[1].lower(), entry.name.startswith(".")
        if entry.is_dir():
            if hidden or (place := _place(path)) in seen:
                continue
            seen.add(place)
            table = table_of(path, tables)
            yield from _walk(path, tables, seen) if table is None else [(table, "")]
        elif suffix not in readable() and suffix not in unreadable():
            continue
        elif hidden:
            if not entry.name.startswith("._"):  # those are no recordings
                yield path, "is hidden; rename it if it is to be read"
        elif not entry.is_file() and not entry.is_symlink():
            yield path, "is a device or a pipe and no file"
        else:
            yield path, why_unreadable(path) if suffix in unreadable() else ""


def _place(folder: Path) -> tuple[int, int]:
    """What is the same for all names of a folder, so that a link upwards ends."""
    stat = folder.stat()
    return stat.st_dev, stat.st_ino
