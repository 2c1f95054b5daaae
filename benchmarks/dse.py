"""What a score of a pair costs: the head's matrix beside naive concatenation, and beside a cross-encoder.

    python benchmarks/dse.py [--repeats 9] [--candidates 100000] [--pairs 64] [--json FILE]

`matrix` are queries with many candidates: `PairHead.score_matrix`, and `forward` of as many concatenated pairs, on the
same vectors, interleaved, medians of CPU time. Peak memory is what one call of each side allocates beyond what was
there (torch's own CPU allocator events), the result included. `pairs` is a query with --candidates stored vectors by
the head, the encoding of the query apart, against a cross-encoder of MiniLM's sizes that reads --pairs pairs at once,
of 32 tokens or of 128, the published limit; every pair costs it the same. Weights are random, which changes no time.
One thread.
"""

import argparse
import json
import statistics
from itertools import product
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from kilter.embeddings import PairHead

SIZES = [(384, 1, 4000), (384, 16, 4000), (384, 1, 40_000), (1536, 1, 10_000)]
"""Width of a vector, queries, candidates."""
WIDTHS = (384, 1536)
TOKENS = (32, 128)


def naive(head: PairHead, u: Tensor, v: Tensor) -> Tensor:
    """Every pair with all its features, in one piece."""
    return head(u.repeat_interleave(len(v), 0), v.repeat(len(u), 1)).view(len(u), len(v), -1)


def matrix(width: int, queries: int, candidates: int, repeats: int, **options: Any) -> dict[str, Any]:
    """Ratios of the matrix to naive concatenation at one size."""
    head = PairHead(width, **options)
    u, v = torch.randn(queries, width), torch.randn(candidates, width)
    calls = {"naive": lambda: naive(head, u, v), "matrix": lambda: head.score_matrix(u, v)}
    torch.testing.assert_close(calls["matrix"](), calls["naive"](), rtol=1e-4, atol=1e-4)
    seconds = interleaved(calls, repeats)
    ratios = [ours / theirs for ours, theirs in zip(seconds["matrix"], seconds["naive"], strict=True)]
    peak = {name: peak_bytes(call) for name, call in calls.items()}
    return {
        "matrix": {"width": width, "queries": queries, "candidates": candidates, **options},
        "naive_ms": 1e3 * statistics.median(seconds["naive"]),
        "matrix_over_naive": statistics.median(ratios),
        "naive_peak_mb": peak["naive"] / 1e6,
        "matrix_peak_mb": peak["matrix"] / 1e6,
        "peak_over_naive": peak["matrix"] / peak["naive"],
    }


def pairs(width: int, tokens: int, candidates: int, read: int, repeats: int) -> dict[str, Any]:
    """Pairs a second by the head and by a cross-encoder of six layers of 384."""
    sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
    teacher = BertForSequenceClassification(BertConfig(num_labels=1, **sizes)).eval()
    ids = torch.randint(30_000, (read, tokens))
    head, u, v = PairHead(width), torch.randn(1, width), torch.randn(candidates, width)
    calls = {"teacher": lambda: teacher(input_ids=ids), "head": lambda: head.score_matrix(u, v)}
    seconds = {name: statistics.median(values) for name, values in interleaved(calls, repeats).items()}
    rate = {"teacher": read / seconds["teacher"], "head": candidates / seconds["head"]}
    return {
        "pairs": {"width": width, "candidates": candidates, "tokens": tokens},
        "head_s": seconds["head"],
        "teacher_s": candidates / rate["teacher"],
        **{f"{name}_pairs_a_second": value for name, value in rate.items()},
        "times_faster": rate["head"] / rate["teacher"],
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)

    for size in SIZES:
        keep(matrix(*size, options.repeats))
    keep(matrix(*SIZES[0], options.repeats, symmetric=True))
    keep(matrix(*SIZES[0], options.repeats, features="dot"))
    for width, tokens in product(WIDTHS, TOKENS):
        keep(pairs(width, tokens, options.candidates, options.pairs, max(3, options.repeats // 3)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
