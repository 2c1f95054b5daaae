"""Texts of several decoders side by side, as a figure that follows the reader's theme."""

from collections.abc import Mapping, Sequence
from html import escape

from kilter.lab.layout import wrap
from kilter.lab.theme import PALETTE, theme_css

_SIZE, _LINE, _GAP, _WIDTH = 11, 15, 24, 900
_LEAST = 160
"""Width of a column; those that do not fit beside the others go below."""


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
    abreast = min(len(columns), int((_WIDTH + _GAP) / (_LEAST + _GAP)))
    width = (_WIDTH - _GAP * (abreast - 1)) / abreast
    heading = wrap(prompt, _WIDTH, _SIZE)
    parts = [_text(0.0, float(_LINE * (place + 1)), escape(line), "ink") for place, line in enumerate(heading)]
    top = bottom = float(_LINE * (len(heading) + 1) + 8)
    for place, (name, texts) in enumerate(columns.items()):
        if place and place % abreast == 0:
            top = bottom + 2 * _LINE
        found, end = _column(place % abreast * (width + _GAP), top, width, name, texts)
        parts += found
        bottom = max(bottom, end)
    said = "; ".join(f"{name}: {' / '.join(texts)}" for name, texts in columns.items())
    style = f"svg{{background:var(--page)}}text{{font:{_SIZE}px system-ui,sans-serif}}.name{{font-weight:650}}"
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{bottom + 10:.0f}" '
        f'viewBox="0 0 {_WIDTH} {bottom + 10:.0f}">\n <title>{escape(prompt)}</title>\n <desc>{escape(said)}</desc>\n'
        f" <style>{style}{theme_css()}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _column(x: float, y: float, width: float, name: str, texts: Sequence[str]) -> tuple[list[str], float]:
    """The lines of one column, and where it ends."""
    parts = []
    for line in wrap(name, width, _SIZE, "bold"):
        parts.append(_text(x, y, escape(line), "name"))
        y += _LINE
    y += 6 - _LINE
    seen = {"(empty)"}  # no word of a decoder
    for text in texts:
        for line in wrap(" ".join(text.split()) or "(empty)", width, _SIZE):
            y += _LINE
            parts.append(_text(x, y, " ".join(_word(word, word.lower() not in seen) for word in line.split()), "old"))
        seen |= set(text.lower().split())
        y += 5
    return parts, y


def _word(word: str, new: bool) -> str:
    return f'<tspan class="new" style="fill: {PALETTE["series-1"][0]}">{escape(word)}</tspan>' if new else escape(word)


_FILL = {"ink": "ink", "name": "ink", "old": "muted"}


def _text(x: float, y: float, content: str, kind: str) -> str:
    weight = ' font-weight="650"' if kind == "name" else ""
    look = f'class="{kind}" font-size="{_SIZE}" style="fill: {PALETTE[_FILL[kind]][0]}"{weight}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{content}</text>'
