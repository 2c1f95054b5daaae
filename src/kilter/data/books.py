"""Long texts as pairs of a passage and what follows it, and batches that each come from one text.

Source: RankGen (Krishna et al., 2022), §2.2: prefixes of about 256 words, continuations of 10 to 128 words, both
bounded by sentences, every batch from one document. The departure: ours are shorter by default, and continuations do
not overlap, so that of a small text no passage is both the truth and its own negative.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilter.core import sources, tables
from kilter.core.batches import SeededBatches
from kilter.core.names import printable
from kilter.data.download import download
from kilter.data.passages import first_words, last_words, sentences, whole

BOOKS = {
    "Frankenstein_84": ("84-0.txt", "frankenstein.txt"),
    "Moby-Dick--Or-The-Whale_2701": ("2701-0.txt", "moby-dick.txt"),
    "Pride-and-Prejudice_1342": ("1342-0.txt", "pride-and-prejudice.txt"),
}
"""GITenberg's repository of each book: the file there, and our name of it."""
ARCHIVE = "https://codeload.github.com/GITenberg/{}/tar.gz/refs/heads/master"
BLOCK = 32
"""So many pairs in a row go to the same half, so that the halves share hardly any text."""

_MARK = re.compile(r"^\*\*\* ?(START|END) OF TH(?:IS|E) PROJECT GUTENBERG[^\n]*$", re.MULTILINE)
_HEADING = re.compile(
    r"(?:chapter|letter|volume|book|part|epilogue|preface|etymology|contents)\b.{0,60}", re.IGNORECASE
)


class TooShort(ValueError):
    """A text has no two passages of the length wanted."""


@dataclass(frozen=True)
class Pair:
    """A passage and what follows it in one document; `half` is 0 or 1."""

    id: str
    document: str
    prefix: str
    continuation: str
    half: int


def strip_gutenberg(text: str) -> str:
    r"""The book between Project Gutenberg's header and footer; any other text as it is.

    Example:
        >>> strip_gutenberg("x\n*** START OF THIS PROJECT GUTENBERG EBOOK A ***\nCall me.\n*** END OF THIS PROJECT "
        ...                 "GUTENBERG EBOOK A ***\nlicence").strip()
        'Call me.'
    """
    marks = {mark[1]: mark for mark in _MARK.finditer(text)}
    start = marks["START"].end() if "START" in marks else 0
    return text[start : marks["END"].start() if "END" in marks else len(text)]


def paragraphs(text: str) -> list[list[str]]:
    """Sentences of each paragraph of prose; headings, tables of contents and lines that do not end are left out."""
    found = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        parts = sentences(block.replace("_", ""))  # Gutenberg's italics, which no machine would write
        heading = len(parts) and (_HEADING.fullmatch(" ".join(parts)) or " ".join(parts).isupper())
        if parts and not heading and whole(parts[-1]):
            found.append(parts)
    return found


def pairs_of(
    document: str, text: str, *, prefix_words: int = 64, words: tuple[int, int] = (10, 48), seed: int = 0
) -> list[Pair]:
    """Pairs of one text, in order.

    Args:
        document: Name of the text; the ids are `<document>/<sentence at which the continuation begins>`.
        text: The text.
        prefix_words: Most words of a prefix; it has at least half as many.
        words: Shortest and longest continuation; its length is drawn anew for each pair.
        seed: Of the lengths.

    Raises:
        ValueError: A length does not fit, or the text is too short for two pairs (then it is `TooShort`).
    """
    low, high = words
    if not 0 < low <= high or prefix_words < 2:
        raise ValueError(f"prefix_words={prefix_words} must be at least 2, and words={words} from small to large")
    flat = [sentence for parts in paragraphs(strip_gutenberg(text)) for sentence in parts]
    rng = random.Random(f"{seed} {document}")
    found, place = [], 1
    while place < len(flat):
        prefix = last_words(flat[max(0, place - prefix_words) : place], prefix_words)
        following = flat[place : place + high]
        continuation = first_words(following, rng.randint(low, high), high) if prefix else None
        if prefix and continuation and len(continuation.split()) >= low:
            half = len(found) // BLOCK % 2
            found.append(Pair(f"{document}/{place}", document, prefix, continuation, half))
            place += len(sentences(continuation))
        else:
            place += 1
    if len(found) < 2:
        raise TooShort(
            f"{document}: too short ({len(flat)} sentences of prose) for passages of {prefix_words} words and what "
            f"follows them; give longer texts, or set a smaller prefix_words"
        )
    return found


def load_texts(source: str | Path) -> dict[str, str]:
    """Every `.txt` of a folder, also below it, by its name without the ending; or the column `text` of a table, by id.

    Raises:
        ValueError: No such folder or table, no text in it, two of one name, or a text that is not UTF-8 or not a text;
            it is named.
    """
    texts: dict[str, str] = {}
    for name, where, text in (_from_table if sources.is_source(source) else _from_folder)(Path(source)):
        if name in texts:
            raise ValueError(f"{where}: two texts have the name {name!r}; give each its own")
        texts[name] = text
    return texts


def _from_folder(folder: Path) -> Iterator[tuple[str, str, str]]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give a folder of long texts, one .txt for each")
    named = (file for file in sorted(folder.rglob("*")) if file.suffix.lower() == ".txt")
    files = [file for file in named if file.is_file() and not file.name.startswith("._")]  # which macOS leaves behind
    if not files:
        raise ValueError(f"{folder}: has no .txt; put one long text in each file")
    for file in files:
        try:
            text = sources.decode(file.read_bytes())
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
        yield printable(file.relative_to(folder).with_suffix("").as_posix()), str(file), text


def _from_table(table: Path) -> Iterator[tuple[str, str, str]]:
    read, known = sources.read_source(table), (".txt", *tables.SUFFIXES)
    if read.suffix not in known:
        raise ValueError(f"{table}: documents are a folder of .txt, or a file that ends in {', '.join(known)}")
    if read.suffix == ".txt":
        yield table.stem, read.name, read.text
        return
    for number, (where, row) in enumerate(tables.rows(read, read.suffix), start=1):
        if not isinstance(row, Mapping) or not isinstance(row.get("text"), str):
            raise ValueError(f"{where}: needs the document as a text in column 'text', has {tables.shown(row)}")
        name = f"{table.stem} {number}" if row.get("id") in (None, "") else row["id"]
        tables.check_id(name, where)
        yield str(name), where, row["text"]


def load_pairs(folder: str | Path, **options: Any) -> dict[str, list[Pair]]:
    """The pairs of every text of a folder or table, by document; `options` are those of `pairs_of`."""
    return {name: pairs_of(name, text, **options) for name, text in load_texts(folder).items()}


def load_long_pairs(folder: str | Path, **options: Any) -> tuple[dict[str, list[Pair]], list[tuple[str, str]]]:
    """As `load_pairs`, and which files were left out because they are too short, each with the reason.

    Raises:
        ValueError: As `load_texts` and `pairs_of` do, and if no text is long enough.
    """
    found, skipped, ending = {}, [], ".txt" * Path(folder).is_dir()
    for name, text in load_texts(folder).items():
        try:
            found[name] = pairs_of(name, text, **options)
        except TooShort as error:
            skipped.append((f"{name}{ending}", str(error).removeprefix(f"{name}: ")))
    if not skipped and not found:
        raise ValueError(f"{folder}: holds no documents; give one a row, in column text")
    if not found:
        raise ValueError(f"{folder}: none of {len(skipped)} texts is long enough; {skipped[0][0]}: {skipped[0][1]}")
    return found, skipped


def before(pairs: Sequence[Pair], cut: int) -> list[Pair]:
    """The pairs of a text before the one at `cut`, without those whose continuation that one's prefix shows."""
    first = _place(pairs[cut]) - len(sentences(pairs[cut].prefix))
    return [pair for pair in pairs[:cut] if _place(pair) + len(sentences(pair.continuation)) <= first]


def _place(pair: Pair) -> int:
    """Sentence of the text at which the continuation begins."""
    return int(pair.id.rpartition("/")[2])


def fetch_books(repositories: Sequence[str], checksums: Mapping[str, str], folder: Path, *, progress: bool) -> None:
    """Fetch the books from GITenberg's archives, under our names for them."""
    import os

    archive = os.environ.get("KILTER_BOOKS_URL", ARCHIVE)
    for repository in repositories:
        theirs, ours = BOOKS[repository]
        download(archive.format(repository), {theirs: checksums[ours]}, folder, title=repository, progress=progress)
        (folder / theirs).rename(folder / ours)


class OneDocumentBatches(SeededBatches):
    """Batches of indices, each from one document; every epoch in another order, the same for the same seed.

    RankGen takes the other continuations of a batch as negatives, so it must not mix documents. What does not fill a
    batch is left out this epoch. A document smaller than a batch gives one batch of all it has (two at least).
    Fits `DataLoader(batch_sampler=…)`; `for_sentence_transformers` makes the trainer of that library use it.

    Args:
        documents: The document of each row.
        batch_size: Rows in a batch, at least 2.
        seed: Of the order.

    Example:
        >>> batches = OneDocumentBatches(["a", "b", "a", "b", "a"], batch_size=2, seed=0)
        >>> sorted(sorted(batch) for batch in batches) == [[0, 2], [1, 3]] or len(batches)
        2
    """

    def __init__(self, documents: Sequence[Any], batch_size: int, seed: int = 0) -> None:
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size} leaves no negative; it must be at least 2")
        super().__init__(batch_size, seed)
        self._rows: dict[Any, list[int]] = {}
        for row, document in enumerate(documents):
            self._rows.setdefault(document, []).append(row)
        if alone := [str(name) for name, rows in self._rows.items() if len(rows) < 2]:
            raise ValueError(f"document {alone[0]} has one pair only, so no negative; leave it out or make it longer")

    def __len__(self) -> int:
        return sum(max(1, len(rows) // self.batch_size) for rows in self._rows.values())

    def order(self) -> list[list[int]]:
        """The batches of the epoch one is in."""
        rng, size, batches = random.Random(f"{self.seed} {self.epoch}"), self.batch_size, []
        for rows in self._rows.values():
            mixed = rng.sample(rows, len(rows))
            batches += [mixed[start : start + size] for start in range(0, max(1, len(mixed) - size + 1), size)]
        rng.shuffle(batches)
        return batches

    @classmethod
    def for_sentence_transformers(cls, dataset: Any, batch_size: int, *, seed: int = 0, **_: Any) -> Any:
        """For `SentenceTransformerTrainingArguments(batch_sampler=…)`; a column `label` holds the document."""
        return cls(dataset["label"], batch_size, seed)
