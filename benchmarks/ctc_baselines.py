"""Rivals of Align With Purpose against `F.ctc_loss`, forward and backward, on the same tensors.

    python benchmarks/ctc_baselines.py [--threads 1] [--repeats 7] [--json FILE]

Interleaved in one process and compared by medians, so that a noisy machine moves all sides alike. The n-best MWER
searches a beam of 16 for 4 hypotheses and sums each of them, so it is not to be had for less.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.speech import BayesRiskCTC, DelayPenalty, MinimumWordErrorRate, PeakFirst

# batch, frames, vocabulary, tokens; from the second on one thing at a time grows
SIZES = [
    (16, 200, 32, 50),
    (16, 200, 32, 25),
    (16, 800, 32, 50),
    (16, 800, 32, 200),
    (16, 200, 1000, 50),
    (64, 200, 32, 50),
    (8, 1500, 1000, 375),
]


def calls(batch: int, frames: int, vocab: int, tokens: int) -> dict[str, Callable[[], object]]:
    """One forward and backward of each loss."""
    g = torch.Generator().manual_seed(0)
    log_probs = torch.randn(batch, frames, vocab, generator=g).mul(2).log_softmax(-1).requires_grad_()
    targets = torch.randint(1, vocab, (batch, tokens), generator=g)
    lengths, target_lengths = torch.full((batch,), frames), torch.full((batch,), tokens)
    given: dict[str, Any] = {
        "log_probs": log_probs,
        "input_lengths": lengths,
        "targets": targets,
        "target_lengths": target_lengths,
        "references": ["b a"] * batch,
    }

    def call(loss: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(loss(), log_probs)

    objectives = {
        "PeakFirst": PeakFirst(weight=1.0),
        "DelayPenalty": DelayPenalty(penalty=0.1),
        "BayesRiskCTC end": BayesRiskCTC(risk=3.0),
        "BayesRiskCTC exp_rel": BayesRiskCTC(risk=3.0, variant="exp_rel"),
    }
    if frames * vocab <= 200 * 32:
        strings = ["", " ", *(chr(97 + i % 26) for i in range(vocab - 2))]
        objectives["MinimumWordErrorRate"] = MinimumWordErrorRate(strings)
    ctc = lambda: F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, target_lengths, reduction="sum")  # noqa: E731
    return {"F.ctc_loss": call(ctc)} | {
        name: call(lambda o=o: o(**{k: given[k] for k in o.inputs}).loss) for name, o in objectives.items()
    }


def measure(size: tuple[int, int, int, int], repeats: int) -> dict[str, float]:
    """Median time of each call over that of `F.ctc_loss`."""
    taken: dict[str, list[float]] = {}
    for i in range(repeats + 1):
        for name, call in calls(*size).items():
            start = time.perf_counter()
            call()
            if i:
                taken.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {name: value / medians["F.ctc_loss"] for name, value in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    for size in SIZES:
        ratios = measure(size, options.repeats if size[1] < 1500 else 3)
        found.append({"size": size, **ratios})
        told = "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items() if name != "F.ctc_loss")
        print(f"B={size[0]} T={size[1]} V={size[2]} U={size[3]}: {told}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "rows": found}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
