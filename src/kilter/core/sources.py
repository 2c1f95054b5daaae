"""What a file or a pipe says, as text; standard library only.

Every command that reads text of the user's reads it here, so that marks, encodings, ends of lines and pipes are the
same for all.
"""

import codecs
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PIPE = "-"
LINES = (".txt", ".md")
"""Suffixes of files that hold a text a line, where a command takes such."""

_OPENED = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


class Source(NamedTuple):
    """What was read.

    Attributes:
        name: what errors call it.
        suffix: of its name, in lower case; empty for a pipe without one.
        text: all of it.
    """

    name: str
    suffix: str
    text: str


def is_source(source: str | Path) -> bool:
    """Whether there is something to read: `-` for standard input, a file, or a pipe that has a name."""
    return is_pipe(source) or Path(source).is_file()


def is_pipe(source: str | Path) -> bool:
    """Whether it can be read only once: `-`, `/dev/stdin`, a named pipe, `<(…)` of a shell.

    Example:
        >>> is_pipe("-"), is_pipe("table.csv")
        (True, False)
    """
    path = Path(source)
    opened = str(source).startswith(_OPENED)  # may be a file that the shell has opened: `< table.csv`
    return str(source) == PIPE or (path.exists() and not path.is_dir() and (opened or not path.is_file()))


def check_reread(what: str, **sources: str | None) -> None:
    """Check that what a run reads more than once is not a pipe.

    Example:
        >>> check_reread("prompts", data="-")
        Traceback (most recent call last):
        ValueError: --data -: a run reads its prompts more than once; put them into a file

    Raises:
        ValueError: one of the sources, which are called as the options that name them, is a pipe.
    """
    for option, source in sources.items():
        if source is not None and is_pipe(source):
            raise ValueError(f"--{option} {source}: a run reads its {what} more than once; put them into a file")


def by_name(option: str, given: Sequence[str], *, of: str, example: str) -> dict[str, str]:
    """What an option such as `--train en=docs.txt de=more/` says, by name.

    Args:
        option: the one that it is.
        given: what was given for it.
        of: what the names are of, e.g. "language".
        example: a name, for messages.

    Raises:
        ValueError: no name before a source, or one twice.

    Example:
        >>> by_name("train", ["en=docs.txt", "de=more/"], of="language", example="en")
        {'en': 'docs.txt', 'de': 'more/'}
    """
    found: dict[str, str] = {}
    for one in given:
        name, _, source = one.partition("=")
        if not (name and source) or Path(one).exists():
            asked = f"--{option} {example}={one or 'docs.txt'}"
            raise ValueError(f"--{option} {one}: say of which {of} it is, as in {asked}")
        if name in found:
            raise ValueError(f"--{option} has {name} twice, {found[name]} and {source}; give one source")
        found[name] = source
    return found


def read_source(source: str | Path) -> Source:
    """Read a file, or a pipe to its end.

    Raises:
        ValueError: it is no text in UTF-8 or UTF-16; the line is named.
    """
    if str(source) == PIPE:
        return Source(name := "standard input", "", _decoded(sys.stdin.buffer.read(), name))
    return Source(str(source), Path(source).suffix.lower(), _decoded(Path(source).read_bytes(), str(source)))


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, with a mark or without, or UTF-16 with one, as Excel and Praat write it.

    Lines end in a line feed, also those of Windows and of old Macs.

    Example:
        >>> decode("ā".encode("utf-16"))
        'ā'

    Raises:
        UnicodeDecodeError: it is neither, or holds NUL bytes, which no text does.
    """
    marked = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = data.decode("utf-16" if marked else "utf-8-sig")
    if "\0" in text:
        at = data.find(b"\0\0" if marked else b"\0")
        raise UnicodeDecodeError("utf-16" if marked else "utf-8", data, at, at + 1, "a NUL, which no text holds")
    return _line_feeds(text.lstrip("\ufeff"))  # where two tools have marked it


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _decoded(data: bytes, name: str) -> str:
    try:
        return decode(data)
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", data[: error.start])) + 1
        raise ValueError(
            f"{name}: is not UTF-8: line {line} is neither UTF-8 nor UTF-16 ({error}); save it as UTF-8"
        ) from error


def lines(text: str) -> list[str]:
    r"""The lines of a text, which end as on Unix, Windows or old Macs, and nowhere else: not at U+2028.

    Example:
        >>> lines("one\r\ntwo\u2028three\n")
        ['one', 'two\u2028three']
    """
    return _line_feeds(text).removesuffix("\n").split("\n") if text else []
