"""What the curves say beside what was measured: win rates by divergence, and how even a calibrated reward is."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kilter.evaluation.intervals import Interval, t_interval
from kilter.lab.delays import DASHES
from kilter.lab.files import read_rows
from kilter.lab.numbers import fixed, possible
from kilter.lab.recipe import SHARE, Picture

if TYPE_CHECKING:
    from kilter.tasks.preference.task import PreferenceTuning

METRICS: Mapping[Any, str] = {"best_of": "win_best", "worst_of": "win_worst", "plain": "win_plain"}
"""What is measured of the decoder that a run is tuned for."""
_POINTS, _BINS = 12, 10
_AROUND = (
    "Curves are exact where no two answers have one reward; points are measured, with 95 % t intervals over prompts."
)
_EVEN = "Of fresh answers of the model as given, among its other answers: without ties every bar has the dotted height."


def analytic(kl: float, kind: Any, *, decoder: Any, n: int, rate: float) -> dict[str, float]:
    """Win rates in per cent of the density that a transform for `decoder` has at `kl`, behind each decoder."""
    from kilter.preference import density_kl, tilt, win_rate, win_rate_at_kl

    _, beta = win_rate_at_kl(kl, kind, decoder=decoder, n=n, rate=rate)
    density = tilt(shape_on_grid(kind, beta, decoder=decoder, n=n, rate=rate), beta)
    found = {name: 100 * float(win_rate(density, one, n)) for one, name in METRICS.items()}
    return {**found, "kl": float(density_kl(density))}


def shape_on_grid(kind: Any, beta: float, *, decoder: Any, n: int, rate: float) -> torch.Tensor:
    """A transform on a grid of [0, 1], the logarithm without its pole."""
    from kilter.preference import reward_transform

    u = torch.linspace(0, 1, 4001, dtype=torch.float64)
    more: Any = {"beta": beta} if kind == "fixed_point" else {"floor": 1e-9} if kind == "log" else {}
    return reward_transform(u, kind, decoder=decoder, n=n, rate=rate, **more)


def win_rates_by_kl(
    summary: Mapping[str, Any], run: Path, kinds: Mapping[str, Any], *, decoder: Any, n: int, rate: float
) -> Picture:
    """The curve of each transform, and every arm at what it cost and won.

    Args:
        summary: of the run.
        run: its directory.
        kinds: the transform of each arm that has a curve.
        decoder: what arms are tuned for.
        n: of it.
        rate: of exp.
    """
    from matplotlib.figure import Figure

    from kilter.lab.layout import Key, settle
    from kilter.lab.theme import SERIES, colour, theme, to_svg
    from kilter.preference import win_rate_at_kl
    from kilter.tasks.preference.figures import beside_key

    metric = METRICS[decoder]
    measured = {arm: one for arm, one in summary["arms"].items() if {metric, "kl"} <= one["metrics"].keys()}
    most = max([1.0, *(1.1 * one["metrics"]["kl"]["mean"] for one in measured.values())])
    across = np.linspace(most / _POINTS, most, _POINTS)
    with theme():
        fig = Figure(figsize=(7.6, 4.2))
        axes = fig.subplots()
        axes.grid(True)
        entries: list[Any] = []
        told = []
        inks = {name: colour(SERIES[place % len(SERIES)]) for place, name in enumerate(kinds)}
        for place, (name, kind) in enumerate(kinds.items()):
            up = [100 * win_rate_at_kl(float(kl), kind, decoder=decoder, n=n, rate=rate)[0] for kl in across]
            look: dict[str, Any] = {"linewidth": 1.5, "dashes": DASHES[place % len(DASHES)] or (None, None)}
            axes.plot([0, *across], [50, *up], color=inks[name], **look)
            entries.append((name, inks[name], look))
        for arm, one in measured.items():
            name = next((name for name in kinds if arm == name or arm.startswith(f"{name}-")), "")
            ink = inks.get(name, colour("baseline" if arm == summary["baseline"] else "ink"))
            look = {"linestyle": "none", "marker": "o" if name else "s", "markersize": 6}
            x, y = one["metrics"]["kl"]["mean"], one["metrics"][metric]["mean"]
            axes.plot([x], [y], color=ink, **look)
            if (
                (found := over_prompts(run, arm, metric)) is not None
                and found.low is not None
                and found.high is not None
            ):
                axes.plot([x, x], [found.low, found.high], color=ink, linewidth=1.2)
            entries.append((one["label"], ink, look))
            told.append(f"{one['label']}: {fixed(y, 1)} % at {fixed(x, 2)} nats")
        axes.set(xlabel="divergence from the model as given, nats", ylabel=f"{summary['metrics'][metric]['label']}, %")
        beside_key(fig, axes, Key(entries, 190.0), settle)
        svg = to_svg(fig, title="Win rate against divergence", description="; ".join(told))
    return Picture("win-rates", "Win rate against divergence", _AROUND, svg)


def over_prompts(run: Path, arm: str, metric: str) -> Interval | None:
    """Student's interval over prompts of a metric in per cent, each prompt the mean of its seeds; None without rows."""
    by_prompt: dict[str, list[float]] = {}
    for file in sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")):
        for row in read_rows(file):
            if metric in row["totals"]:
                by_prompt.setdefault(row["input"], []).append(100 * row["totals"][metric][0])
    if not by_prompt:
        return None
    found = t_interval([float(np.mean(values)) for values in by_prompt.values()])
    return Interval(found.mean, *possible(found.low, found.high, SHARE))


def intervals_said(summary: Mapping[str, Any], run: Path | None) -> list[str]:
    """Win rates with Student's interval over prompts."""
    said = []
    for metric in METRICS.values():
        each = []
        for arm, one in summary["arms"].items():
            found = over_prompts(run, arm, metric) if run is not None else None
            if found is not None and found.low is not None and found.high is not None:
                each.append(f"{one['label']} {fixed(found.mean, 1)} [{fixed(found.low, 1)}, {fixed(found.high, 1)}]")
        if each:
            said.append(f"{summary['metrics'][metric]['label']}, %, t interval over prompts: {'; '.join(each)}.")
    return said


def gap_said(kl: float, *, decoder: Any, n: int, rate: float) -> str:
    """What calibration and its exponential win at `kl`, and the most that can be won."""
    from kilter.preference import win_rate_at_kl

    shape: Any = {"decoder": decoder, "n": n, "rate": rate}
    plain, bent, best = (100 * win_rate_at_kl(kl, kind, **shape)[0] for kind in ("identity", "exp", "fixed_point"))
    gap = f"{fixed(bent - plain, 1)} points between the first two"
    return (
        f"At a divergence of {kl:g} nats the curves have {fixed(plain, 1)} % for the calibrated reward, "
        f"{fixed(bent, 1)} % for the exponential and {fixed(best, 1)} % at most: {gap}."
    )


def calibrated_again(rewards: torch.Tensor) -> torch.Tensor:
    """Places of the model's answers to the prompts learnt from among its other answers `(P, K)`, each left out."""
    from kilter.preference import calibrate

    count = rewards.shape[1]
    among = calibrate(rewards, rewards)
    return (among * count - 0.5) / (count - 1)  # a tie with itself counts a half


def evenness(task: "PreferenceTuning", run: Path) -> list[Picture]:
    """How the calibrated reward of the model's own answers is spread."""
    from matplotlib.figure import Figure

    from kilter.lab.layout import settle
    from kilter.lab.theme import colour, theme, to_svg

    if (rewards := task.drawn_rewards()) is None:
        return []
    places = calibrated_again(rewards).flatten()
    shares, edges = np.histogram(places[~places.isnan()].numpy(), bins=_BINS, range=(0, 1))
    heights = 100 * shares / max(1, shares.sum())
    with theme():
        fig = Figure(figsize=(6.4, 3.2))
        axes = fig.subplots()
        axes.grid(True, axis="y")
        axes.bar(edges[:-1], heights, width=1 / _BINS, align="edge", color=colour("series-1"), alpha=0.55)
        axes.axhline(100 / _BINS, color=colour("ink"), linewidth=1.0, dashes=(1.5, 1.5))
        axes.set(xlabel="calibrated reward", ylabel="answers, %", xlim=(0, 1))
        settle(fig, axes)
        told = ", ".join(fixed(float(height), 1) for height in heights)
        svg = to_svg(fig, title="Calibrated reward", description=f"Shares in tenths from 0 to 1, %: {told}")
    return [Picture("calibrated", "Calibrated reward of the model's own answers", _EVEN, svg)]


def ties_said(task: "PreferenceTuning") -> list[str]:
    """How much of the draws have the reward of another draw to their prompt."""
    if (rewards := task.drawn_rewards()) is None:
        return []
    same = (rewards[:, :, None] == rewards[:, None]).sum(2) - 1
    mass = 100 * float((same / (rewards.shape[1] - 1)).mean())
    said = f"Two answers of the model as given to one prompt have the same reward in {fixed(mass, 1)} % of pairs"
    return [f"{said}; the curves hold where none has." if mass >= 0.05 else f"{said}."]
