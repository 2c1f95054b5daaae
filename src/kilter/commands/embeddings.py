"""kilter embeddings: whether a model's vectors of texts are in kilter: table and figures."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kilter.core import sources
from kilter.core.errors import UsageError
from kilter.lab.files import write_json, write_whole
from kilter.lab.numbers import NOTHING, fixed, possible
from kilter.lab.options import at_least
from kilter.lab.output import print_json

if TYPE_CHECKING:
    from torch import Tensor

    from kilter.evaluation.intervals import Interval

PLACE = 85

BEST = 0.8
"""Where the best of scored pairs begin, from the lowest score to the highest: 4 of 0 to 5."""
RANDOM_PAIRS, MAPPED = 5000, 400
"""Pairs of the histogram, and texts of the map."""


@dataclass(frozen=True)
class Row:
    """How the table shows a figure: label, digits, where it can lie, and what a good value looks like."""

    label: str
    digits: int
    bounds: tuple[float | None, float | None]
    good: str


ROWS = {
    "mean_cosine": Row(
        "mean cosine", 3, (-1, 1), "near 0. Towards 1 all texts lie in a narrow cone, and cosines hardly differ"
    ),
    "uniformity": Row("uniformity", 2, (None, 0), "low: −4 is a sphere that is filled evenly, 0 one point"),
    "effective_rank": Row(
        "effective rank", 1, (1, None), "many of the directions. A handful means that these few decide every cosine"
    ),
    "isotropy": Row("isotropy", 3, (0, 1), "near 1: no direction is favoured; 0.135 is one direction only"),
    "sts": Row("STS Spearman, %", 1, (-100, 100), "100 ranks pairs as people do. Compare models on the same pairs"),
    "forward": Row("retrieval →, %", 1, (0, 100), "100: each text finds its own translation among all of them"),
    "backward": Row("retrieval ←, %", 1, (0, 100), "as high as the other way; else one side has hubs"),
    "alignment": Row(
        "alignment", 3, (0, 4), "low: texts of one meaning are near. Read it beside uniformity: one point has 0"
    ),
}


@dataclass
class Embeddings:
    """Measure whether the vectors of a model are in kilter: how they fill their space, and whether they follow meaning.

    For any model of sentence-transformers, or encoder of transformers (then the mean over its tokens). Of the texts:
    mean cosine, uniformity, effective rank, isotropy, dead dimensions. With scored pairs: Spearman's correlation, and
    the alignment of the best; with translations: retrieval both ways, and alignment. Figures of pairs have 95 %
    bootstrap intervals over pairs; a star marks what differs from the first model. The effective rank is of the vectors
    before any normalising, all else of directions.

    Example: kilter embeddings my-model/ --texts texts.txt

    Before and after: kilter embeddings before/ after/ --texts texts.txt --pairs pairs.csv --out figures/
    """

    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL [MODEL …]", help_behavior_hint="(needed)")] = ()
    """folders or hub ids; or minilm, minilm-3 (its first three layers), gemma-6, which kilter gets"""
    texts: str | None = None
    """a .txt with a text a line; a .csv, .json or .jsonl with a column text; a hub dataset; - is a pipe; by default
    those of --pairs"""
    pairs: str | None = None
    """a .csv, .json or .jsonl with sentence1, sentence2 and score, or with two columns of translations"""
    most: Annotated[int, at_least(2)] = 10_000
    """texts, and pairs, that are measured; of more, so many are drawn"""
    out: Path | None = None
    """folder of embeddings.json, spectrum.svg, similarity.svg and map.svg; without it only the table is made"""
    json: bool = False
    """print JSON"""
    batch_size: Annotated[int, at_least(1)] = 32
    """texts at once"""
    device: str = "auto"
    """auto (the accelerator there is), cpu, cuda or mps"""
    seed: int = 0
    """of what is drawn"""

    def __call__(self) -> int:
        """Measure, write and print."""
        if not self.models:
            raise UsageError("which model? kilter embeddings MODEL --texts FILE")
        if self.texts is None and self.pairs is None:
            raise UsageError("which texts? add --texts FILE, --pairs FILE, or both")
        return _measure(self)


COMMAND = Embeddings


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, with people's scores or as translations of each other."""

    first: list[str]
    second: list[str]
    scores: list[float] | None

    @property
    def best(self) -> list[int]:
        """Which of them mean the same."""
        if self.scores is None:
            return [*range(len(self.first))]
        low, high = min(self.scores), max(self.scores)
        return [place for place, score in enumerate(self.scores) if score - low >= BEST * (high - low)]


@dataclass(frozen=True)
class Figure:
    """A figure; those of pairs with a 95 % interval, and the paired difference from the first model."""

    value: float
    low: float | None = None
    high: float | None = None
    difference: "Interval | None" = None


@dataclass(frozen=True)
class Measured:
    """What one model's vectors are like.

    Attributes:
        normalises: whether the model itself brings its vectors to length 1.
        directions: as many as the texts can have, the most that the effective rank can be.
        dead: dimensions that are the same for every text.
    """

    model: str
    label: str
    normalises: bool
    dimensions: int
    directions: int
    dead: list[int]
    figures: dict[str, Figure] = field(default_factory=dict)


def _measure(asked: Embeddings) -> int:
    names = asked.models
    if len({Path(name).resolve() for name in names}) < len(names):
        raise ValueError(f"models: one stands twice in {', '.join(names)}; give each model once")
    _check_names(names)
    from kilter.lab.progress import quiet_hosts

    quiet_hosts()
    pairs = None if asked.pairs is None else _some_pairs(asked.pairs, asked.most, asked.seed)
    if asked.texts is None:
        texts = [*dict.fromkeys([*pairs.first, *pairs.second])] if pairs else []
    else:
        texts = _some_texts(asked.texts, asked.most, asked.seed)
    if len(texts) < 2:
        raise ValueError(f"{asked.texts or asked.pairs}: all texts are the same; give two or more that differ")
    paired = [*pairs.first, *pairs.second] if pairs else []
    every = [*dict.fromkeys([*texts, *paired])]
    place = {text: row for row, text in enumerate(every)}
    found, drawn = [], {}
    first: Mapping[str, Any] = {}
    for name, label in zip(names, _labels(names), strict=True):
        vectors, normalises = _encode(name, every, asked)
        of = vectors[[place[text] for text in texts]]
        sides = [vectors[[place[text] for text in side]] for side in (pairs.first, pairs.second)] if pairs else []
        one, rows = _figures(name, label, normalises, of, sides, pairs, first)
        first = first or rows
        found.append(one)
        if asked.out is not None:
            drawn[label] = _shown(of, sides, pairs, asked.seed)
    about = {"texts": asked.texts or asked.pairs, "number": len(texts), "pairs": asked.pairs, "models": found}
    about |= {"number_of_pairs": len(pairs.first) if pairs else 0, "models": [asdict(one) for one in found]}
    if asked.out is not None:
        _write(asked.out, about, drawn, _groups(texts, pairs))
    if asked.json:
        print_json(about)
        return 0
    _show(found, len(texts), pairs)
    _advise(found, asked)
    if asked.out is not None:
        print(f"\nfigures: {', '.join(str(asked.out / f'{name}.svg') for name in ('spectrum', 'similarity', 'map'))}")
    return 0


# Texts and pairs ------------------------------------------------------------------------------------------------------


def _some_texts(source: str, most: int, seed: int) -> list[str]:
    from kilter.data.sentences import read_sentences

    read = read_sentences(source)
    texts = [*dict.fromkeys(read)]
    if len(texts) < len(read):
        print(f"{source}: {len(read) - len(texts)} of {len(read)} texts stand there before; each counts once",
              file=sys.stderr)  # fmt: skip
    return [texts[row] for row in _drawn(source, len(texts), "texts", most, seed)]


def _some_pairs(source: str, most: int, seed: int) -> Pairs:
    """Scored pairs where the first row has a score, else translations."""
    from kilter.data import bitext, similarity
    from kilter.data.text_rows import cell, read_rows

    if sources.is_pipe(source):
        raise ValueError(f"--pairs {source}: they are read twice; put them into a file")
    columns = {"source": (*similarity.FIRST, *bitext.COLUMNS["source"]), "score": similarity.SCORE}
    _, row = next(iter(read_rows(source, columns, what="pairs")))
    if cell(row, similarity.SCORE) is None:
        first, second = zip(*bitext.read_pairs(source), strict=True)
        scores = None
    else:
        read = similarity.read_scored_pairs(source)
        first, second, scores = read.first, read.second, read.scores
    some = _drawn(source, len(first), "pairs", most, seed)
    if len(some) < 2:
        raise ValueError(f"{source}: has one pair only; give two or more")
    return Pairs([first[row] for row in some], [second[row] for row in some], scores and [scores[row] for row in some])


def _drawn(source: str, there: int, what: str, most: int, seed: int) -> list[int]:
    if there <= most:
        return [*range(there)]
    print(f"{source}: {most} of {there} {what}, drawn with seed {seed}; --most {there} takes all", file=sys.stderr)
    return sorted(Random(seed).sample(range(there), most))


# Vectors --------------------------------------------------------------------------------------------------------------


def _check_names(names: Sequence[str]) -> None:
    """Before what takes seconds to import."""
    from kilter.core.errors import extra

    extra("sentence_transformers", "embeddings")
    from kilter.data.encoders import ENCODERS, is_ours
    from kilter.models.names import check_model_name

    for name in names:
        if not is_ours(name):
            check_model_name(name, "a model of sentence-transformers or an encoder of transformers", known=ENCODERS)


def _encode(name: str, texts: Sequence[str], asked: Embeddings) -> "tuple[Tensor, bool]":
    """Vectors before any normalising at the model's end, and whether the model normalises."""
    import torch

    from kilter.data.encoders import sentence_encoder
    from kilter.lab.progress import bar
    from kilter.models.devices import find_device

    encoder = sentence_encoder(name, device=str(find_device(asked.device)))
    pieces, step = [], 16 * asked.batch_size  # which the host sorts by length
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    with bar(f"encoding with {name}", len(texts), "texts") as advance:
        for start in range(0, len(order), step):
            some = [texts[row] for row in order[start : start + step]]
            how: Any = {"batch_size": asked.batch_size, "show_progress_bar": False, "convert_to_tensor": True}
            pieces.append(encoder.encode(some, **how).float().cpu())
            advance(len(some))
    vectors = torch.empty(len(texts), pieces[0].shape[1])
    vectors[order] = torch.cat(pieces)
    if (bad := ~(vectors.isfinite().all(1) & vectors.any(1))).any():
        text = texts[int(bad.nonzero()[0])]
        raise ValueError(f"{name}: the vector of {text[:60]!r} is zeros or NaN; leave the text out, or mend the model")
    lengths = vectors.norm(dim=1)
    return vectors, _ends_in_normalize(name) or bool(((lengths - 1).abs() < 1e-3).all())


def _ends_in_normalize(name: str) -> bool:
    from kilter.data.encoders import is_ours
    from kilter.data.pretrained import minilm_folder
    from kilter.hosts.loading import folder_of

    place = minilm_folder() if name == "minilm" else None if is_ours(name) else folder_of(name)
    modules = None if place is None else place / "modules.json"
    if modules is None or not modules.is_file():
        return False
    return json.loads(modules.read_text(encoding="utf-8"))[-1]["type"].endswith(".Normalize")


# Figures --------------------------------------------------------------------------------------------------------------


def _figures(
    name: str,
    label: str,
    normalises: bool,
    of: "Tensor",
    sides: "Sequence[Tensor]",
    pairs: Pairs | None,
    first: Mapping[str, Any],
) -> tuple[Measured, dict[str, Any]]:
    """What is measured of one model, and of each figure of pairs what every pair brings."""
    from kilter.evaluation import embeddings

    unit = embeddings.unit(of)
    rows = _rows(sides, pairs) if pairs else {}
    figures = {
        "mean_cosine": Figure(embeddings.mean_cosine(unit)),
        "uniformity": Figure(embeddings.uniformity(unit)),
        "effective_rank": Figure(embeddings.effective_rank(of)),
        "isotropy": Figure(embeddings.isotropy(unit)),
    } | {which: _estimate(which, values, first.get(which)) for which, values in rows.items()}
    dead = embeddings.dead_dimensions(of)
    return Measured(name, label, normalises, of.shape[1], min(of.shape), dead, figures), rows


def _rows(sides: "Sequence[Tensor]", pairs: Pairs) -> dict[str, Any]:
    """Of each figure of pairs the values that it is the mean of."""
    from kilter.evaluation.embeddings import cosines, spearman_rows
    from kilter.evaluation.retrieval import bitext_retrieval

    near = cosines(*sides)
    aligned = {"alignment": (2 - 2 * near[pairs.best]).numpy()}
    if pairs.scores is not None:
        return {"sts": 100 * spearman_rows(near, pairs.scores).numpy()} | aligned
    found = bitext_retrieval(*sides)
    return {"forward": 100 * found.forward_hits.numpy(), "backward": 100 * found.backward_hits.numpy()} | aligned


def _estimate(which: str, values: Any, first: Any) -> Figure:
    import numpy as np

    from kilter.evaluation.intervals import ratio_bootstrap

    def totals(some: Any) -> Any:
        return np.stack([some, np.ones(len(some))], 1)

    if len(values) < 2:
        return Figure(float(values[0]))
    found = ratio_bootstrap(totals(values))
    low, high = possible(found.low, found.high, ROWS[which].bounds)
    return Figure(found.mean, low, high, None if first is None else ratio_bootstrap(totals(values), totals(first)))


# Pictures -------------------------------------------------------------------------------------------------------------


def _shown(of: "Tensor", sides: "Sequence[Tensor]", pairs: Pairs | None, seed: int) -> dict[str, Any]:
    """What the figures show of one model: shares of the spectrum, cosines by kind of pair, and places on the map."""
    import torch

    from kilter.evaluation.embeddings import cosines, principal_plane, spectrum

    g = torch.Generator().manual_seed(seed)
    one = torch.randint(len(of), (RANDOM_PAIRS,), generator=g)
    other = (one + torch.randint(1, len(of), (RANDOM_PAIRS,), generator=g)) % len(of)  # never the text itself
    kinds = {"random pairs": cosines(of[one], of[other]).tolist()}
    mapped = of[_spread(len(of), MAPPED)]
    if pairs is not None:
        kind = "translations" if pairs.scores is None else "pairs of the best scores"
        kinds[kind] = cosines(*(side[pairs.best] for side in sides)).tolist()
        if pairs.scores is None:
            mapped = torch.cat([side[_spread(len(side), MAPPED // 2)] for side in sides])
    return {"spectrum": spectrum(of).tolist(), "similarity": kinds, "map": principal_plane(mapped).tolist()}


def _groups(texts: Sequence[str], pairs: Pairs | None) -> list[str]:
    """Of each text of the map its side, or how long it is."""
    if pairs is not None and pairs.scores is None:
        return [side for side in ("first texts", "their translations") for _ in _spread(len(pairs.first), MAPPED // 2)]
    lengths = [len(texts[row]) for row in _spread(len(texts), MAPPED)]
    short, long = (sorted(lengths)[len(lengths) * part // 3] for part in (1, 2))
    names = (f"below {short} characters", f"{short} to {long - 1}", f"{long} and more")
    return [names[(length >= short) + (length >= long)] for length in lengths]


def _spread(there: int, most: int) -> list[int]:
    """Rows spread evenly over all."""
    return [row * there // min(there, most) for row in range(min(there, most))]


def _write(folder: Path, about: Any, drawn: Mapping[str, Any], groups: Sequence[str]) -> None:
    from kilter.lab.embedding_plots import map_plot, similarity_plot, spectrum_plot

    write_json(folder / "embeddings.json", about)
    shown = {kind: {label: one[kind] for label, one in drawn.items()} for kind in ("spectrum", "similarity", "map")}
    write_whole(folder / "spectrum.svg", spectrum_plot(shown["spectrum"]))
    write_whole(folder / "similarity.svg", similarity_plot(shown["similarity"]))
    write_whole(folder / "map.svg", map_plot(shown["map"], groups))


# The table ------------------------------------------------------------------------------------------------------------


def _labels(names: Sequence[str]) -> list[str]:
    """The last part of each name, where that tells them apart."""
    short = [Path(name).name or name for name in names]
    return short if len({*short}) == len(short) else [*names]


def _show(found: Sequence[Measured], texts: int, pairs: Pairs | None) -> None:
    from rich.console import Console
    from rich.table import Table

    kind = "" if pairs is None else f", {len(pairs.first)} {'translations' if pairs.scores is None else 'scored pairs'}"
    print(f"{texts} texts{kind}\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.label, justify="right", overflow="fold")
    table.add_row("normalises", *("yes" if one.normalises else "no" for one in found))
    table.add_row("dimensions", *(str(one.dimensions) for one in found))
    table.add_row("dead dimensions", *(str(len(one.dead)) for one in found))
    for name in found[0].figures:
        table.add_row(ROWS[name].label, *(_cell(name, one, len(found)) for one in found))
    Console().print(table)
    if any(figure.difference for one in found for figure in one.figures.values()):
        print(f"\n* differs from {found[0].label} on the same pairs: 95 % interval of the difference without 0")
    print("\nin kilter:")
    notes = Table(box=None, show_header=False, pad_edge=False)
    for name in found[0].figures:
        notes.add_row(f"  {ROWS[name].label}", ROWS[name].good)
    Console().print(notes)


def _cell(name: str, one: Measured, models: int) -> str:
    figure, digits = one.figures[name], ROWS[name].digits
    apart = figure.difference
    star = "*" * bool(apart and apart.low is not None and apart.high is not None and not apart.low <= 0 <= apart.high)
    value, low, high = (
        NOTHING if end is None else fixed(end, digits) for end in (figure.value, figure.low, figure.high)
    )
    if name == "effective_rank":
        return f"{value} of {one.directions}"
    if figure.low is None or models > 4:
        return star + value
    return f"{star}{value} ({low} to {high})" if models < 3 else f"{star}{value}\n{low} to {high}"


def _advise(found: Sequence[Measured], asked: Embeddings) -> None:
    """What could be done, by model, where a figure says that something is off."""
    print("\nwhat one could do:")
    texts = "FILE" if asked.texts is None or sources.is_pipe(asked.texts) else asked.texts
    for one in found:
        value = {name: figure.value for name, figure in one.figures.items()}
        said = []
        narrow = value["mean_cosine"] > 0.3 or value["isotropy"] < 0.7
        if narrow or value["effective_rank"] < 0.25 * one.directions:
            said.append(
                f"few directions rule; to spread it: kilter run whitened-cse --model {one.model} --train {texts}"
            )
        if one.dead:
            some = ", ".join(map(str, one.dead[:6])) + "…" * (len(one.dead) > 6)
            said.append(f"dimensions {some} are dead: leave them out before you divide by a spread")
        if min(value.get("forward", 100.0), value.get("backward", 100.0)) < 95:
            said.append(
                "translations are missed; to lay the languages over each other, without pairs: kilter calibrate "
                f"--model {one.model} --texts en=en.txt de=de.txt --out FOLDER"
            )
        for line in said or ["nothing stands out"]:
            print(f"  {one.label}: {line}")
