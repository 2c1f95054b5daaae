"""kilter diversity: how different the outputs of a decoder are, how good the best: table."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kilter.core import sources, tables
from kilter.core.errors import UsageError
from kilter.core.normalise import tidy
from kilter.core.normalise import words as words_of
from kilter.lab.numbers import fixed
from kilter.lab.output import print_json

if TYPE_CHECKING:
    from kilter.evaluation.intervals import Interval

PLACE = 80

ORDERS = (1, 2, 3, 4)
ORACLES = (1, 5, 10, 20)
ROWS = {
    **{f"distinct_{n}": (f"distinct-{n}", 3, 1) for n in ORDERS},
    "vendi_score": ("Vendi score", 2, 1),
    "self_bleu": ("self-BLEU", 1, 1),
    "log_prob_first": ("log p, first", 2, 1),
    "repetition": ("repetition (%)", 1, 100),
    "overlap": ("overlap (%)", 1, 100),
    "words": ("words each", 1, 1),
}
"""How the table calls a figure, its digits and its factor; any other is an oracle."""


@dataclass
class Diversity:
    """Measure how different the outputs for each prompt are, how good the best of them, and how much is copied.

    Means over prompts with 95 % bootstrap intervals: distinct n-grams by words generated, the Vendi score (how many
    different outputs there are in effect), self-BLEU (high where outputs are alike); with references the oracle, the
    best BLEU-4 among the first k outputs; with log-probabilities that of the first; repetition, the share of words that
    were said in the 20 words before, and overlap, the share that the prompt has too. Several files are columns; a star
    marks what differs from the first file on the same prompts.

    Example: kilter diversity diverse.jsonl

    Compare: kilter diversity beam.jsonl diverse.jsonl sampled.jsonl
    """

    files: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="FILE.jsonl [FILE.jsonl …]", help_behavior_hint="(needed)")
    ] = ()
    """JSON lines of kilter generate; or rows with texts, and if you have them prompt and references; - is a pipe"""
    characters: bool = False
    """count characters instead of words, for languages without spaces"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Measure and print."""
        if not self.files:
            raise UsageError("which outputs? kilter diversity FILE.jsonl, as kilter generate writes it")
        return _measure(self)


COMMAND = Diversity


@dataclass(frozen=True)
class Outputs:
    """What was generated for one input.

    Attributes:
        texts: in their order; an empty one says nothing and is only counted as the worst by the oracle.
        log_prob: of the first text.
    """

    prompt: str
    texts: tuple[str, ...]
    references: tuple[str, ...]
    log_prob: float | None


@dataclass(frozen=True)
class Figure:
    """A mean over inputs with its 95 % bootstrap interval; the bounds are None where there is one input only.

    Attributes:
        inputs: how many have the figure.
        difference: from the first file on the same inputs; None for that file, and where inputs are not the same.
    """

    mean: float
    low: float | None
    high: float | None
    inputs: int
    difference: "Interval | None" = None


@dataclass(frozen=True)
class Measured:
    """The figures of one file. `outputs` is the mean number for an input, `empty` how many there were in all."""

    file: str
    label: str
    inputs: int
    outputs: float
    empty: int
    figures: dict[str, Figure]


def _measure(asked: Diversity) -> int:
    from kilter.lab.progress import bar

    files = asked.files
    if len({path.resolve() for path in files}) < len(files):
        raise ValueError(f"files: one stands twice in {', '.join(map(str, files))}; give each file once")
    read = [read_outputs(path) for path in files]
    referenced = [len(one.texts) for lines in read for one in lines if one.references]
    most = min(referenced, default=0)  # the same k for every file, so that rows can be compared
    ks = sorted({k for k in ORACLES if k < most} | ({most} if most else set()))
    found: list[Measured] = []
    first: Sequence[Mapping[str, float]] = ()
    for path, lines, label in zip(files, read, _labels(files), strict=True):
        values = []
        with bar(f"measuring {path}", len(lines)) as advance:
            for one in lines:
                values.append(_values(one, ks, asked.characters))
                advance(1)
        first = first or values
        found.append(_measured(path, label, lines, values, first if _paired(read[0], lines) and found else None))
    for one in found:
        _say_what_is_missing(one)
    if asked.json:
        print_json({"files": [asdict(one) for one in found]})
    else:
        _show(found)
    return 0


# Reading --------------------------------------------------------------------------------------------------------------


def read_outputs(path: Path) -> list[Outputs]:
    """The lines of `kilter generate`, or rows with `texts`: JSON lines whatever the file is called, or a `.json`.

    Raises:
        ValueError: the file is not there or empty, or a line, which is named, is not as it must be.
    """
    if not sources.is_source(path):
        raise ValueError(f"{path}: no such file; kilter generate writes one with --out")
    read = sources.read_source(path)
    kind = read.suffix if read.suffix in tables.SUFFIXES else tables.guess(read.text, "texts") or ".jsonl"
    try:
        found = [_outputs(row, where) for where, row in tables.rows(read, kind)]
    except tables.BadJSON as error:
        raise ValueError(f"{error}; kilter generate makes the file anew") from error
    if not found:
        raise ValueError(f"{read.name}: holds no lines; each must be an object with outputs or texts")
    return found


def _outputs(row: Any, where: str) -> Outputs:
    if not isinstance(row, Mapping) or not ("outputs" in row or "texts" in row):
        raise ValueError(f"{where}: expected an object with outputs (as kilter generate writes them) or texts")
    outputs = tables.listed(row.get("outputs"), f"{where}, column 'outputs'", "{]")
    texts = tables.listed(row.get("texts"), f"{where}, column 'texts'", "\"']")
    if texts is None:
        if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
            raise ValueError(
                f"{where}: outputs must be a list of objects with a text each; for bare texts, call it texts"
            )
        texts = [one.get("text") for one in outputs]
    prompt = "" if row.get("prompt") is None else row["prompt"]
    if not isinstance(prompt, str):
        raise ValueError(f"{where}: prompt must be a text, got {type(prompt).__name__}")
    if not _are_texts(texts):
        raise ValueError(f"{where}: each output must have a text; at least one is needed")
    references = tables.listed(row.get("references"), f"{where}, column 'references'", "\"']")
    references = [] if references is None else references
    if not _are_texts(references, 0) or not all(one.strip() for one in references):
        raise ValueError(f"{where}: references must be a list of texts, none of them empty")
    given = outputs[0].get("log_prob") if isinstance(outputs, list) and row.get("texts") is None else None
    if given is not None and (not isinstance(given, int | float) or isinstance(given, bool)):
        raise ValueError(f"{where}: log_prob must be a number, got {tables.shown(given)}")
    log_prob = float(given) if given is not None and abs(given) <= sys.float_info.max else None
    return Outputs(prompt, tuple(texts), tuple(references), log_prob)


def _are_texts(value: Any, least: int = 1) -> bool:
    return isinstance(value, list) and len(value) >= least and all(isinstance(one, str) for one in value)


# Figures --------------------------------------------------------------------------------------------------------------


def _values(one: Outputs, ks: Sequence[int], characters: bool) -> dict[str, float]:
    """The figures of one input, by name; those that it cannot have are left out."""
    from kilter.evaluation.copying import STOP_WORDS, overlap, rankgen_words, repetition
    from kilter.evaluation.diversity import distinct_n, ngram_vendi_score, self_bleu, sentence_bleu

    spoken = [text for text in one.texts if text.strip()]
    tokenize = _characters if characters else None
    found: dict[str, float] = {}
    if spoken:
        found |= {f"distinct_{n}": distinct_n(spoken, n, tokenize=tokenize) for n in ORDERS}
        found["vendi_score"] = ngram_vendi_score(spoken, tokenize=tokenize)
    if len(spoken) > 1:
        found["self_bleu"] = self_bleu(spoken, tokenize=tokenize)
    if one.references:
        scores = [sentence_bleu(text, one.references, tokenize=tokenize) for text in one.texts]
        found |= {f"oracle_{k}": max(scores[:k]) for k in ks}
    if one.log_prob is not None:
        found["log_prob_first"] = one.log_prob
    if spoken:
        words, stop_words = (_characters, frozenset()) if characters else (rankgen_words, STOP_WORDS)
        before = words(one.prompt)
        found["repetition"] = statistics.fmean(repetition(words(text) or text, prefix=before) for text in spoken)
        if one.prompt.strip():
            found["overlap"] = statistics.fmean(
                overlap(one.prompt, text, tokenize=words, stop_words=stop_words) for text in spoken
            )
        found["words"] = statistics.fmean(len((tokenize or words_of)(text)) for text in spoken)
    return found


def _characters(text: str) -> list[str]:
    return [letter for letter in tidy(text) if not letter.isspace()]


def _measured(
    path: Path,
    label: str,
    lines: Sequence[Outputs],
    values: Sequence[Mapping[str, float]],
    first: Sequence[Mapping[str, float]] | None,
) -> Measured:
    figures = {}
    for name in dict.fromkeys(name for row in values for name in row):
        mine = [row[name] for row in values if name in row]
        both = [
            (row[name], was[name]) for row, was in zip(values, first or (), strict=False) if name in row.keys() & was
        ]
        interval = _mean([[value] for value in mine])
        figures[name] = Figure(
            interval.mean, interval.low, interval.high, len(mine), _mean(both) if len(both) > 1 else None
        )
    texts = [text for one in lines for text in one.texts]
    empty = sum(not text.strip() for text in texts)
    return Measured(str(path), label, len(lines), len(texts) / len(lines), empty, figures)


def _mean(rows: Sequence[Sequence[float]]) -> "Interval":
    """The mean of values, or of the differences of pairs, with its interval."""
    import numpy as np

    from kilter.evaluation.intervals import Interval, ratio_bootstrap

    totals, *against = ([[row[place], 1.0] for row in rows] for place in range(len(rows[0])))
    if len(rows) == 1:
        return Interval(rows[0][0], None, None)
    return ratio_bootstrap(np.array(totals), *map(np.array, against))


def _paired(first: Sequence[Outputs], other: Sequence[Outputs]) -> bool:
    """Whether two files are about the same inputs, line by line, as far as they say what these are."""
    keys = [[(one.prompt, one.references) for one in lines] for lines in (first, other)]
    return keys[0] == keys[1] and all(map(any, keys[0]))


# The table ------------------------------------------------------------------------------------------------------------


def _labels(files: Sequence[Path]) -> list[str]:
    """Names of the files without folder and suffix, where that tells them apart."""
    short = [path.stem for path in files]
    return short if len({*short}) == len(short) else [str(path) for path in files]


def _say_what_is_missing(one: Measured) -> None:
    if one.empty:
        print(
            f"{one.file}: {one.empty} empty output{'s' * (one.empty > 1)}, left out of all but the oracle",
            file=sys.stderr,
        )
    some = [f"{name} {figure.inputs}" for name, figure in one.figures.items() if figure.inputs < one.inputs]
    if some:
        print(f"{one.file}: of {one.inputs} inputs, not all have each figure: {', '.join(some)}", file=sys.stderr)


def _show(found: Sequence[Measured]) -> None:
    from rich.console import Console
    from rich.table import Table

    said = "with 95 % bootstrap intervals over inputs" if len(found) < 5 else "their 95 % intervals in the --json"
    print(f"means over inputs, {said}\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.label, justify="right", overflow="fold")
    table.add_row("inputs", *(str(one.inputs) for one in found))
    table.add_row("outputs each", *(f"{one.outputs:.4g}" for one in found))
    for name in dict.fromkeys(name for one in found for name in one.figures):
        label, digits, scale = ROWS.get(name) or (f"BLEU {name.replace('_', '@')}", 1, 1)
        table.add_row(label, *(_cell(one.figures.get(name), digits, scale, len(found)) for one in found))
    Console().print(table)
    if any(figure.difference for one in found for figure in one.figures.values()):
        print(f"\n* differs from {found[0].label} on the same inputs: 95 % interval of the difference without 0")


def _cell(figure: Figure | None, digits: int, scale: int, files: int) -> str:
    if figure is None:
        return "–"
    apart = figure.difference
    star = (
        "*" if apart and apart.low is not None and apart.high is not None and not apart.low <= 0 <= apart.high else ""
    )
    mean, low, high = (
        "" if value is None else fixed(scale * value, digits) for value in (figure.mean, figure.low, figure.high)
    )
    if not low or files > 4:
        return star + mean
    return f"{star}{mean} ({low} to {high})" if files < 3 else f"{star}{mean}\n{low} to {high}"
