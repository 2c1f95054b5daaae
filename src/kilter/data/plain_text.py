"""Prose out of markup: HTML, roff, Pod, dictionaries' entries, fortunes and WordNet's glosses, as lists of paragraphs.

The departure from a converter: what is no prose (code, tables, navigation, headings, lists of words) is left out, so
that a language model that reads the rest reads sentences.
"""

import gzip
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser

from kilter.data.passages import whole

LEAST = 5
"""Words that a paragraph of prose has at least."""
GLOSSES = 50
"""Glosses to a document: one alone is a line."""


def unpacked(data: bytes) -> str:
    """The text of a file, perhaps gzipped; UTF-8, or else Latin-1.

    Example:
        >>> unpacked(gzip.compress("naïve".encode("latin-1")))
        'naïve'
    """
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def prose(texts: Iterable[str]) -> list[str]:
    r"""The paragraphs that are sentences, with single spaces; a paragraph ends as a sentence does.

    Example:
        >>> prose(["See also", "It  is a map of\nthe world.", "Next: Roads"])
        ['It is a map of the world.']
    """
    joined = (" ".join(text.split()) for text in texts)
    return [text for text in joined if whole(text) and len(text.split()) >= LEAST]


# HTML -----------------------------------------------------------------------------------------------------------------

_SKIPPED = {"head", "script", "style", "nav", "header", "footer", "aside", "pre", "button", "noscript", "svg", "form"}
_BLOCKS = {"p", "div", "li", "dd", "dt", "td", "th", "tr", "table", "ul", "ol", "dl", "blockquote", "section", "hr"}
_BLOCKS |= {"h1", "h2", "h3", "h4", "h5", "h6", "body", "article", "main"}
_PARTS = {"h1", "h2"}


class _Page(HTMLParser):
    """The blocks of text of each part of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[list[str]] = [[""]]
        self._skipped: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SKIPPED:
            self._skipped.append(tag)
        elif not self._skipped and tag in _PARTS:
            self.parts.append([""])
        elif not self._skipped and tag in _BLOCKS:
            self.parts[-1].append("")
        elif tag == "br":
            self.parts[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipped:
            while self._skipped.pop() != tag:
                pass
        elif not self._skipped and tag in _BLOCKS:
            self.parts[-1].append("")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.parts[-1][-1] += data


def html(text: str) -> Iterator[list[str]]:
    """The prose below each heading of the first two ranks.

    Example:
        >>> page = "<h1>Maps</h1><p>They show <b>the world</b> as it is.<pre>x = 1</pre><h2>Roads</h2><li>None"
        >>> [*html(page)]
        [['They show the world as it is.']]
    """
    page = _Page()
    page.feed(text)
    page.close()
    return (found for part in page.parts if (found := prose(part)))


# roff -----------------------------------------------------------------------------------------------------------------

_UNFILLED = {".nf": ".fi", ".EX": ".EE", ".TS": ".TE", ".PS": ".PE"}
_ALTERNATE = {".BI", ".BR", ".IB", ".IR", ".RB", ".RI"}
_FONTS = {".B", ".I", ".R", ".SM", ".SB"} | _ALTERNATE
_ENDS_LINK = {".UE", ".ME"}
_QUIET = {".UR", ".MT", ".PD", ".in", ".ft", ".ad", ".hy", ".na", ".ne", ".if", ".ie", ".el", "."}
"""Macros within a paragraph that say nothing; the last is a comment's or a brace's."""
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|((?:\\.|[^\s"])+)')
_NAMED = {"aq": "'", "cq": "’", "oq": "‘", "lq": "“", "rq": "”", "dq": '"', "em": "—", "en": "–", "ha": "^", "ti": "~"}
_NAMED |= {"bu": "", "mu": "×", "co": "(c)", "rs": "\\", "tm": "", "+-": "+-", "<=": "<=", ">=": ">=", "!=": "!="}
_ESCAPE = re.compile(
    r"""\\(?:
    ["\#].*                                            # a comment
    | f(?:\[[^]]*\]|\(..|.) | s[+-]?\d                 # font, size
    | \[(?P<long>[^]]*)\] | \((?P<two>..) | \*(?:\(..|\[[^]]*\]|.)
    | (?P<one>.)
    )""",
    re.VERBOSE,
)
_ONE = {"-": "-", "e": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`", ".": ".", "\\": "\\", "t": " "}


def roff(text: str) -> Iterator[list[str]]:
    r"""The prose of a manual page, one document.

    Example:
        >>> page = ".SH NAME\nls \\- list\n.SH WHAT\n.BR ls (1)\nlists \\fIfiles\\fP of\na folder.\n.nf\nls /\n.fi"
        >>> [*roff(page)]
        [['ls(1) lists files of a folder.']]
    """
    if found := prose(_roff_paragraphs(text)):
        yield found


def _roff_paragraphs(text: str) -> Iterator[str]:
    words: list[str] = []
    until, tag = "", False
    for line in text.splitlines():
        name = re.match(r"[.'][ \t]*(\w*)", line)
        macro = f".{name[1]}" if name else ""
        if until or macro in _UNFILLED:  # what is set as it stands is no prose
            until = "" if macro == until else until or _UNFILLED[macro]
        elif macro in _ENDS_LINK:  # what follows a link stands close to it
            words[-1:] = ["".join([*words[-1:], line.partition(" ")[2].strip()])]
        elif macro in _QUIET:
            pass
        elif (macro and macro not in _FONTS) or not line.strip():
            yield " ".join(words)
            words, tag = [], macro in (".TP", ".TQ")
        elif tag:  # what is explained stands before its explanation
            tag = False
        else:
            words.append(_unescaped(_spoken(macro, line) if macro else line))
    yield " ".join(words)


def _spoken(macro: str, line: str) -> str:
    """The words of a macro of fonts; those that alternate between two join their words."""
    found = _ARGUMENT.findall(line.partition(" ")[2])
    words = (quoted.replace('""', '"') or plain for quoted, plain in found)
    return ("" if macro in _ALTERNATE else " ").join(words)


def _unescaped(text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        name = found["long"] or found["two"]
        return _NAMED.get(name, "") if name else _ONE.get(found["one"] or "", "")

    return _ESCAPE.sub(meant, text)


# Pod ------------------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"([A-Z])(?:<<+\s+((?:(?!\s>>).)*?)\s+>>+|<([^<>]*)>)", re.DOTALL)
_ENTITIES = {"lt": "\x01", "gt": "\x02", "sol": "/", "verbar": "|"}


def pod(text: str) -> Iterator[list[str]]:
    r"""The prose below each heading of Perl's documentation.

    Example:
        >>> [*pod("=head1 MAPS\n\nOf C<< $x->y >> and L<a road|roads/\"R\">, see B<E<lt>I<here>E<gt>>.\n\n  code();\n")]
        [['Of $x->y and a road, see <here>.']]
    """
    parts: list[list[str]] = [[]]
    inside = ""
    for block in re.split(r"\n\s*\n", text):
        command = block[1:].split(None, 2)[:2] if block.startswith("=") else []
        if command[:1] == ["begin"]:
            inside = command[1]
        elif command[:1] == ["end"]:
            inside = ""
        elif command and command[0] in ("head1", "head2"):
            parts.append([])
        elif not inside and not command and not block[:1].isspace():
            parts[-1].append(_without_codes(block))
    return (found for part in parts if (found := prose(part)))


def _without_codes(text: str) -> str:
    before = ""
    while before != text:  # from the innermost
        before, text = text, _CODE.sub(_said, text)
    return text.replace("\x01", "<").replace("\x02", ">")


def _said(code: re.Match[str]) -> str:
    letter, content = code[1], code[2] if code[2] is not None else code[3]
    if letter in "XZ":
        return ""
    if letter == "E":
        return _ENTITIES.get(content, "")
    if letter == "L":
        content = content.partition("|")[0].replace("/", " ")
    return content.replace("<", "\x01").replace(">", "\x02")


# Entries --------------------------------------------------------------------------------------------------------------


def entries(text: str) -> Iterator[list[str]]:
    r"""Each entry of a dictionary, whose head word stands at the margin; its cross-references lose their braces.

    Example:
        >>> info = "00-database-info\n  About us, and of what day it is.\n"
        >>> [*entries(info + "map\n\n   <geography> A {plan} of\n   the world.\n")]
        [['A plan of the world.']]
    """
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        head, _, body = entry.partition("\n")
        body = re.sub(r"[{}]|^(\s*(?:\d+\. )?)<[^>]*>", r"\1", body, flags=re.MULTILINE)
        if not head.startswith("00-database") and (found := prose(re.split(r"\n\s*\n", body))):
            yield found


def sayings(text: str) -> Iterator[list[str]]:
    r"""Each of a file of fortunes, its lines joined.

    Example:
        >>> [*sayings("Maps are not\nthe land.\n\t\t-- Anon\n%\nGo.\n%\n")]
        [['Maps are not the land. -- Anon'], ['Go.']]
    """
    return ([said] for one in re.split(r"^%$", text, flags=re.MULTILINE) if (said := " ".join(one.split())))


def wordnet(text: str) -> Iterator[list[str]]:
    r"""The glosses of WordNet's file of a part of speech, each with its words, `GLOSSES` to a document.

    Example:
        >>> licence = "  1 This software is Princeton's\n"
        >>> [*wordnet(licence + "00001740 03 n 02 map 0 land_plan 0 000 | a plan of land; \"read it\"  \n")]
        [['map, land plan: a plan of land; "read it"']]
    """
    lines = (line.split(" | ", 1) for line in text.splitlines() if line[:1].isdigit() and " | " in line)
    told = [f"{_words(fields.split())}: {gloss.strip()}" for fields, gloss in lines]
    return (told[start : start + GLOSSES] for start in range(0, len(told), GLOSSES))


def _words(fields: list[str]) -> str:
    """The words of a line of WordNet: their number, in hexadecimal, stands in its fourth field."""
    return ", ".join(fields[4 : 4 + 2 * int(fields[3], 16) : 2]).replace("_", " ")


READERS: dict[str, Callable[[str], Iterable[list[str]]]] = {
    "html": html,
    "roff": roff,
    "pod": pod,
    "entries": entries,
    "sayings": sayings,
    "wordnet": wordnet,
}
"""The reader of each form, from a file's text to its documents."""
