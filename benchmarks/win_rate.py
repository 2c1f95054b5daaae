"""What exact win rates cost beside comparing each sample with each.

    python benchmarks/win_rate.py [--repeats 15] [--prompts 20] [--json FILE]

`ours` is `win_rates` of best of 4 at 500 samples of either model for each prompt, ties among them; `each` weighs the
samples in the same way and then compares each with each in one array. Calls are interleaved, times are CPU time, the
ratio a median of ratios; it should be at most 0.35. The results are compared.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from _timing import interleaved

from kilter.evaluation.win_rate import selection_weights, win_rates

MOST = 0.35
SAMPLES = 500


def each_with_each(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The same by `(P, S, S')` comparisons."""
    mine, other = (selection_weights(one, n=4) for one in (ours, theirs))
    wins = (ours[:, :, None] > theirs[:, None]) + 0.5 * (ours[:, :, None] == theirs[:, None])
    return np.einsum("ps,pst,pt->p", mine, wins, other, optimize=True)


def compared(prompts: int, repeats: int) -> dict[str, Any]:
    """Seconds of both, and how far apart their results are."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.normal(shift, 1, (prompts, SAMPLES)).round(3) for shift in (0.3, 0.0))
    calls = {"ours": lambda: win_rates(ours, theirs, n=4), "each": lambda: each_with_each(ours, theirs)}
    seconds = interleaved(calls, repeats)
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["each"], strict=True))
    return {
        "prompts": prompts,
        "samples": SAMPLES,
        **{f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in seconds.items()},
        "ratio": round(ratio, 3),
        "difference": float(abs(calls["ours"]() - calls["each"]()).max()),
        "target": MOST,
        "met": ratio <= MOST,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = compared(options.prompts, options.repeats)
    print(json.dumps(found), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
