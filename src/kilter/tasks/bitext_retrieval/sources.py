"""Where documents and pairs come from: Debian's package descriptions and Tatoeba, or the user's own files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from kilter.core.sources import by_name, check_reread
from kilter.lab.files import read_json
from kilter.lab.recipe import Provenance
from kilter.tasks.bitext_retrieval.corpus import (
    Corpus,
    Count,
    Pair,
    Sentences,
    Split,
    fit_to_judge,
    learnt_strings,
    part_of,
    shared_out,
)

if TYPE_CHECKING:
    from kilter.data.documents import Document

_WORDS = 4
"""Words of a test sentence of Debian in the pivot, at least: shorter ones are names and headings."""


def by_language(option: str, given: Sequence[str]) -> dict[str, str]:
    """What `--train en=docs.txt de=more/` says, by language.

    Raises:
        ValueError: no language before a source, or one twice.

    Example:
        >>> by_language("train", ["en=docs.txt", "de=more/"])
        {'en': 'docs.txt', 'de': 'more/'}
    """
    return by_name(option, given, of="language", example="en")


def debian(
    languages: Sequence[str], pivot: str, *, documents: int, test_pairs: int, split: Split, kept: Path | None = None
) -> Corpus:
    """Descriptions of Debian's packages, judged on those of packages held out and, as a test, on Tatoeba.

    To read all of them takes half a minute; `kept` is a file that may hold what was made of them.

    Raises:
        FileNotFoundError: one of the two is not here and cannot be fetched.
        ValueError: there are no descriptions in a language.
    """
    from kilter.data.debian_descriptions import descriptions, locate_descriptions

    credit = Provenance(**locate_descriptions().credit())
    if kept is not None and kept.exists():
        return Corpus.from_plain(read_json(kept), credit)
    found = descriptions((pivot, *languages))
    pools = {language: [one for one in some if part_of(one.id) == "train"] for language, some in found.items()}
    learnt = learnt_strings({language: [one.sentences for one in some] for language, some in pools.items()})
    count, pairs = Count(), {}
    held = {one.id: one for one in found[pivot] if part_of(one.id) == split}
    for language in languages:
        aligned = _aligned(found[language], held)
        pairs[language] = fit_to_judge(aligned, language, pivot, test_pairs, learnt, count)
    tests = {"debian": pairs} | ({"tatoeba": _tatoeba(languages, test_pairs)} if split == "test" else {})
    shared = shared_out(pools, documents)
    return _corpus(shared, tests, credit, [count.said("Debian")])


def own(train: Mapping[str, str], judged: Mapping[str, str], pivot: str, *, documents: int, test_pairs: int) -> Corpus:
    """The user's documents by language, judged on the user's pairs of translations, or on Tatoeba's.

    Raises:
        ValueError: a file is not what it should be, has no document of two sentences, or is a pipe.
        FileNotFoundError: there are no pairs, and Tatoeba is not here.
    """
    from kilter.data.bitext import read_pairs
    from kilter.data.documents import read_documents

    for source in train.values():
        check_reread("documents", train=source)
    for source in judged.values():
        check_reread("pairs", eval=source)
    languages = (pivot, *(one for one in train if one != pivot))
    pools = {language: [*_named(language, read_documents(train[language]))] for language in languages}
    shared = shared_out(pools, documents)
    for language, some in shared.items():
        if not some:
            raise ValueError(f"--train {language}={train[language]}: no document has two sentences to learn from")
    learnt, count, tests = learnt_strings(shared), Count(), {}
    for language, file in judged.items():
        pairs = (Pair(str(place), *pair) for place, pair in enumerate(read_pairs(file)))
        tests[language] = fit_to_judge(pairs, language, pivot, test_pairs, learnt, count)
        if len(tests[language]) < 2:
            raise ValueError(f"--eval {language}={file}: fewer than two pairs are left to judge on: {count}")
    many = sum(map(len, shared.values()))
    title = f"your documents: {many} in {', '.join(shared)}"
    digest = sha256(repr((sorted(shared.items()), sorted(tests.items()))).encode()).hexdigest()[:16]
    credit = Provenance(title, source=", ".join([*train.values(), *judged.values()]), digest=digest)
    if judged:
        return _corpus(shared, {"pairs": tests}, credit, [count.said("Your pairs")])
    return _corpus(shared, {"tatoeba": _tatoeba([one for one in shared if one != pivot], test_pairs)}, credit, [])


def _named(language: str, documents: "Iterable[Document]") -> "Iterator[Document]":
    """With ids of their own in each language: two files of one name are two documents."""
    return (replace(one, id=f"{language} {one.id}") for one in documents)


def _aligned(documents: "Iterable[Document]", held: "Mapping[str, Document]") -> Iterator[Pair]:
    """Sentences of the same package: of the summary, and of all where there are as many in both languages."""
    for one in documents:
        other = held.get(one.id)
        if other is None:
            continue
        many = len(one.sentences) if len(one.sentences) == len(other.sentences) else 1
        for place, (foreign, pivot) in enumerate(zip(one.sentences[:many], other.sentences[:many], strict=True)):
            if len(pivot.split()) >= _WORDS:
                yield Pair(f"{one.id}/{place}", foreign, pivot)


def _tatoeba(languages: Sequence[str], most: int) -> dict[str, list[Pair]]:
    """As published, but for the number; languages that it does not have are left out."""
    from kilter.data.bitext import tatoeba_pairs

    return {
        language: [Pair(str(place), *pair) for place, pair in enumerate(tatoeba_pairs(language)[:most])]
        for language in languages
    }


def _corpus(
    documents: Mapping[str, Sequence[Sentences]],
    tests: Mapping[str, Mapping[str, Sequence[Pair]]],
    credit: Provenance,
    notes: Sequence[str],
) -> Corpus:
    return Corpus(documents, tests, credit, [one for one in notes if one])
