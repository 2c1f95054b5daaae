"""Debian's package descriptions with their translations: free, multilingual documents of many domains.

Source: the Debian Description Translation Project, through apt (`kilter.data.apt_descriptions`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kilter.core.errors import suggest
from kilter.data.apt_descriptions import LANGUAGES
from kilter.data.assets import Located, locate
from kilter.data.documents import Document
from kilter.data.passages import sentences


def locate_descriptions() -> Located:
    """Where the descriptions are, of what day, and whom to credit.

    Raises:
        FileNotFoundError: They are not here and cannot be fetched.
    """
    return locate("debian-descriptions", progress=False)


def descriptions(languages: Iterable[str] = ("en",)) -> dict[str, list[Document]]:
    """The documents of each language, in the order of the English packages.

    A document's id is the MD5 of its English text, so that translations of one text have one id; its sentences are the
    summary and the sentences of the paragraphs; lines that are set apart, as of a list, are sentences of their own.

    Args:
        languages: Of `LANGUAGES`; codes of ISO 639-1, perhaps with a country.

    Raises:
        ValueError: There is no such language, or a file is broken.
        FileNotFoundError: The descriptions are not here and cannot be fetched.
    """
    languages = [*languages]
    if strange := next((one for one in languages if one not in LANGUAGES), None):
        raise ValueError(f"no package descriptions in {strange!r}{suggest(strange, LANGUAGES)}")
    folder = locate_descriptions().path
    return {language: _read(folder / f"{language}.jsonl") for language in languages}


def _read(file: Path) -> list[Document]:
    if not file.is_file():
        raise ValueError(f"{file}: missing; delete the folder and run `kilter fetch debian-descriptions`")
    rows = (json.loads(line) for line in file.read_text("utf-8").splitlines())
    return [Document(row["id"], tuple(_sentences(row)), row["section"]) for row in rows]


def _sentences(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["summary"]
    for line in "\n".join(row["paragraphs"]).split("\n"):
        yield from sentences(line)
