"""What experts cost: a batch of several domains through five experts, beside the dense encoder it was.

    python benchmarks/moe_embeddings.py [--repeats 15] [--json FILE]

The same texts, shuffled over five domains, in inference mode and through a training step (forward and backward), dense
and converted interleaved in one process, compared by the medians of CPU time, so that a noisy machine moves both sides
alike. Peak memory is what one forward of each side allocates beyond what was there (torch's own CPU allocator events);
weights are counted apart. Sizes are those of MiniLM with three and six layers and of BERT-base; weights are random.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor

from kilter.embeddings import add_experts

SIZES = [(3, 384, 12, 32, 32), (6, 384, 12, 64, 32), (12, 768, 12, 16, 64)]
"""Layers, width, heads, texts, tokens."""
DOMAINS = ["a", "b", "c", "d", "e"]


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call, one after another, the first two rounds apart."""
    return {name: statistics.median(values) for name, values in interleaved(calls, repeats, warm=2).items()}


def measure(size: tuple[int, int, int, int, int], repeats: int) -> dict[str, Any]:
    """Ratios of time and memory of the converted encoder to the dense one, at one size."""
    from transformers import BertConfig, BertModel

    layers, width, heads, rows, tokens = size
    torch.manual_seed(0)
    config = BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        vocab_size=1000,
    )
    dense: Any = BertModel(config).eval()
    experts: Any = add_experts(copy.deepcopy(dense), DOMAINS, domain_tokens=False)
    ids = torch.randint(1, 1000, (rows, tokens))
    domain = torch.randperm(rows) % len(DOMAINS)

    def forward(model: Any, **more: Any) -> Tensor:
        with torch.inference_mode():
            return model(input_ids=ids, **more).last_hidden_state

    def step(model: Any, **more: Any) -> None:
        model.zero_grad()
        model(input_ids=ids, **more).last_hidden_state.square().mean().backward()

    mixed, pure = {"domain": domain}, {"domain": torch.zeros_like(domain)}
    difference = float((forward(experts, **mixed) - forward(dense)).abs().max())
    calls = {
        "dense": lambda: forward(dense),
        "mixed": lambda: forward(experts, **mixed),
        "pure": lambda: forward(experts, **pure),
        "dense_step": lambda: step(dense),
        "mixed_step": lambda: step(experts, **mixed),
    }
    seconds = medians(calls, repeats)
    peak = {name: peak_bytes(calls[name]) / 1e6 for name in ("dense", "mixed")}
    return {
        "size": size,
        "difference": difference,
        "dense_ms": 1e3 * seconds["dense"],
        "mixed_over_dense": seconds["mixed"] / seconds["dense"],
        "pure_over_dense": seconds["pure"] / seconds["dense"],
        "step_over_dense": seconds["mixed_step"] / seconds["dense_step"],
        "peak_mb": peak,
        "weights_mb": {
            name: sum(p.numel() * 4 for p in model.parameters()) / 1e6
            for name, model in (("dense", dense), ("experts", experts))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        rows.append(measure(size, options.repeats))
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
