"""What the report of a student shows: accuracy against milliseconds, and how far it follows its teacher."""

from collections.abc import Mapping
from typing import Any

from kilter.lab.recipe import SHARE, Metric, Picture
from kilter.tasks.sentence_pairs.judging import metric_of
from kilter.tasks.sentence_pairs.sources import OWN, SETS
from kilter.tasks.sentence_pairs.timing import STORED

_LABELS = {"stsb": "STS-B", "sick-r": "SICK-R", "sick-e": "SICK-E", "snli": "SNLI", OWN: "your pairs"}
_RANKS = (-100.0, 100.0)
_FIGURES = {
    "spearman": ("rank correlation with people", _RANKS),
    "pearson": ("correlation with people", _RANKS),
    "accuracy": ("labels right", SHARE),
    "f1": ("F1", SHARE),
    "follows": ("rank correlation with the teacher", _RANKS),
}
_OF = {
    **dict.fromkeys(("stsb", "sick-r"), ("spearman", "pearson", "follows")),
    **dict.fromkeys(("sick-e", "snli"), ("accuracy", "follows")),
    OWN: tuple(_FIGURES),
}
METRICS: Mapping[str, Metric] = {
    "average": Metric("Mean of the sets, rank correlation or labels right", "%", "higher", 2, _RANKS),
    **{
        metric_of(name, figure): Metric(
            f"{_LABELS[name]}, {_FIGURES[figure][0]}", "%", "higher", 2, _FIGURES[figure][1]
        )
        for name in (*SETS, OWN)
        for figure in _OF[name]
    },
    "query_ms": Metric(f"A query against {STORED:,} stored sentences", "ms", "lower", 0, (0.0, None), log=True),
    "times_faster": Metric("Times faster than the teacher", "", "higher", 0, (0.0, None)),
    "store_s": Metric(f"Encoding {STORED:,} sentences, once", "s", "lower", 0, (0.0, None)),
}
"""What is measured, by name."""
_COST = (
    "Accuracy against milliseconds",
    "Further left a query against many stored sentences costs less, on a logarithmic scale; further up pairs are "
    "scored better.",
)


def remarks(summary: Mapping[str, Any], *, device: str, read: int, stored: int, own: bool, given: bool) -> list[str]:
    """What the figures are, and are not.

    Args:
        summary: of the run.
        device: cpu, cuda or mps.
        read: pairs that the teacher reads in a round of timing.
        stored: vectors that a query of the student is timed against.
        own: whether the pairs are the user's.
        given: whether the teacher was.
    """
    fewer = f" and the student's of {stored:,}" if stored < STORED else ""
    clock = "of one process's processor time" if device == "cpu" else "by the clock"
    notes = [
        f"Milliseconds are {clock}, teacher and student in turns in one process, medians: of one query against "
        f"{STORED:,} stored sentences, whose vectors the student has kept and the teacher has no use for. The "
        f"teacher's are extrapolated from {read:,} pairs{fewer}. The query's own encoding is counted, that of the "
        "stored ones stands apart.",
        "How far a student follows its teacher is the rank correlation of what both say of the pairs judged on; of "
        "several classes what is said of each beside the others.",
    ]
    if any(len(arm["seeds"]) > 1 for arm in summary["arms"].values()):
        of = "The teacher is one and the same; a seed is" if given else "A seed is another teacher,"
        notes.append(
            f"Intervals are over seeds. {of} another head, order and dropout; of one seed all arms have the same "
            "teacher."
        )
    if own and summary["data"]["note"]:
        notes.append(summary["data"]["note"])
    return notes


def pictures(summary: Mapping[str, Any], main: str) -> list[Picture]:
    """Accuracy against milliseconds; `main` is what stands for accuracy."""
    from kilter.lab import plots

    there = [arm for arm in summary["arms"].values() if arm["metrics"].get(main, {}).get("mean") is not None]
    if not any("query_ms" in arm["metrics"] for arm in there):
        return []
    return [Picture("cost", *_COST, plots.tradeoff(summary, x="query_ms", y=main))]
