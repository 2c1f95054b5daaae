"""What the report of a ranker shows and remarks: how it tells passages apart, and what it makes of the samples."""

from collections.abc import Mapping
from typing import Any

from kilter.lab.recipe import Picture

_FIGURES = (
    (
        "identification",
        "generative",
        "inbook",
        "Telling the true next passage from both kinds of others",
        "Further right is surer against machine text, further up against passages of the same book.",
    ),
    (
        "decoding",
        "rep",
        "preferred",
        "What the rankers make of the samples",
        "Further up is preferred more often to a plain sample, further left repeats less.",
    ),
)
"""Name, metric to the right, metric upwards, title, caption."""


def pictures(summary: Mapping[str, Any]) -> list[Picture]:
    """Those whose metrics were measured."""
    from kilter.lab.plots import tradeoff

    return [
        Picture(name, title, caption, tradeoff(summary, x=x, y=y))
        for name, x, y, title, caption in _FIGURES
        if any({x, y} <= arm["metrics"].keys() for arm in summary["arms"].values())
    ]


def remarks(summary: Mapping[str, Any], *, novels: bool, samples: int) -> list[str]:
    """What the figures are, and are not; `samples` of each prompt, 0 where nothing was decoded."""
    notes = []
    if novels:
        notes.append("Each seed holds out another of the three novels, of which nothing is seen in training.")
    if any("preferred" in arm["metrics"] for arm in summary["arms"].values()):
        notes.append(
            "The ranker that judges the texts has learnt from other passages of the same documents than the rankers "
            "judged, and from the same encoder: it is another opinion, not a person's; the arm judge shows how good it "
            "is. Plain sampling is at 50 % by definition."
        )
    if samples:
        notes.append(
            f"All rankers choose among the same {samples} samples of each prompt; texts are cut after their last whole "
            "sentence, as RankGen's."
        )
    return notes
