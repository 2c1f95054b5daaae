"""Pictures of the report: quality against diversity, what the strength does, outputs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kilter.lab.arms import Term
from kilter.lab.files import read_json, read_rows
from kilter.lab.plots import tradeoff
from kilter.lab.recipe import Picture
from kilter.lab.text_columns import text_columns
from kilter.tasks.several_answers.judging import widest_oracle

_FALLEN = 0.8
"""Strengths below this share of the best quality are left out of the figure."""


def quality_against_diversity(summary: Mapping[str, Any]) -> list[Picture]:
    """The arms on the test inputs; nothing where no output had a word."""
    if "distinct_4" not in summary["metrics"]:
        return []
    oracle = widest_oracle(summary["metrics"])
    what = "The best of an input's outputs" if oracle else "Log-probability"
    caption = f"{what} against how different they are. Bars are the intervals of the table."
    svg = tradeoff(summary, x="distinct_4", y=oracle or "log_prob")
    return [Picture("tradeoff", "Quality against diversity", caption, svg)]


def what_strength_does(summary: Mapping[str, Any], run: Path, terms: Mapping[str, Term]) -> list[Picture]:
    """Each decoder at every strength that was tried on the development inputs; nothing where none was.

    Args:
        summary: of the run.
        run: its directory.
        terms: the term of each arm that has one.
    """
    tried: dict[str, Any] = {}
    names: list[str] = []
    for arm, found in summary["arms"].items():
        grids = [choice(run, arm, seed)["grid"] for seed in found["seeds"]]
        for points in zip(*grids, strict=True):
            names = names or ["distinct_4", widest_oracle(points[0])]
            figures = {name: sum(point[name] for point in points) / len(points) for name in names}
            strength = points[0]["strength"]
            tried[f"{arm}-{strength:g}"] = {
                "label": found["label"] + terms[arm].at.format(strength),
                "role": found["role"],
                "series": arm,
                "point": f"{strength:g}",
                "metrics": {name: {"mean": value} for name, value in figures.items()},
            }
    metrics = {name: metric for name, metric in summary["metrics"].items() if name in names}
    if len(metrics) < 2:
        return []
    heights = {point: found["metrics"][names[1]]["mean"] for point, found in tried.items()}
    kept = {point: found for point, found in tried.items() if heights[point] >= _FALLEN * max(heights.values())}
    caption = (
        "Each decoder at every strength that was tried, on the development inputs, mean over the seeds; those that "
        "fall below four fifths of the best are left out."
    )
    svg = tradeoff({"metrics": metrics, "arms": kept, "baseline": None}, x="distinct_4", y=names[1])
    return [Picture("strengths", "What the strength does", caption, svg)]


def outputs_side_by_side(summary: Mapping[str, Any], run: Path, first: Sequence[str], inputs: int) -> list[Picture]:
    """The outputs of three arms, of those in `first` that are there, for a few inputs spread over the test."""
    there = [arm for arm in first if arm in summary["arms"]]
    rows = {arm: _rows(run, arm) for arm in list(dict.fromkeys(there))[:3]}
    count = min(map(len, rows.values()), default=0)
    pictures = []
    for place in range(min(inputs, count)):
        index = place * count // inputs
        columns = {
            summary["arms"][arm]["label"]: [output["text"] for output in found[index]["outputs"][:8]]
            for arm, found in rows.items()
        }
        svg = text_columns(next(iter(rows.values()))[index]["prompt"], columns)
        caption = "The most likely outputs of each decoder; what is new in an output is in colour."
        pictures.append(Picture(f"outputs-{place}", f"Outputs for input {index + 1}", caption, svg))
    return pictures


def choice(run: Path, arm: str, seed: int) -> dict[str, Any]:
    """The strength of a piece of work, and what was tried for it."""
    return read_json(run / "arms" / arm / f"seed-{seed}" / "choice.json")


def _rows(run: Path, arm: str) -> list[Any]:
    """Rows of the first finished seed of an arm."""
    return read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))
