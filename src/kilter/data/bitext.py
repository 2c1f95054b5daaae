"""Sentences with their translations: the user's own, or Tatoeba's thousand a language.

Source: Artetxe & Schwenk, LASER (TACL 2019), the test set of 112 languages, drawn from tatoeba.org in 2018. The
departure: languages are asked for by the codes that people type (de, pt_BR, zh), not by those of the files (deu, cmn).
"""

from pathlib import Path

from kilter.core.errors import suggest
from kilter.data.assets import ASSETS, Located, locate
from kilter.data.text_rows import Columns, pair_in, read_rows

COLUMNS: Columns = {
    "source": ("source", "foreign", "sentence1", "text1", "anchor", "non_english", "src"),
    "target": ("target", "english", "sentence2", "text2", "positive", "tgt"),
}
"""Names that the two columns of translations may have; a table of just two columns needs none of them."""

_PAIRS = """
af:afr am:amh ar:ara ast:ast az:aze be:bel bg:bul bn:ben br:bre bs:bos ca:cat ch:cha cs:ces cy:cym da:dan de:deu
el:ell eo:epo es:spa et:est eu:eus fa:pes fi:fin fo:fao fr:fra fy:fry ga:gle gd:gla gl:glg he:heb hi:hin hr:hrv
hu:hun hy:hye ia:ina id:ind io:ido is:isl it:ita ja:jpn jv:jav ka:kat kk:kaz km:khm ko:kor ku:kur kw:cor la:lat
lt:lit lv:lvs mk:mkd ml:mal mn:mon mr:mar ms:zsm nb:nob nl:nld nn:nno no:nob oc:oci pl:pol pt:por ro:ron ru:rus
sk:slk sl:slv sq:sqi sr:srp sv:swe sw:swh ta:tam te:tel th:tha tk:tuk tl:tgl tr:tur tt:tat ug:uig uk:ukr ur:urd
uz:uzb vi:vie xh:xho yi:yid zh:cmn
"""
_CODES = {name: code for name, _, code in (pair.partition(":") for pair in _PAIRS.split())}
"""ISO 639-1 to the codes of Tatoeba's files; of a macrolanguage the member that is there."""


def read_pairs(source: str) -> list[tuple[str, str]]:
    """Read the user's translations, in their order.

    Args:
        source: A `.csv`, `.json`, `.jsonl` or `.ndjson` with two columns, called `source` and `target`, or as in
            `COLUMNS`, or anything if there are no others; a pipe, or a hub id: see `kilter.data.text_rows.read_rows`.

    Raises:
        ValueError: There is no such source, it is broken, a text is empty or no text, or a pair stands twice, so that
            one could not be told from the other; the line is named.
    """
    found: dict[tuple[str, str], str] = {}
    for where, row in read_rows(source, COLUMNS, what="translations"):
        pair = pair_in(row, COLUMNS, where)
        if pair in found:
            raise ValueError(
                f"{where}: the pair stands already in {found[pair]}, and retrieval cannot tell the two; keep one"
            )
        found[pair] = where
    return [*found]


def locate_tatoeba() -> Located:
    """Where Tatoeba's pairs are, and whom to credit.

    Raises:
        FileNotFoundError: They are not here and cannot be fetched.
    """
    return locate("tatoeba", progress=False)


def tatoeba_languages() -> list[str]:
    """The languages that have pairs with English: by ISO 639-1 where it has a code, else by Tatoeba's own."""
    short = {code: name for name, code in _CODES.items()}
    codes = (file.split(".")[1].removesuffix("-eng") for file in ASSETS["tatoeba"].checksums())
    return sorted({short.get(code, code) for code in codes})


def tatoeba_pairs(language: str) -> list[tuple[str, str]]:
    """The sentences of a language with their English translations, in the order of the files.

    Args:
        language: Its code in ISO 639-1 or Tatoeba's own; of `pt_BR` the first half counts.

    Raises:
        ValueError: Tatoeba has no such language, or a file is broken.
        FileNotFoundError: The pairs are not here and cannot be fetched.
    """
    name = language.replace("-", "_").partition("_")[0].lower()
    code, known = _CODES.get(name, name), ASSETS["tatoeba"].checksums()
    if f"tatoeba.{code}-eng.{code}" not in known:
        raise ValueError(f"Tatoeba has no pairs of {language!r} with English{suggest(name, tatoeba_languages())}")
    folder = locate_tatoeba().path
    foreign, english = (_lines(folder / f"tatoeba.{code}-eng.{side}") for side in (code, "eng"))
    if len(foreign) != len(english):
        raise ValueError(f"{folder}: {code} has {len(foreign)} lines, its English {len(english)}; get both anew")
    return [*zip(foreign, english, strict=True)]


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text("utf-8").removesuffix("\n").split("\n")]
