"""From the pieces of a run to the figures people read: means, intervals, paired differences, verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kilter.core.paper import Claim
from kilter.evaluation.intervals import Interval, ratio_bootstrap, t_interval
from kilter.lab.files import read_json, read_rows
from kilter.lab.numbers import fixed, possible
from kilter.lab.recipe import Arm, Metric

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
    ) -> None:
        self.metrics = metrics
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
        return f"95 % t interval over {count} seeds" if count > 1 else "95 % bootstrap over utterances of one seed"

    def values(self, arm: str) -> dict[str, dict[str, Any]]:
        """Mean and interval of every metric of an arm."""
        return {name: asdict(found) for name in self.metrics if (found := self.value(arm, name)) is not None}

    def costs(self, arm: str) -> dict[str, float]:
        """Mean of every `cost_` figure of an arm."""
        rows = list(self.figures[arm].values())
        names = sorted({name for row in rows for name in row if name.startswith("cost_")})
        return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}

    def differences(self, arm: str) -> dict[str, dict[str, Any]]:
        """Arm minus baseline, paired by seed (or by utterance when there is one seed)."""
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
            return ratio_bootstrap(*pair, scale=self._scale(metric))
        found = t_interval([ours[s][metric] - theirs[s][metric] for s in both])
        return self._possible(found, metric, change=True)

    def value(self, arm: str, metric: str) -> Interval | None:
        """Mean and interval of one metric of an arm, None where it was not measured."""
        values = {seed: row[metric] for seed, row in self.figures[arm].items() if row.get(metric) is not None}
        if not values:
            return None
        if (len(values) == 1 or self._by_examples) and (totals := self.pooled(arm, metric, [*values])) is not None:
            return ratio_bootstrap(totals, scale=self._scale(metric))
        return self._possible(t_interval(list(values.values())), metric)

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

    def _possible(self, found: Interval, metric: str, *, change: bool = False) -> Interval:
        """Student's interval knows no bounds; what is beyond those of the metric is cut off."""
        low, high = possible(found.low, found.high, self.metrics[metric].bounds, change=change)
        return Interval(found.mean, low, high)

    def _scale(self, metric: str) -> float:
        return 100.0 if self.metrics[metric].unit == "%" else 1.0


def judge(claim: Claim, arms: Arms) -> dict[str, str] | None:
    """Verdict on a claim by the rules of the evidence page; None if the run cannot speak to it.

    holds: at least five seeds, and the interval clears the claim and the guard. holds in direction: the interval
    excludes zero, but not the claim's size, the guard, or with fewer seeds. contradicted: it excludes zero the
    wrong way. not seen here: anything else.
    """
    if claim.arm not in arms.figures or claim.baseline not in arms.figures or claim.metric not in arms.metrics:
        return None
    found = arms.difference(claim.arm, claim.metric, claim.baseline)
    if found is None or found.low is None or found.high is None:
        return None
    metric = arms.metrics[claim.metric]
    seeds = len(arms.figures[claim.arm].keys() & arms.figures[claim.baseline].keys())
    gain = (-found.high, -found.low) if claim.better == "lower" else (found.low, found.high)
    guarded, guard_words = _guard(claim, arms)
    if gain[1] < 0:
        verdict = "contradicted"
    elif gain[0] <= 0:
        verdict = "not seen here"
    elif gain[0] >= claim.by and guarded and seeds >= 5:
        verdict = "holds"
    else:
        verdict = "holds in direction"
    return {
        "claim": claim_text(claim, arms.metrics),
        "verdict": verdict,
        "why": _why(found, metric, guard_words, seeds),
    }


def claim_text(claim: Claim, metrics: Mapping[str, Metric]) -> str:
    """The claim in a sentence."""
    metric = metrics[claim.metric]
    text = f"{metric.label} of {claim.arm} {claim.better} than of {claim.baseline}"
    if claim.by:
        text += f" by at least {claim.by:g} {_points(metric)}"
    if claim.guard:
        guard = metrics[claim.guard[0]]
        text += f", at a {guard.label.lower()} no more than {claim.guard[1]:g} {_points(guard)} worse"
    return text


def front(arms: Arms, x: str, y: str, own: Sequence[str], rivals: Sequence[str], name: str) -> dict[str, str] | None:
    """Verdict on whether a method is on the front of two metrics, both better when lower; None without rivals.

    Its arms and the rivals' are compared by their means. contradicted: of every arm some rival is better in both, in
    `x` with a paired interval that excludes zero. holds in direction: one arm at least is behind nobody.
    """
    means = {
        arm: (a.mean, b.mean)
        for arm in (*own, *rivals)
        if (a := arms.value(arm, x)) is not None and (b := arms.value(arm, y)) is not None
    }
    if not means.keys() & set(own) or not means.keys() & set(rivals):
        return None
    ahead, behind, beaten = [], [], True
    for arm in (arm for arm in own if arm in means):
        a, b = means[arm]
        better = [r for r in rivals if r in means and means[r] != (a, b) and means[r][0] <= a and means[r][1] <= b]
        if not better:
            ahead.append(arm)
            continue
        best = min(better, key=lambda r: means[r])
        gaps = [arms.difference(rival, x, arm) for rival in better]
        beaten &= any(gap is not None and gap.high is not None and gap.high < 0 for gap in gaps)
        shift, cost = means[best][0] - means[arm][0], means[best][1] - means[arm][1]
        behind.append(
            f"{arm} is behind {best} ({_plain(shift, arms.metrics[x])}, {_plain(cost, arms.metrics[y], points=True)})"
        )
    verdict = "holds in direction" if ahead else "contradicted" if beaten else "not seen here"
    said = [f"on the front: {', '.join(ahead)}"] if ahead else []
    labels = f"{arms.metrics[x].label.lower()} and {arms.metrics[y].label.lower()}"
    return {"claim": f"{name} on the front of {labels}", "verdict": verdict, "why": "; ".join(said + behind)}


def _plain(value: float, metric: Metric, *, points: bool = False) -> str:
    unit = _points(metric) if points else metric.unit
    return f"{fixed(value, metric.digits, signed=True)} {unit}"


def _guard(claim: Claim, arms: Arms) -> tuple[bool, str]:
    if claim.guard is None:
        return True, ""
    name, worst = claim.guard
    found = arms.difference(claim.arm, name, claim.baseline)
    if found is None or found.high is None or found.low is None:
        return False, f"; {arms.metrics[name].label.lower()} was not measured"
    metric = arms.metrics[name]
    rise = found.high if metric.better == "lower" else -found.low
    return rise <= worst, f"; {metric.label.lower()} {_signed(found, metric, _points(metric))}"


def _why(found: Interval, metric: Metric, guard: str, seeds: int) -> str:
    return f"{metric.label} {_signed(found, metric, _points(metric))}{guard}; {seeds} seed{'s' * (seeds != 1)}"


def _signed(found: Interval, metric: Metric, unit: str) -> str:
    def show(value: float | None) -> str:
        return fixed(value, metric.digits, signed=True) if value is not None else "?"

    return f"{show(found.mean)} {unit} [{show(found.low)}, {show(found.high)}]"


def _points(metric: Metric) -> str:
    return "points" if metric.unit == "%" else metric.unit


def summarise(arms: Arms, claims: Sequence[Claim], described: Mapping[str, Arm]) -> dict[str, Any]:
    """The part of `summary.json` that is computed from the pieces."""
    shown = {n: asdict(m) for n, m in arms.metrics.items() if any(n in arms.values(a) for a in arms.figures)}
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
                "metrics": arms.values(arm),
                "cost": arms.costs(arm),
            }
            for arm, found in arms.figures.items()
        },
        "differences": {arm: found for arm in arms.figures if (found := arms.differences(arm))},
        "verdicts": [found for claim in claims if (found := judge(claim, arms)) is not None],
    }
