"""The user's texts as whole documents, to learn a language from: files, patterns of files, folders, or the hub.

The departure from documents as lists of sentences: nothing is cut or joined, and of a data set of the hub no more is
fetched than is asked for.
"""

import re
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from kilter.core import sources
from kilter.core.names import printable
from kilter.data.documents import TEXT
from kilter.data.text_rows import read_rows, text_in

_BLANK = re.compile(r"\n[ \t]*\n\s*")
_LINE_END = re.compile(r"\n\s*")
_SPACE = re.compile(r"\s+")


def read_texts(source: str, *, most: int = 0) -> list[str]:
    """Read documents, in order.

    Args:
        source: A `.txt` or `.md`, which is one document; a `.csv`, `.json`, `.jsonl` or `.ndjson` with a column `text`,
            in which a row is one; a folder of `.txt`; a pattern of such files, `texts/*.txt` (`**` is any folder); or a
            hub id, `org/name`, `org/name:config` or `org/name:config:split`, which is streamed.
        most: Characters after which reading stops; 0 reads all.

    Raises:
        ValueError: There is no such source, it is broken or holds no text; the file or line is named.
    """
    found, read = [], 0
    for text in _documents(source):
        found.append(text)
        read += len(text)
        if most and read >= most:
            break
    if not found:
        raise ValueError(f"{printable(source)}: holds no text; write some, or leave it out")
    return found


def pieces(text: str, least: int) -> list[str]:
    r"""A document cut where blank lines are, else at ends of lines, into pieces of at least so many characters.

    What is at least twice as long between two of them is cut inside: at ends of lines, else at white space, and where
    there is none (Chinese has none) between two letters.

    Example:
        >>> pieces("one\n\ntwo\n\nthree", 5)
        ['one\n\ntwo', 'three']
        >>> pieces("one\ntwo", 2)
        ['one', 'two']
        >>> pieces("one two three four five", 6)
        ['one two', 'three four', 'five']
    """
    parts, joint = _BLANK.split(text), "\n\n"
    if len(parts) < 2:
        parts, joint = text.split("\n"), "\n"
    found: list[str] = []
    for part in (some for whole in parts for some in _within(whole, least)):
        if found and len(found[-1]) < least:
            found[-1] += joint + part
        else:
            found.append(part)
    return [piece for piece in found if piece.strip()]


def _within(part: str, least: int) -> Iterator[str]:
    """A part cut at ends of lines or else between words, in pieces of at least so many characters, but for the last."""
    start = 0
    while len(part) - start >= 2 * least > 0:
        room = start + least, start + 2 * least
        space = _LINE_END.search(part, *room) or _SPACE.search(part, *room)
        end = space.start() if space else start + least
        yield part[start:end]
        start = space.end() if space else end
    yield part[start:]


def without_lines(texts: Iterable[str], of: Iterable[str], *, least: int = 20) -> tuple[list[str], int]:
    r"""Texts without the lines that other texts have too, and how many lines were left out.

    Args:
        texts: To clean.
        of: The others.
        least: Letters below which a line does not count: a heading, a number, a blank line.

    Example:
        >>> without_lines(["It rains all day today.\nWe stay."], ["It rains all day today."], least=8)
        (['We stay.'], 1)
    """
    known = {line.strip() for text in of for line in text.split("\n") if len(line.strip()) >= least}
    found, left = [], 0
    for text in texts:
        lines = text.split("\n")
        kept = [line for line in lines if line.strip() not in known]
        left += len(lines) - len(kept)
        if len(kept) == len(lines) or any(len(line.strip()) >= least for line in kept):  # else headings are left
            found.append("\n".join(kept))
    return found, left


def _documents(source: str) -> Iterator[str]:
    if has_magic(source) and not Path(source).exists():
        files = sorted(file for file in glob(source, recursive=True) if Path(file).is_file())
        if not files:
            raise ValueError(f"{printable(source)}: no file is called so; mend the pattern")
        for file in files:
            yield from _of_file(file)
    elif Path(source).is_dir():
        files = sorted(str(file) for file in Path(source).rglob("*.txt") if not file.name.startswith("._"))
        if not files:
            raise ValueError(f"{printable(source)}: has no .txt; put one document in each file")
        for file in files:
            yield from _of_file(file)
    else:
        yield from _of_file(source)


def _of_file(source: str) -> Iterator[str]:
    if Path(source).suffix.lower() in sources.LINES and sources.is_source(source):
        text = sources.read_source(source).text
        yield from [text] * bool(text.strip())
        return
    for where, row in read_rows(source, {"text": TEXT}, what="texts", plain="block", streaming=True):
        yield text_in(row, TEXT, where)
