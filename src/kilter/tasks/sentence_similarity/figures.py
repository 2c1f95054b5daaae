"""What the report of a sentence encoder shows: how its vectors fill their space, and whether cosines follow people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Metric, Picture
from kilter.tasks.sentence_similarity.sources import OWN, metric_of

_SPEARMAN = (-100.0, 100.0)
_SETS = {
    "sts13": "STS 2013",
    "sts14": "STS 2014",
    "sts15": "STS 2015",
    "sts16": "STS 2016",
    "stsb": "STS-B",
    "sick-r": "SICK-R",
    "sick-r-all": "SICK-R, all parts",
    "stsb-dev": "STS-B, development",
    "stsb-train": "STS-B, training",
}
METRICS: Mapping[str, Metric] = {
    "sts_average": Metric("Rank correlation with people, mean of the sets", "%", "higher", 2, _SPEARMAN),
    OWN: Metric("Rank correlation with your scores", "%", "higher", 2, _SPEARMAN),
    **{metric_of(name): Metric(label, "%", "higher", 2, _SPEARMAN) for name, label in _SETS.items()},
    "alignment": Metric("Alignment", "", "lower", 3, (0.0, 4.0)),
    "uniformity": Metric("Uniformity", "", "lower", 3, (None, 0.0)),
    "effective_rank": Metric("Effective rank", "", "higher", 1, (1.0, None)),
    "isotropy": Metric("Isotropy", "", "higher", 3, (0.0, 1.0)),
}
"""What is measured, by name; of a set Spearman's correlation."""
DEV = ("stsb-dev", "stsb-train")
"""Sets to choose settings on: no part of the average."""
_SPACE = (
    "Alignment against uniformity",
    "Further left vectors fill the space more evenly, further down those of one meaning lie closer together.",
)
_SPECTRUM = (
    "How many directions are used",
    "Shares of the singular values, largest first: the flatter the curve, the more of the space is in use.",
)
_SIMILARITY = (
    "Cosines of pairs that people found alike, and of pairs they did not",
    "In the upper fifth of the scale and in the lowest; the less they overlap, the better. First seed.",
)
_MAP = (
    "A map of the texts",
    "The two strongest directions, by the length of the texts: where it orders the map, form counts for more than "
    "meaning. First seed.",
)
"""Title and caption of each picture."""


def space_of(run: Path | None, arm: str, seed: int) -> Path:
    """Where what the pictures need of an encoder's space is kept."""
    return Path(run or ".", "arms", arm, f"seed-{seed}", "space.json")


def remarks(summary: Mapping[str, Any], *, trained_on: int, own: bool) -> list[str]:
    """What the figures are, and are not.

    Args:
        summary: of the run.
        trained_on: sentences that an arm has seen, those seen twice counted twice.
        own: whether they are the user's.
    """
    notes = [
        "Of a set the figure is Spearman's correlation, times 100, of cosines with people's scores over all its pairs. "
        "Alignment is over pairs in the upper fifth of the scale; it and the figures of the space are on the texts of "
        "STS-B, or of the first set where that is not among them."
    ]
    if any(len(arm["seeds"]) > 1 for arm in summary["arms"].values()):
        notes.append(
            "Intervals are over seeds: another order of the sentences, other dropout, another head. What is not "
            "trained is the same for every seed, so that its interval has no width. How far a figure depends on which "
            "pairs were judged they do not say."
        )
    if own and summary["data"]["note"]:
        notes.append(summary["data"]["note"])
    if not own:
        notes.append(
            f"Every arm that is trained sees {trained_on:,} sentences, for one seed in the same order, and is judged "
            "as its last step left it; papers train on a million, and choose the best checkpoint by STS-B's "
            "development part."
        )
    return notes


def pictures(summary: Mapping[str, Any], run: Path) -> list[Picture]:
    """Alignment against uniformity; of the spaces the spectra, and before and after the cosines of pairs and a map."""
    from kilter.lab import embedding_plots, plots

    labels = {arm: found["label"] for arm, found in summary["arms"].items()}
    spaces = {arm: read_json(_first(run, arm, "space.json")) for arm in labels}
    some = _shown(summary)
    pairs = {arm: read_rows(_first(run, arm, "utterances.jsonl")) for arm in some}
    of = next(iter(spaces.values()))["set"]
    cosines = {
        labels[arm]: {
            said: [row["cosine"] for row in rows if row["kind"] == kind and row["input"].startswith(f"{of}/")]
            for kind, said in (("alike", "pairs of one meaning"), ("unlike", "pairs of different meaning"))
        }
        for arm, rows in pairs.items()
    }
    points = {labels[arm]: spaces[arm]["map"] for arm in some}
    spectra = {labels[arm]: space["spectrum"] for arm, space in spaces.items()}
    found = [
        Picture("spectrum", *_SPECTRUM, embedding_plots.spectrum_plot(spectra)),
        Picture("map", *_MAP, embedding_plots.map_plot(points, spaces[some[0]]["groups"])),
    ]
    if "alignment" in summary["metrics"]:
        found.insert(0, Picture("space", *_SPACE, plots.tradeoff(summary, x="uniformity", y="alignment")))
        found.insert(2, Picture("similarity", *_SIMILARITY, embedding_plots.similarity_plot(cosines)))
    return found


def _shown(summary: Mapping[str, Any]) -> list[str]:
    """The baseline, the first arm that is for comparison, and the first method, as far as they are there."""
    roles = ("baseline", "context", "method")
    found = [next((arm for arm, one in summary["arms"].items() if one["role"] == role), None) for role in roles]
    return [arm for arm in found if arm is not None]


def _first(run: Path, arm: str, name: str) -> Path:
    """A file of the first seed of an arm that has one."""
    return next(iter(sorted((run / "arms" / arm).glob(f"seed-*/{name}"))))
