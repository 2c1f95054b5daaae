"""Praat's text format, long or short: the interval tiers of a TextGrid.

Source: "TextGrid file formats" in Praat's manual: only free-standing numbers, strings and flags count, so that both
formats, and what others write, are read alike. Departure: what stands behind the last tier is an error.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from kilter.core import sources, tables

_TOKEN = re.compile(r'"(?:[^"]|"")*"|!.*|<\w+>|(?<!\S)[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?(?!\S)', re.ASCII)


class Interval(NamedTuple):
    """A label with its times in seconds, and the line of the file on which it stands."""

    line: int
    label: str
    start: float
    end: float


class Tier(NamedTuple):
    """An interval tier."""

    name: str
    intervals: list[Interval]


def tiers(text: str, where: str) -> Iterator[Tier]:
    """The interval tiers of a file; points in time are left out.

    Raises:
        ValueError: it is not a TextGrid, cut short, or longer than it says; the line is named.
    """
    praat = _Tokens("\n".join(sources.lines(text)), where)
    if praat.text() != "ooTextFile" or praat.text() != "TextGrid":
        raise praat.error("it does not begin as one")
    _ = praat.number(), praat.number(), praat.text()  # its start, its end, <exists>
    for _ in range(praat.size()):
        if (kind := praat.text()) not in ("IntervalTier", "TextTier"):
            raise praat.error(f"{tables.shown(kind)} is no kind of tier")
        name, _, _, size = praat.text(), praat.number(), praat.number(), praat.size()
        if kind == "IntervalTier":
            yield Tier(name, [praat.interval() for _ in range(size)])
        else:
            _ = [(praat.number(), praat.text()) for _ in range(size)]
    praat.end()


class _Tokens:
    """What counts in a file, one after the other."""

    def __init__(self, text: str, where: str) -> None:
        self._where, self._line, self._seen, self._text = where, 1, 0, text
        self._tokens = (token for token in _TOKEN.finditer(text) if not token[0].startswith("!"))

    def error(self, why: str) -> ValueError:
        return ValueError(
            f"{self._where}: not a TextGrid in Praat's text format (line {self._line}: {why}); save it from Praat as a "
            "text file"
        )

    def _next(self) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise self.error("it ends too early")
        self._line += self._text.count("\n", self._seen, token.start())
        self._seen = token.start()
        return token[0]

    def text(self) -> str:
        token = self._next()
        if token[0] not in '"<':
            raise self.error(f"expected a text in quotes, got {token:.40}")
        return token[1:-1].replace('""', '"')

    def number(self) -> float:
        token = self._next()
        if token[0] in '"<':
            raise self.error(f"expected a number, got {token:.40}")
        return float(token)

    def size(self) -> int:
        size = self.number()
        if not (0 <= size <= len(self._text) and size == int(size)):
            raise self.error(f"{size:g} is no number of what follows")
        return int(size)

    def interval(self) -> Interval:
        start, end, label = self.number(), self.number(), self.text()
        return Interval(self._line, label, start, end)

    def end(self) -> None:
        if next(self._tokens, None):
            raise self.error("it goes on behind its last tier")
