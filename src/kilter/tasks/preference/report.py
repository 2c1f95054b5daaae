"""What the report of preference tuning shows beside its table: remarks, and answers side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilter.lab.files import read_rows
from kilter.lab.numbers import fixed
from kilter.lab.recipe import Picture

if TYPE_CHECKING:
    from kilter.tasks.preference.task import PreferenceTuning

_SHOWN = "Samples of each model, of the first seed, not chosen; words that no text above has are in colour."


def notes(task: "PreferenceTuning", summary: Mapping[str, Any]) -> list[str]:
    """What the figures are, and are not."""
    reward, judge = task.scorers()
    found = [
        f"N is {task.n}. Win rates are means over all choices of N among {task.samples} samples of each model, ties "
        f"shared; the divergence is that of whole answers, over at least {task.kl_samples} of them.",
        f"Learnt from {reward.name}, judged by {judge.name if judge is not None else 'the same'}.",
        *[summary["data"]["note"]] * bool(summary["data"]["note"]),
    ]
    base = summary["arms"].get(task.baseline, {}).get("metrics", {})
    if "all_fail" in base:
        share = fixed(base["all_fail"]["mean"], 0)
        found.append(f"Before training {share} % of groups of {task.group} answers lose to the reference whole.")
    return found


def side_by_side(task: "PreferenceTuning", summary: Mapping[str, Any], run: Path) -> list[Picture]:
    """Answers of the baseline and the arms that the recipe puts first, for a few prompts spread over those judged."""
    from kilter.lab.text_columns import text_columns

    there = [arm for arm in dict.fromkeys((task.baseline, *task.first, *summary["arms"])) if arm in summary["arms"]]
    rows = {arm: first_rows(run, arm) for arm in there[:3]}
    count = min(map(len, rows.values()), default=0)
    pictures = []
    for place in range(min(task.pictures_of, count)):
        at = place * count // task.pictures_of
        columns = {summary["arms"][arm]["label"]: found[at]["answers"] for arm, found in rows.items()}
        one = next(iter(rows.values()))[at]
        if "reference" in one:
            columns["Reference"] = [one["reference"]]
        svg = text_columns(one["input"], columns)
        pictures.append(Picture(f"answers-{place}", f"Answers to prompt {at + 1}", _SHOWN, svg))
    return pictures


def first_rows(run: Path, arm: str) -> Sequence[Any]:
    """Rows of the first finished seed of an arm."""
    return read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))
