"""The house style of figures: they follow the reader's light or dark theme, in a page or on their own.

Matplotlib draws them; the house style and the colours are ours.
Departure from plain matplotlib: the stand-in colours it draws with become the light ones in the saved SVG, so that a
viewer without CSS variables shows it rightly, and its style sheet makes each the reader's.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# name: (light, dark). The report page uses the same table; a test holds the text colours to WCAG AA.
PALETTE = {
    "page": ("#fbfbf9", "#14161a"),
    "panel": ("#f2f3f0", "#1d2026"),
    "ink": ("#1b1d21", "#e9eaed"),
    "muted": ("#575d66", "#a4abb6"),
    "grid": ("#dfe2e4", "#2d323a"),
    "baseline": ("#596270", "#a9b2be"),
    "series-1": ("#0a5fc2", "#74b4ff"),
    "series-2": ("#a8480b", "#f2a566"),
    "series-3": ("#17703f", "#63cf97"),
    "series-4": ("#7d3ab0", "#cd9ff0"),
    "good": ("#17703f", "#63cf97"),
    "fair": ("#7a5900", "#e3bd5c"),
    "bad": ("#b3261e", "#ff9187"),
}
SIZE = 9.5
"""Of letters, in points."""
SERIES = ("series-1", "series-2", "series-3", "series-4")
_STAND_IN = {name: f"#fe01{place:02x}" for place, name in enumerate(PALETTE)}


def theme_css() -> str:
    """The palette as CSS variables: light by default and in print, dark where the reader's system is dark."""
    light, dark = (";".join(f"--{name}:{pair[i]}" for name, pair in PALETTE.items()) for i in (0, 1))
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}image{{filter:brightness(1.5)}}}}"
    return f":root{{{light}}}{dark}{_followed()}"


def _followed() -> str:
    """What lets the light colours of a figure follow the theme; what does not know CSS variables passes over it."""
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:var(--{name})!important}}'
        for light, name in {light: name for name, (light, _) in PALETTE.items()}.items()
        for what in ("fill", "stroke")
    )
    rim = "text{paint-order:stroke;stroke:var(--page);stroke-width:2.5px}"  # no line runs through words
    return f"@supports(color:var(--ink)){{{rim}{rules}}}"


def colour(name: str) -> str:
    """What to draw with under `theme`, by its name in the palette; `to_svg` turns it into the reader's colour."""
    return _STAND_IN[name]


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib settings of every figure; the user's own matplotlibrc has no say, so that bytes repeat."""
    import matplotlib.style

    ink, muted, grid = map(colour, ("ink", "muted", "grid"))
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "kilter",
        "font.size": SIZE,
        "text.color": ink,
        "text.hinting": "none",  # measured as it is drawn
        "text.parse_math": False,  # a name with two dollars is a name
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "grid.linewidth": 0.6,
        **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
        **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), grid),
        **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), muted),
    }
    with matplotlib.style.context(["default", settings]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts have it
        yield


def to_svg(fig: "Figure", *, title: str, description: str) -> str:
    """A figure drawn under `theme` as SVG text: themed, accessible, the same bytes for the same figure."""
    buffer = StringIO()
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    svg = re.sub(r"^.*?(?=<svg)|\s*<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)  # the page's font, or the one in the style below
    svg = re.sub(r"image-rendering:[^\"]*", "", svg)  # let the browser smooth the spectrogram
    for name, stand_in in _STAND_IN.items():
        svg = svg.replace(stand_in, PALETTE[name][0])
    svg = svg.replace("<svg ", '<svg role="img" ', 1)
    svg = svg.replace("</title>", f"</title>\n <desc>{escape(description)}</desc>", 1)
    alone = "svg{background:var(--page)}text{font-family:system-ui,sans-serif}"
    return svg.replace("</style>", f"{alone}{theme_css()}</style>", 1)
