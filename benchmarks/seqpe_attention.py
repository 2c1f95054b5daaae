"""What positions cost a model: a whole forward pass, attention alone, and a training step with both regularisers.

    python benchmarks/seqpe_attention.py [--repeats 9] [--lengths 512 1024 4096] [--batch 8] [--json FILE]

`forward` is GPT-2 small (12 layers of 768) with `SeqPE(20_000)`, whose table is kept, over the same model whose table
of positions is zeros. `attention` is that of one layer, 12 heads of 64, over the published form, which computes a bias
of N × N in every layer. `step` is forward, backward and AdamW of 12 layers of 256 on blocks of 512, with both losses
(16 pivots of 32 candidates, 16 windows of 32 places) over the same without; positions are not shifted. Interleaved,
medians of CPU time; peak memory is what one call of each side allocates beyond what was there (torch's own CPU
allocator events). Weights are random, which changes no time. One thread.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from kilter.hosts.position_attention import PREFIX, Given, register
from kilter.pretraining import SeqPE, attach

HEADS, SIZE = 12, 64


def compared(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Medians of CPU time and of the ratio of the second call to the first, one after another, and peak memory."""
    seconds = interleaved(calls, repeats)
    plain, ours = calls
    ratios = [b / a for a, b in zip(seconds[plain], seconds[ours], strict=True)]
    peaks = {name: peak_bytes(call) for name, call in calls.items()}
    return {
        **{f"{name}_ms": 1e3 * statistics.median(each) for name, each in seconds.items()},
        **{f"{name}_peak_mb": peak / 1e6 for name, peak in peaks.items()},
        "ratio": statistics.median(ratios),
        "peak_ratio": peaks[ours] / peaks[plain],
    }


def model_of(length: int, width: int = HEADS * SIZE) -> Any:
    config = GPT2Config(n_positions=length, n_embd=width, n_head=width // SIZE, n_layer=12, use_cache=False)
    model = GPT2LMHeadModel(config)
    torch.nn.init.zeros_(model.transformer.wpe.weight)
    return model


@torch.no_grad()
def forward(length: int, repeats: int) -> dict[str, Any]:
    """A whole pass over one text, without its last projection to words, which is the same on both sides."""
    ids = torch.randint(50_000, (1, length))
    plain, ours = model_of(length).eval(), attach(model_of(length), SeqPE(20_000)).eval()
    calls = {
        "plain": lambda: plain(ids, logits_to_keep=1),
        "seqpe": lambda: ours(ids, logits_to_keep=1),
    }
    return {"forward": {"tokens": length}, **compared(calls, repeats)}


def with_bias(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, masked: Tensor) -> Tensor:
    """The published form: the product of positions as a bias of the logits."""
    logits = (q @ k.transpose(2, 3) + a @ b.transpose(2, 3)) / math.sqrt(SIZE)
    return logits.masked_fill(masked, -torch.inf).softmax(-1) @ v


@torch.no_grad()
def attention(length: int, repeats: int) -> dict[str, Any]:
    """The attention of one layer."""
    register()
    q, k, v = torch.randn(3, 1, HEADS, length, SIZE)
    a, b = torch.randn(2, 1, length, HEADS, SIZE)
    layer = torch.nn.Module()
    layer.__dict__.update(kilter_layer=0, is_causal=True)
    masked = torch.ones(length, length).triu(1).bool()
    given, call = Given("attn_scalar", (a,), (b,)), ALL_ATTENTION_FUNCTIONS[f"{PREFIX}sdpa"]

    def ours() -> Tensor:
        return call(layer, q, k, v, None, kilter_positions=given, scaling=1 / math.sqrt(SIZE))[0]

    calls = {"bias": lambda: with_bias(q, k, v, a.transpose(1, 2), b.transpose(1, 2), masked), "seqpe": ours}
    torch.testing.assert_close(calls["bias"]().transpose(1, 2), ours(), rtol=1e-4, atol=1e-4)
    return {"attention": {"tokens": length}, **compared(calls, repeats)}


def step(batch: int, repeats: int) -> dict[str, Any]:
    """A training step."""
    ids, calls = torch.randint(50_000, (batch, 512)), {}
    for name, weight in (("without", 0.0), ("with", 0.1)):
        term = SeqPE(20_000, contrast_weight=weight, transfer_weight=weight, shift_rate=0.0)
        model = attach(model_of(512, 256), term).train()
        optimiser = torch.optim.AdamW(model.parameters(), 5e-5)

        def train(model: Any = model, optimiser: Any = optimiser) -> None:
            model(ids, labels=ids).loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        calls[name] = train
    return {"step": {"batch": batch, "tokens": 512}, **compared(calls, repeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 4096])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)

    for length in options.lengths:
        keep(attention(length, options.repeats))
        keep(forward(length, options.repeats))
    keep(step(options.batch, max(1, options.repeats // 2)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
