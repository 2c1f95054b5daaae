"""Sentences to learn from without labels: the user's own, or the head of SimCSE's Wikipedia sentences.

Source: Gao, Yao, Chen, SimCSE (EMNLP 2021), wiki1m_for_simcse.txt, of which the first 11,914 lines are at hand. The
departure: the articles are told apart by their titles, which stand there as lines.
"""

import re

from kilter.data.assets import Located, locate
from kilter.data.text_rows import read_rows, text_in

WIKIPEDIA = "wiki_head.txt"
COLUMNS = ("text", "sentence", "sentence1", "sentence_1", "content")
"""Names that a column of sentences may have."""

_ENDS = re.compile(r"[.!?…:;,][\"'”’)\]]*$")
_WORD = re.compile(r"[^\W_]{3,}")
_TITLE_WORDS = 12


def read_sentences(source: str) -> list[str]:
    """Read the user's sentences, in their order; one that stands twice stays twice.

    Args:
        source: A `.txt` or `.md` with a sentence a line; a `.csv`, `.json`, `.jsonl` or `.ndjson` with a column `text`
            (or another of `COLUMNS`); a pipe, or a hub id: see `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, or a sentence is empty or no text; the line is named.
    """
    return [
        text_in(row, COLUMNS, where)
        for where, row in read_rows(source, {"text": COLUMNS}, what="sentences", plain="line")
    ]


def locate_wikipedia() -> Located:
    """Where the Wikipedia sentences are, and whom to credit.

    Raises:
        FileNotFoundError: They are not here and cannot be fetched.
    """
    return locate("wiki-simcse", progress=False)


def wikipedia_sentences() -> list[str]:
    """11,914 lines of Wikipedia in the order of the articles, titles among them, as SimCSE is trained on them."""
    text = (locate_wikipedia().path / WIKIPEDIA).read_text("utf-8")
    return text.split("\n")[:-1]  # the file ends in the middle of a line


def wikipedia_documents() -> list[list[str]]:
    """The same articles as lists of their sentences, without the titles; those of one sentence too."""
    return articles(wikipedia_sentences())


def articles(lines: list[str]) -> list[list[str]]:
    """Articles out of lines in which a title stands before each.

    Example:
        >>> articles(["Loch Lomond", "Loch Lomond is a lake.", "It is deep.", "Tirana", "Tirana is a city."])
        [['Loch Lomond is a lake.', 'It is deep.'], ['Tirana is a city.']]
    """
    found: list[list[str]] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if is_title(line, following):
            found.append([])
        elif found:
            found[-1].append(line.strip())
        else:
            found.append([line.strip()])
    return [sentences for sentences in found if sentences]


def is_title(line: str, following: str) -> bool:
    """Whether a line is a title: short, it does not end as a sentence, and what follows begins with a word of it.

    Example:
        >>> is_title("Hungama 2", "Hungama 2 is a film."), is_title("1960s", "Graeme Irvine.")
        (True, False)
    """
    words = {word.lower() for word in _WORD.findall(line)}
    begun = {word.lower() for word in _WORD.findall(following)[: 2 * _TITLE_WORDS]}
    short = len(line.split()) <= _TITLE_WORDS and len(line) < len(following)
    return short and not _ENDS.search(line.strip()) and bool(words & begun)
