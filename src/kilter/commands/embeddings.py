"""kilter embeddings: whether a model's vectors of texts are in kilter: table and figures."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from kilter.core import sources
from kilter.core.errors import UsageError
from kilter.lab.files import write_json
from kilter.lab.numbers import possible
from kilter.lab.options import at_least
from kilter.lab.output import print_json
from kilter.lab.vector_table import ROWS, Figure, Measured, advise, show

if TYPE_CHECKING:
    from torch import Tensor


PLACE = 85

BEST = 0.8
"""Where the best of scored pairs begin, from the lowest score to the highest: 4 of 0 to 5."""


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
    scores: list[float] | None = None

    @property
    def best(self) -> list[int]:
        """Which of them mean the same."""
        if self.scores is None:
            return [*range(len(self.first))]
        low, high = min(self.scores), max(self.scores)
        return [place for place, score in enumerate(self.scores) if score - low >= BEST * (high - low)]


def _measure(asked: Embeddings) -> int:
    names = asked.models
    if len({Path(name).resolve() for name in names}) < len(names):
        raise ValueError(f"models: one stands twice in {', '.join(names)}; give each model once")
    _check_names(names)
    from kilter.lab.progress import quiet_hosts
    from kilter.lab.vectors import shape_of, write_figures

    quiet_hosts()
    pairs = None if asked.pairs is None else _some_pairs(asked.pairs, asked.most, asked.seed)
    if asked.texts is None:
        texts = [*dict.fromkeys([*pairs.first, *pairs.second])] if pairs else []
    else:
        texts = _some_texts(asked.texts, asked.most, asked.seed)
    if len(texts) < 2:
        raise ValueError(f"{asked.texts or asked.pairs}: all texts are the same; give two or more that differ")
    paired = [*pairs.first, *pairs.second] if pairs else []
    place = {text: row for row, text in enumerate(dict.fromkeys([*texts, *paired]))}
    mapped, groups = _map(texts, pairs)
    found, shapes = [], {}
    first: Mapping[str, Any] = {}
    for name, label in zip(names, _labels(names), strict=True):
        vectors, normalises = _encode(name, [*place], asked)

        def rows_of(some: Sequence[str], vectors: Any = vectors) -> Any:
            return vectors[[place[text] for text in some]]

        of, sides = rows_of(texts), [rows_of(side) for side in (pairs.first, pairs.second)] if pairs else []
        one, rows = _figures(name, label, normalises, of, sides, pairs, first)
        first = first or rows
        found.append(one)
        if asked.out is not None:
            shapes[label] = shape_of(of, _kinds(sides, pairs), rows_of(mapped), seed=asked.seed)
    about = {"texts": asked.texts or asked.pairs, "number": len(texts), "pairs": asked.pairs}
    about |= {"number_of_pairs": len(pairs.first) if pairs else 0, "models": [asdict(one) for one in found]}
    files = [] if asked.out is None else write_figures(asked.out, shapes, groups)
    if asked.out is not None:
        write_json(asked.out / "embeddings.json", about)
    if asked.json:
        print_json(about)
        return 0
    kind = "" if pairs is None else f", {len(pairs.first)} {'translations' if pairs.scores is None else 'scored pairs'}"
    print(f"{len(texts)} texts{kind}\n")
    show(found)
    advise(found, "FILE" if asked.texts is None or sources.is_pipe(asked.texts) else asked.texts)
    if files:
        print(f"\nfigures: {', '.join(map(str, files))}")
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
        read = [list(side) for side in zip(*bitext.read_pairs(source), strict=True)]
    else:
        scored = similarity.read_scored_pairs(source)
        read = [scored.first, scored.second, scored.scores]
    some = _drawn(source, len(read[0]), "pairs", most, seed)
    if len(some) < 2:
        raise ValueError(f"{source}: has one pair only; give two or more")
    return Pairs(*([column[row] for row in some] for column in read))


def _drawn(source: str, there: int, what: str, most: int, seed: int) -> list[int]:
    if there <= most:
        return [*range(there)]
    print(f"{source}: {most} of {there} {what}, drawn with seed {seed}; --most {there} takes all", file=sys.stderr)
    return sorted(Random(seed).sample(range(there), most))


# Vectors --------------------------------------------------------------------------------------------------------------


def _check_names(names: Sequence[str]) -> None:
    """Before any text is read or model loaded."""
    from kilter.data.encoders import ENCODERS, is_ours
    from kilter.models.names import check_model_name

    for name in names:
        if not is_ours(name):
            check_model_name(name, "a model of sentence-transformers or an encoder of transformers", known=ENCODERS)


def _encode(name: str, texts: Sequence[str], asked: Embeddings) -> "tuple[Tensor, bool]":
    """Vectors before any normalising at the model's end, and whether the model normalises."""
    from kilter.data.encoders import is_ours, sentence_encoder
    from kilter.data.pretrained import minilm_folder
    from kilter.hosts.sentences import encode, ends_in_normalize
    from kilter.lab.progress import bar
    from kilter.models.devices import find_device

    encoder = sentence_encoder(name, device=str(find_device(asked.device)))
    with bar(f"encoding with {name}", len(texts), "texts") as advance:
        vectors = encode(encoder, texts, batch_size=asked.batch_size, advance=advance)
    if (bad := ~(vectors.isfinite().all(1) & vectors.any(1))).any():
        text = texts[int(bad.nonzero()[0])]
        raise ValueError(f"{name}: the vector of {text[:60]!r} is zeros or NaN; leave the text out, or mend the model")
    all_of_length_1 = bool(((vectors.norm(dim=1) - 1).abs() < 1e-3).all())
    place = minilm_folder() if name == "minilm" else name
    whole = name == "minilm" or not is_ours(name)
    return vectors, all_of_length_1 or (whole and ends_in_normalize(place))


def _labels(names: Sequence[str]) -> list[str]:
    """The last part of each name, where that tells them apart."""
    short = [Path(name).name or name for name in names]
    return short if len({*short}) == len(short) else [*names]


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


def _kinds(sides: "Sequence[Tensor]", pairs: Pairs | None) -> "dict[str, tuple[Tensor, Tensor]]":
    """Pairs of the histogram beside random ones."""
    if pairs is None:
        return {}
    first, second = (side[pairs.best] for side in sides)
    if pairs.scores is not None:
        return {"pairs of the best scores": (first, second)}
    return {"translations": (first, second), "translations of other texts": (first, second.roll(1, 0))}


def _map(texts: Sequence[str], pairs: Pairs | None) -> tuple[list[str], list[str]]:
    """Texts of the map and their groups: both sides of translations; else some of the texts, by their length."""
    from kilter.lab.vectors import MAPPED, by_length, spread

    if pairs is None or pairs.scores is not None:
        some = sorted((texts[row] for row in spread(len(texts))), key=len)
        return some, by_length(some)
    rows = spread(len(pairs.first), MAPPED // 2)
    sides = [[side[row] for row in rows] for side in (pairs.first, pairs.second)]
    return sides[0] + sides[1], ["first texts"] * len(rows) + ["their translations"] * len(rows)
