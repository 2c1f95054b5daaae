"""Pairs of texts by domain: summary and description of Debian's packages, section by section, or the user's own files.

The departure from the descriptions as they are: packages of one source share text, so that one would give the other
away; of those that do one is kept.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kilter.core.errors import suggest
from kilter.data import debian_descriptions
from kilter.data.documents import Document
from kilter.data.text_rows import Columns, pair_in, read_rows

Pairs = dict[str, list[tuple[str, str]]]
"""Pairs of each domain, by its name."""

COLUMNS: Columns = {
    "text1": ("text1", "text_1", "sentence1", "sentence_1", "anchor", "query", "question", "title", "summary", "first"),
    "text2": (
        *("text2", "text_2", "sentence2", "sentence_2", "positive", "passage", "document", "answer"),
        *("abstract", "description", "text", "second"),
    ),
}
"""Names that the two columns of pairs may have; a table of just two columns needs none of them."""

_OFTEN = 10
"""What stands in more descriptions than these is everybody's: it links none of them."""
_ROW = 8
"""So many words in a row are not in two descriptions by chance."""
_OWN = 10
"""Words that a description needs which are not everybody's."""
_WORD = re.compile(r"\w+")


def debian_domains(sections: Iterable[str]) -> Pairs:
    """Summary and description of Debian's packages, of each section one domain, in the order of the packages.

    Pairs can be parted at will into those to learn from and those to be judged on, for no eight words in a row stand
    in two descriptions: of packages of these sections that share so many (as a library, its headers and its manual do),
    also through others, that with the shortest summary is kept. What more than ten have alike ("This package contains
    the data needed for …") does not count: as a sentence it is left out, and a description needs ten words beside.
    Later packages of the same summary are left out as well.

    Args:
        sections: Of Debian, e.g. `games`, `science`, `sound`.

    Raises:
        ValueError: There is no such section.
        FileNotFoundError: The descriptions are not here and cannot be fetched.
    """
    documents, sections = debian_descriptions.descriptions(["en"])["en"], [*sections]
    known = {document.section for document in documents} - {""}
    if strange := [one for one in sections if one not in known]:
        raise ValueError(f"Debian has no section {strange[0]!r}{suggest(strange[0], sorted(known))}")
    found: dict[str, dict[str, tuple[str, str]]] = {section: {} for section in sections}
    for section, summary, text in _apart([document for document in documents if document.section in found]):
        found[section].setdefault(_plain(summary), (summary, text))
    return {section: [*pairs.values()] for section, pairs in found.items()}


def read_domains(sources: Mapping[str, str]) -> Pairs:
    """Read the user's pairs, a source for each domain.

    Args:
        sources: By the domain's name a `.csv`, `.json`, `.jsonl` or `.ndjson` with two columns, called `text1` and
            `text2`, `anchor` and `positive`, or as in `COLUMNS`, or anything if there are no others; a pipe, or a hub
            id: see `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, or a text is empty or no text; the line is named.
    """
    return {
        domain: [pair_in(row, COLUMNS, where) for where, row in read_rows(source, COLUMNS, what="pairs")]
        for domain, source in sources.items()
    }


def _apart(documents: Sequence[Document]) -> Iterator[tuple[str, str, str]]:
    """Section, summary and text of those that are kept."""
    sentences = Counter(one for document in documents for one in {*map(_plain, document.sentences)})
    texts = [
        " ".join(one for one in rest if sentences[_plain(one)] <= _OFTEN and _plain(one) != _plain(summary))
        for summary, *rest in (document.sentences for document in documents)
    ]
    summaries = [document.sentences[0] for document in documents]
    rows = [_rows(text) for text in texts]
    count = Counter(row for some in rows for row in {*some})
    linked = _linked([{row for row in some if count[row] <= _OFTEN} for some in rows])
    kept: dict[int, int] = {}
    for place, end in enumerate(linked):
        if len(summaries[place]) < len(summaries[kept.setdefault(end, place)]):
            kept[end] = place
    for place in sorted(kept.values()):
        everybodys = {at + step for at, row in enumerate(rows[place]) if count[row] > _OFTEN for step in range(_ROW)}
        if len(_WORD.findall(texts[place])) - len(everybodys) >= _OWN:
            yield documents[place].section, summaries[place], texts[place]


def _rows(text: str) -> list[str]:
    """All words in a row of the length that counts."""
    words = _WORD.findall(text.casefold())
    return [" ".join(words[at : at + _ROW]) for at in range(len(words) - _ROW + 1)]


def _linked(sets: Sequence[Iterable[str]]) -> list[int]:
    """For each set a number, which is the same for those that have something in common, also through others.

    Example:
        >>> _linked([{"a"}, {"b"}, {"a", "c"}, {"c"}])
        [0, 1, 0, 0]
    """
    link = [*range(len(sets))]
    first: dict[str, int] = {}

    def end(place: int) -> int:
        while link[place] != place:
            link[place] = link[link[place]]  # a shorter way for the next
            place = link[place]
        return place

    for place, some in enumerate(sets):
        for one in some:
            older, newer = sorted((end(first.setdefault(one, place)), end(place)))
            link[newer] = older
    return [end(place) for place in range(len(sets))]


def _plain(sentence: str) -> str:
    return " ".join(sentence.casefold().split())
