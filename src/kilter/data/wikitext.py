"""WikiText's articles, validation and test, which are the same in WikiText-2 and WikiText-103.

Source: Merity, Xiong, Bradbury, Socher, Pointer sentinel mixture models (2017). The departure: words stand as people
write them (`a 3-2 win, he said` for `a 3 @-@ 2 win , he said`), for models of bytes; `<unk>` stays.
"""

import re
from pathlib import Path

from kilter.core.errors import suggest
from kilter.data.assets import Located, locate

PARTS = {"valid": "valid.txt", "test": "test.txt"}
"""The file of each part."""
_TITLE = re.compile(r" = ([^=\s](?:.*[^=\s])?) = ")
_HEADING = re.compile(r" (?:= )+[^=]")
_SPACING = (
    (re.compile(r" @([-,.])@ "), r"\1"),
    (re.compile(r" ([,.;:!?%)\]}])"), r"\1"),
    (re.compile(r"([(\[{$£]) "), r"\1"),
    (re.compile(r" (n't|'(?:s|m|re|ve|ll|d|t))\b"), r"\1"),
    (re.compile(r'" ([^"]*) "'), r'"\1"'),
)


def locate_wikitext() -> Located:
    """Where WikiText is, and whom to credit.

    Raises:
        FileNotFoundError: It is not here and cannot be fetched.
    """
    return locate("wikitext2", progress=False)


def wikitext_articles(part: str = "test", *, folder: str | Path | None = None) -> list[str]:
    """The articles of a part in their order, without headings, a blank line between paragraphs.

    Args:
        part: Of `PARTS`; both have 60 articles.
        folder: Where its files are; None: where `locate_wikitext` finds or puts them.

    Raises:
        ValueError: There is no such part, or its file has no article in it.
        FileNotFoundError: WikiText is not here and cannot be fetched.
    """
    if part not in PARTS:
        raise ValueError(f"WikiText is read of {' or '.join(PARTS)}, not {part!r}{suggest(part, PARTS)}")
    file = Path(folder or locate_wikitext().path) / PARTS[part]
    found: list[list[str]] = []
    lines = ["", *(file.read_text("utf-8").split("\n") if file.is_file() else ()), ""]
    for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
        alone = not before.strip() and not after.strip()  # else it is a line of a formula
        if alone and _TITLE.fullmatch(line):
            found.append([])
        elif found and line.strip() and not (alone and _HEADING.match(line)):
            found[-1].append(as_written(line))
    if not any(found):
        raise ValueError(f"{file}: no article in it; delete the folder and run `kilter fetch wikitext2`")
    return ["\n\n".join(paragraphs) for paragraphs in found if paragraphs]


def as_written(line: str) -> str:
    """A line with its words as people write them.

    Example:
        >>> print(as_written(" He did n't win 3 @-@ 2 ( " + '" a shame " , said Brown ) . '))
        He didn't win 3-2 ("a shame", said Brown).
    """
    text = line.strip()
    for wrong, right in _SPACING:
        text = wrong.sub(right, text)
    return text
