"""What whitening costs: beside one group after another by `eigh`, and beside a training step of MiniLM.

    python benchmarks/whitened_cse.py [--repeats 30] [--step 3] [--json FILE]

Forward and backward of one view on the same vectors and the same shuffle, interleaved in one process, compared by the
medians of CPU time, so that a noisy machine moves both sides alike. Peak memory is what one call of each side allocates
beyond what was there (torch's own CPU allocator events). `--step N` also trains N steps of all-MiniLM-L6-v2 (64
sentences of 32 tokens, three views, AdamW) and says what share of one the whitening is.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor

from kilter.embeddings import WhitenedCSE, shuffled_group_whitening
from kilter.ops.whitening import Method

SIZES = [(128, 768, 128), (64, 384, 64), (512, 1024, 128)]
"""Vectors, channels, groups."""
METHODS: tuple[Method, ...] = ("zca", "cholesky", "svd")


def group_by_group(x: Tensor, groups: int, permutation: Tensor) -> Tensor:
    """The plain way, with a constant matrix as in ours; of batch x dim values."""
    shuffled, size = x[:, permutation], x.shape[1] // groups
    white = []
    for g in range(groups):
        part = shuffled[:, g * size : (g + 1) * size]
        part = part - part.mean(0)
        values, vectors = torch.linalg.eigh((part.T @ part / len(x)).detach())
        white.append(part @ (vectors * values.rsqrt()) @ vectors.T)
    return torch.cat(white, 1)[:, permutation.argsort()]


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call, one after another, the first three rounds apart."""
    return {name: statistics.median(values) for name, values in interleaved(calls, repeats, warm=3).items()}


def measure(size: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    """Ratios of time to the plain way at one size, and memory of both."""
    batch, dim, groups = size
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(batch, dim, generator=generator) @ torch.randn(dim, dim, generator=generator)
    x = mixed.requires_grad_()
    permutation = torch.randperm(dim, generator=generator)
    upstream = torch.randn(batch, dim, generator=generator)

    def ours(method: Method, detach: bool = True) -> Callable[[], Tensor]:
        def call() -> Tensor:
            y = shuffled_group_whitening(x, groups, permutation=permutation, method=method, epsilon=0, detach=detach)
            return torch.autograd.grad(y, x, upstream)[0]

        return call

    def plain() -> Tensor:
        return torch.autograd.grad(group_by_group(x, groups, permutation), x, upstream)[0]

    calls = {"plain": plain, **{method: ours(method) for method in METHODS}, "whole gradient": ours("zca", False)}
    torch.testing.assert_close(calls["zca"](), plain(), rtol=1e-3, atol=1e-3)
    seconds = medians(calls, repeats)
    return {
        "size": size,
        "plain_ms": 1e3 * seconds["plain"],
        "over_plain": {name: value / seconds["plain"] for name, value in seconds.items() if name != "plain"},
        "peak_mb": {name: peak_bytes(calls[name]) / 1e6 for name in ("plain", "zca")},
        "vectors_mb": x.numel() * 4 / 1e6,
    }


def share_of_a_step(steps: int) -> dict[str, Any]:
    """What whitening, and all of the loss, is of the CPU time of a training step."""
    from kilter.data.pretrained import minilm

    model, _ = minilm()
    model.train()
    loss = WhitenedCSE(384, groups=64)
    optimiser = torch.optim.AdamW([*model.parameters(), *loss.parameters()], 1e-5)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20000, (3 * 64, 32), generator=generator)

    def step() -> None:
        optimiser.zero_grad()
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        loss(states.mean(1).view(3, 64, 384), generator).loss.backward()
        optimiser.step()

    views = torch.randn(3, 64, 384, generator=generator).requires_grad_()

    def whitening() -> None:
        white, _ = loss._whiten(views, generator)
        torch.autograd.grad(white.sum(), views)

    calls = {"whitening": whitening, "loss": lambda: loss(views, generator).loss.backward()}
    seconds = medians(calls, 30) | medians({"step": step}, steps)
    shares: Iterator[tuple[str, float]] = ((name, seconds[name] / seconds["step"]) for name in calls)
    return {"step_s": seconds["step"], **{f"{name}_share": value for name, value in shares}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--step", type=int, default=0, help="training steps of MiniLM to compare with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for found in chain(
        (measure(size, options.repeats) for size in SIZES),
        (share_of_a_step(options.step) for _ in range(options.step > 0)),
    ):
        rows.append(found)
        print(json.dumps(found), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
