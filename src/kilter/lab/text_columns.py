"""Texts of several decoders side by side, as a figure that follows the reader's theme."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from kilter.lab.theme import theme_css

_SIZE, _LINE, _GAP, _WIDTH = 11, 15, 24, 900
_LETTER = 5.9
"""Mean width of a letter at this size, on the safe side."""


def text_columns(prompt: str, columns: Mapping[str, Sequence[str]]) -> str:
    """An SVG: the prompt, and below it a column of texts for each name, the first most likely.

    Words that no text above has at all are in colour, so that a column of near copies is a grey one.

    Example:
        >>> svg = text_columns("a bus", {"beam": ["red bus", "red car"]})
        >>> svg.count('class="new"'), svg.count(">car<"), "red <tspan" in svg
        (3, 1, True)
    """
    if not columns or not all(columns.values()):
        raise ValueError("columns: each needs at least one text")
    width = (_WIDTH - _GAP * (len(columns) - 1)) / len(columns)
    letters = int(width / _LETTER)
    parts, bottom = [], 0.0
    heading = textwrap.wrap(prompt, int(_WIDTH / _LETTER)) or [""]
    parts += [_text(0.0, float(_LINE * (place + 1)), escape(line), "ink") for place, line in enumerate(heading)]
    top = _LINE * (len(heading) + 1) + 8
    for place, (name, texts) in enumerate(columns.items()):
        x, y = place * (width + _GAP), float(top)
        parts.append(_text(x, y, escape(name), "name"))
        y += 6
        seen: set[str] = set()
        for text in texts:
            words = text.split()
            new = {word.lower() for word in words} - seen
            for line in _wrapped(words or ["(empty)"], letters):
                y += _LINE
                spans = " ".join(_word(word, word.lower() in new) for word in line)
                parts.append(_text(x, y, spans, "old"))
            seen |= new
            y += 5
        bottom = max(bottom, y)
    said = "; ".join(f"{name}: {' / '.join(texts)}" for name, texts in columns.items())
    style = (
        f"svg{{background:var(--page)}}text{{font:{_SIZE}px system-ui,sans-serif}}.ink{{fill:var(--ink)}}"
        f".name{{fill:var(--ink);font-weight:650}}.old{{fill:var(--muted)}}.new{{fill:var(--series-1)}}"
    )
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{bottom + 10:.0f}" '
        f'viewBox="0 0 {_WIDTH} {bottom + 10:.0f}">\n <title>{escape(prompt)}</title>\n <desc>{escape(said)}</desc>\n'
        f" <style>{style}{theme_css()}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _wrapped(words: Sequence[str], letters: int) -> Iterator[list[str]]:
    line: list[str] = []
    for word in words:
        if line and len(" ".join([*line, word])) > letters:
            yield line
            line = []
        line.append(word)
    yield line


def _word(word: str, new: bool) -> str:
    return f'<tspan class="new" fill="var(--series-1)">{escape(word)}</tspan>' if new else escape(word)


_FILL = {"ink": "ink", "name": "ink", "old": "muted"}


def _text(x: float, y: float, content: str, kind: str) -> str:
    weight = ' font-weight="650"' if kind == "name" else ""
    look = f'class="{kind}" font-size="{_SIZE}" fill="var(--{_FILL[kind]})"{weight}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{content}</text>'
