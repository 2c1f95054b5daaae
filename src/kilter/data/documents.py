"""The user's documents as lists of their sentences: a folder, one text, or a table.

The departure from a reader of lines: a sentence's neighbours count, so that the order is kept, documents are never
joined, and prose that is broken into lines is put together before it is cut into sentences.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from kilter.core import sources, tables
from kilter.core.names import printable
from kilter.data.passages import sentences, whole
from kilter.data.text_rows import cell, read_rows, text_in

TEXT = ("text", "sentence", "content", "body")
DOCUMENT = ("document", "id", "doc", "title")
"""Names that the columns of a table of documents may have."""

_BLANK = re.compile(r"\n[ \t]*\n\s*")


@dataclass(frozen=True)
class Document:
    """Sentences in their order.

    Attributes:
        id: Of the document; the translations of one have the same.
        sentences: At least one.
        section: What it is about, where that is known.
    """

    id: str
    sentences: tuple[str, ...]
    section: str = ""


def read_documents(source: str) -> list[Document]:
    """Read the user's documents.

    Args:
        source: A folder, in which (and below which) each `.txt` is a document; a `.txt` or `.md` with a blank line
            between documents; a `.csv`, `.json`, `.jsonl` or `.ndjson` with a column `text`, in which a row is a
            document, or all rows are that have the same in a column `document`; a pipe, or a hub id: see
            `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, a text is empty or no text, or the rows of a document do not
            follow each other; the file or line is named.
    """
    folder = Path(source)
    return [*(_from_folder(folder) if folder.is_dir() else _from_rows(source))]


def sentences_of(text: str) -> tuple[str, ...]:
    r"""The sentences of a document's text, in order.

    Where at least half of the lines of a paragraph, but for the last, end as sentences do, each line is read by itself.
    Else it is prose that was broken where the page ends, and its lines are joined first.

    Example:
        >>> sentences_of("It rains. We\nstay in bed\ntoday.\n\nAll day.")
        ('It rains.', 'We stay in bed today.', 'All day.')
        >>> sentences_of("It rains.\nRain\nWe stay. All day.")
        ('It rains.', 'Rain', 'We stay.', 'All day.')
    """
    found = []
    for paragraph in _BLANK.split(text):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        broken = 2 * sum(whole(line.strip()) for line in lines[:-1]) < len(lines[:-1])
        found += [one for part in ([" ".join(lines)] if broken else lines) for one in sentences(part)]
    return tuple(found)


def _from_folder(folder: Path) -> Iterator[Document]:
    named = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() == ".txt")
    files = [file for file in named if file.is_file() and not file.name.startswith("._")]  # which macOS leaves behind
    if not files:
        raise ValueError(f"{folder}: has no .txt; put one document in each file")
    for file in files:
        name = printable(file.relative_to(folder).with_suffix("").as_posix())
        if not (found := sentences_of(sources.read_source(file).text)):
            raise ValueError(f"{file}: the document is empty; write it, or remove the file")
        yield Document(name, found)


def _from_rows(source: str) -> Iterator[Document]:
    rows = read_rows(source, {"text": TEXT}, what="documents", plain="block")
    begun: dict[str, str] = {}
    for name, parts in groupby(((_name(row, where), where, row) for where, row in rows), key=lambda part: part[0]):
        _, where, first = first_part = next(parts)
        if name in begun:
            raise ValueError(f"{where}: document {name!r} has begun in {begun[name]} already; put its rows together")
        begun[name] = where
        texts = [text_in(row, TEXT, place) for _, place, row in (first_part, *parts)]
        yield Document(
            name, tuple(one for text in texts for one in sentences_of(text)), str(first.get("section") or "")
        )


def _name(row: Mapping[str, Any], where: str) -> str:
    if (given := cell(row, DOCUMENT)) is None:
        return where
    tables.check_id(given[1], where)
    return str(given[1])
