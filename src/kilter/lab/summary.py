"""From the pieces of a run to the figures people read: means, intervals and paired differences of its arms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kilter.core.paper import Claim
from kilter.evaluation.intervals import Interval, ratio_bootstrap, ratio_interval, t_interval
from kilter.lab.arms import Arm
from kilter.lab.files import read_json, read_rows
from kilter.lab.metrics import Metric
from kilter.lab.numbers import possible
from kilter.lab.verdicts import judge

Seeds = Mapping[int, Path]
"""Folder of each finished seed of an arm."""


class Arms:
    """The finished pieces of a run, and what can be said from them."""

    def __init__(
        self,
        pieces: Mapping[str, Seeds],
        metrics: Mapping[str, Metric],
        baseline: str,
        intervals: Literal["seeds", "examples"] = "seeds",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.metrics = metrics
        self.labels = labels or {arm: arm for arm in pieces}
        self.baseline = baseline
        self._by_examples = intervals == "examples"
        self.figures = {
            arm: {seed: read_json(folder / "metrics.json") for seed, folder in seeds.items()}
            for arm, seeds in pieces.items()
        }
        self._folders = pieces
        self._totals: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        self._inputs: dict[tuple[str, int], list[Any]] = {}

    def interval_name(self) -> str:
        """What the intervals are over."""
        count = max(map(len, self.figures.values()), default=0)
        if self._by_examples:
            return f"95 % bootstrap over inputs{f', {count} seeds pooled' if count > 1 else ' of one seed'}"
        return f"95 % t interval over {count} seeds" if count > 1 else "95 % bootstrap over inputs of one seed"

    def values(self, arm: str) -> dict[str, dict[str, Any]]:
        """Mean and interval of every metric of an arm."""
        return {name: asdict(found) for name in self.metrics if (found := self.value(arm, name)) is not None}

    def costs(self, arm: str) -> dict[str, float]:
        """Mean of every `cost_` figure of an arm."""
        rows = list(self.figures[arm].values())
        names = sorted({name for row in rows for name in row if name.startswith("cost_")})
        return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}

    def differences(self, arm: str) -> dict[str, dict[str, Any]]:
        """Arm minus baseline, paired by seed (or by input when there is one seed)."""
        if self.baseline not in self.figures or arm == self.baseline:
            return {}
        return {name: asdict(found) for name in self.metrics if (found := self.difference(arm, name)) is not None}

    def difference(self, arm: str, metric: str, baseline: str | None = None) -> Interval | None:
        """Paired difference in one metric from the baseline or another arm, None where it cannot be had."""
        baseline = baseline or self.baseline
        ours, theirs = self.figures[arm], self.figures[baseline]
        both = [s for s in ours if s in theirs and None not in (ours[s].get(metric), theirs[s].get(metric))]
        if not both:
            return None
        if (len(both) == 1 or self._by_examples) and (pair := self.paired(arm, baseline, metric, both)) is not None:
            return ratio_bootstrap(*pair, scale=self._scale(metric), exp=self.metrics[metric].exp)
        found = t_interval([ours[s][metric] - theirs[s][metric] for s in both])
        return self._possible(found, metric, change=True)

    def ratio(self, arm: str, metric: str, baseline: str) -> Interval | None:
        """How many times another arm's figure, by example; None where either has no totals or the other's are zero."""
        if self.metrics[metric].exp:  # such totals are logarithms
            return None
        seeds = sorted(self.figures[arm].keys() & self.figures[baseline].keys())
        pair = self.paired(arm, baseline, metric, seeds)
        return ratio_interval(*pair) if pair is not None and pair[1][:, 0].sum() else None

    def value(self, arm: str, metric: str) -> Interval | None:
        """Mean and interval of one metric of an arm, None where it was not measured."""
        values = {seed: row[metric] for seed, row in self.figures[arm].items() if row.get(metric) is not None}
        if not values:
            return None
        if (len(values) == 1 or self._by_examples) and (totals := self.pooled(arm, metric, [*values])) is not None:
            return ratio_bootstrap(totals, scale=self._scale(metric), exp=self.metrics[metric].exp)
        return self._possible(t_interval(list(values.values())), metric)

    def _possible(self, found: Interval, metric: str, *, change: bool = False) -> Interval:
        """Student's interval knows no bounds; what is beyond those of the metric is cut off."""
        low, high = possible(found.low, found.high, self.metrics[metric].bounds, change=change)
        return Interval(found.mean, low, high)

    def pooled(self, arm: str, metric: str, seeds: Sequence[int]) -> np.ndarray | None:
        """`(inputs, 2)` totals of a metric, each input's rows and seeds summed up; None where a seed has none.

        Rows are of one input if they say so (`input`), else by their place: the bootstrap draws inputs, not rows.
        """
        found = [self._of(arm, seed, metric) for seed in seeds]
        there = [totals for totals in found if totals is not None]
        if not found or len(there) != len(found):
            return None
        places = self._places(arm, seeds)
        of_row = [places[name] for seed in seeds for name in self._inputs[arm, seed]]
        summed = np.zeros((len(places), 2))
        np.add.at(summed, of_row, np.concatenate(there))
        return summed

    def paired(
        self, arm: str, baseline: str, metric: str, seeds: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """`pooled` totals of two arms, row by row of the same input; None where either has none.

        Raises:
            ValueError: the arms were judged on different inputs.
        """
        ours, theirs = self.pooled(arm, metric, seeds), self.pooled(baseline, metric, seeds)
        if ours is None or theirs is None:
            return None
        mine, other = self._places(arm, seeds), self._places(baseline, seeds)
        if apart := [*(mine.keys() ^ other.keys())]:
            raise ValueError(
                f"{arm} and {baseline} were judged on different inputs ({len(mine)} and {len(other)}, of which "
                f"{len(apart)} only one has, e.g. {apart[0]!r}): they cannot be paired; run one of them anew"
            )
        return ours, theirs[[other[name] for name in mine]]

    def _places(self, arm: str, seeds: Sequence[int]) -> dict[Any, int]:
        """The row of each input in what `pooled` gives."""
        return {name: at for at, name in enumerate(dict.fromkeys(n for seed in seeds for n in self._inputs[arm, seed]))}

    def _of(self, arm: str, seed: int, metric: str) -> np.ndarray | None:
        """`(examples, 2)` totals of a metric in one piece of work; an example without it counts for nothing."""
        if (arm, seed) not in self._totals:
            kept = read_rows(self._folders[arm][seed] / "utterances.jsonl")
            self._inputs[arm, seed] = [row.get("input", place) for place, row in enumerate(kept)]
            rows = [row["totals"] for row in kept]
            names = {name for row in rows for name in row}
            found = {name: np.array([row.get(name, (0, 0)) for row in rows], float) for name in names}
            self._totals[arm, seed] = found
        return self._totals[arm, seed].get(metric)

    def _scale(self, metric: str) -> float:
        return 100.0 if self.metrics[metric].unit == "%" else 1.0


def summarise(arms: Arms, claims: Sequence[Claim], described: Mapping[str, Arm]) -> dict[str, Any]:
    """The part of `summary.json` that is computed from the pieces."""
    values = {arm: arms.values(arm) for arm in arms.figures}
    shown = {name: asdict(metric) for name, metric in arms.metrics.items() if any(name in of for of in values.values())}
    return {
        "metrics": shown,
        "baseline": arms.baseline if arms.baseline in arms.figures else None,
        "interval": arms.interval_name(),
        "arms": {
            arm: {
                "label": described[arm].label,
                "role": described[arm].role,
                "series": described[arm].series,
                "point": described[arm].point,
                "seeds": sorted(found),
                "metrics": values[arm],
                "cost": arms.costs(arm),
            }
            for arm, found in arms.figures.items()
        },
        "differences": {arm: found for arm in arms.figures if (found := arms.differences(arm))},
        "verdicts": [found for claim in claims if (found := judge(claim, arms)) is not None],
    }
