"""What calibrating costs beside comparing each with each, and the fixed point beside plain damping.

    python benchmarks/infalign.py [--repeats 15] [--parts calibrate fixed-point] [--json FILE]

`calibrate` counts how many of K references each of G rewards on B prompts beats; `each` does so by comparing all of
them, a million comparisons at a time. At (B, G, K) of (500, 2,000, 100) the first should take at most
0.30 of the second, at (20,000, 8, 100), where sorting the references is most of the work, at most 1.2 times as long.
`fixed_point` is to take at most 0.3 of the time of the damped iteration alone, which ends at the same transform. Calls
are interleaved, times are CPU time, ratios medians of ratios.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved
from torch import Generator, Tensor

from kilter.preference import calibrate, fixed_point, tilt
from kilter.preference.unit_grid import cumulative, uniform

SIZES = {(500, 2000, 100): 0.30, (20_000, 8, 100): 1.2}
POINTS = {("best_of", 2, 0.1): 0.03, ("best_of", 4, 0.3): 0.1, ("best_of", 4, 0.1): 0.03, ("worst_of", 4, 0.1): 0.03}
"""Decoder, draws and beta, and the damping at which the plain iteration converges."""
MOST = 0.3
AT_ONCE = 1_000_000


def each_with_each(rewards: Tensor, reference: Tensor) -> Tensor:
    """The same, in slices of the batch."""
    rows = max(1, AT_ONCE // (rewards.shape[1] * reference.shape[1]))
    found = []
    for some, others in zip(rewards.split(rows), reference.split(rows), strict=True):
        above, other = some[:, :, None], others[:, None]
        found.append(((above > other).sum(-1) + (above >= other).sum(-1)) / (2 * reference.shape[1]))
    return torch.cat(found)


def damped(decoder: str, n: int, beta: float, step: float) -> Tensor:
    """The transform by damping alone."""
    u = uniform()
    phi = u
    while True:
        below = cumulative(tilt(phi, beta)).clamp(0, 1)
        inner = below * u if decoder == "best_of" else (1 - below) * (1 - u)
        change = cumulative(n**2 * inner ** (n - 1)) - phi
        if float(change.abs().max()) < 1e-10:
            return phi
        phi = phi + step * change


def over(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of each of two calls, and the median of the first over the second."""
    seconds = interleaved(calls, repeats)
    first, second = seconds.values()
    found = {f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in seconds.items()}
    return {**found, "ratio": round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 3)}


def calibrating(repeats: int) -> list[dict[str, Any]]:
    lines = []
    for size, most in SIZES.items():
        batch, samples, references = size
        draw = Generator().manual_seed(0)
        rewards, reference = (torch.randn(batch, count, generator=draw) for count in (samples, references))
        calls = {
            "calibrate": partial(calibrate, rewards, reference),
            "each": partial(each_with_each, rewards, reference),
        }
        assert torch.equal(*(call() for call in calls.values()))
        found = over(calls, repeats)
        lines.append({"part": "calibrate", "size": size, **found, "target": most, "met": found["ratio"] <= most})
    return lines


def fixed_points(repeats: int) -> list[dict[str, Any]]:
    lines = []
    for (decoder, n, beta), step in POINTS.items():
        calls = {
            "fixed_point": partial(fixed_point, decoder, n, beta),
            "damped": partial(damped, decoder, n, beta, step),
        }
        ours, theirs = calls["fixed_point"]().phi, calls["damped"]()
        apart = float(((ours - ours[0]) - (theirs - theirs[0])).abs().max())
        found = over(calls, max(3, repeats // 3))
        line = {"part": "fixed point", "decoder": decoder, "n": n, "beta": beta, **found, "apart": apart}
        lines.append({**line, "target": MOST, "met": found["ratio"] <= MOST})
    return lines


PARTS = {"calibrate": calibrating, "fixed-point": fixed_points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for part in options.parts:
        for line in PARTS[part](options.repeats):
            found.append(line)
            print(json.dumps(line), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
