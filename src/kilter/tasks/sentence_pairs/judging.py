"""What scores of pairs are worth: correlations with people's scores, or the share of labels that are right.

Source: what GLUE and SentEval report. The departure: F1 is at the published threshold, a probability of one half.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from kilter.evaluation.classification import f1_rows
from kilter.evaluation.correlation import pearson_rows, spearman, spearman_rows

if TYPE_CHECKING:
    from kilter.tasks.sentence_pairs.sources import Part

MAIN = {"regression": "spearman", "binary": "accuracy", "multiclass": "accuracy"}
"""The figure of a set that its average takes."""


class Verdict(NamedTuple):
    """Figures of a set, and a row for each pair."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]


def metric_of(name: str, figure: str) -> str:
    """What a figure on a set is called.

    Example:
        >>> metric_of("sick-r", "spearman")
        'sick_r_spearman'
    """
    return f"{name.replace('-', '_')}_{figure}"


def judge(name: str, part: "Part", scores: Tensor, teacher: Tensor | None = None) -> Verdict:
    """Judge one set.

    Args:
        name: of the set.
        part: with the pairs that are judged on.
        scores: `(n,)`, or `(n, classes)`.
        teacher: the same, of the teacher; how far a student follows it is told then.
    """
    labels = torch.as_tensor(part.test.labels, dtype=torch.float64)
    totals = _correlations(scores, labels) if part.kind == "regression" else _right(part.kind, scores, labels)
    figures = {figure: 100 * float(over.sum() / under.sum()) for figure, (over, under) in totals.items()}
    if teacher is not None:
        given = [one - one.mean(1, keepdim=True) if one.ndim == 2 else one for one in (scores, teacher)]
        figures["follows"] = 100 * spearman(*(one.flatten() for one in given))
    named = {metric_of(name, figure): value for figure, value in figures.items()}
    rows = [
        {
            "input": f"{name}/{row}",
            "label": part.test.labels[row],
            "score": scores[row].tolist(),
            "totals": {metric_of(name, figure): [float(one[row]) for one in both] for figure, both in totals.items()},
        }
        for row in range(len(labels))
    ]
    return Verdict(named, rows)


def _correlations(scores: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Numerators and denominators of each pair, of which the figures are the ratio of the sums."""
    found = {"spearman": spearman_rows(scores, labels), "pearson": pearson_rows(scores, labels)}
    return {figure: (rows, torch.ones_like(rows)) for figure, rows in found.items()}


def _right(kind: str, scores: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    said = scores.argmax(1) if kind == "multiclass" else (scores >= 0).long()
    right = (said == labels).double()
    found = {"accuracy": (right, torch.ones_like(right))}
    if kind == "binary" and 0 < labels.sum() < len(labels):
        top, bottom = f1_rows(scores, labels, 0.0).unbind(1)
        found["f1"] = (top, bottom)
    return found


def together(parts: "Mapping[str, Part]", found: Mapping[str, Verdict]) -> Verdict:
    """All sets: their figures, and the mean of each one's main figure where all of two or more were judged."""
    figures = {name: value for one in found.values() for name, value in one.figures.items()}
    rows = [
        row for name, part in parts.items() for row in (found[name].rows if name in found else _unjudged(name, part))
    ]
    if len(found) < max(2, len(parts)):
        return Verdict(figures, rows)
    main = {name: metric_of(name, MAIN[part.kind]) for name, part in parts.items()}
    figures["average"] = sum(figures[one] for one in main.values()) / len(main)
    for name, one in found.items():
        for row in one.rows:
            share, weight = row["totals"][main[name]][0], 1 / len(one.rows)
            row["totals"]["average"] = [share * weight, weight]
    return Verdict(figures, rows)


def _unjudged(name: str, part: "Part") -> list[dict[str, Any]]:
    """Rows without figures, so that arms that are judged on some sets only can be paired with the others."""
    labels = enumerate(part.test.labels)
    return [{"input": f"{name}/{row}", "label": label, "score": None, "totals": {}} for row, label in labels]


def cosine_scores(first: Tensor, second: Tensor) -> Tensor:
    """Cosines `(n,)` of pairs of vectors: what an encoder says of them as it is given."""
    return torch.nn.functional.cosine_similarity(first.float(), second.float())


def of_scores(parts: "Mapping[str, Part]") -> Sequence[str]:
    """The sets on which a mere similarity can be judged: those of scores."""
    return [name for name, part in parts.items() if part.kind == "regression"]
