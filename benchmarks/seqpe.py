"""What positions cost that are read digit by digit: each prefix once, beside every token of every position.

    python benchmarks/seqpe.py [--repeats 9] [--json FILE]

`plain` computes all slots of all positions in all layers, by torch's own transformer layers, as the published
evaluation does; `table` is ours. Both have the same weights, and their vectors are compared first. Calls are
interleaved, times are medians of CPU time; `table_over_plain` is the median of ratios, and should be at most 0.34 for
2,000 positions of width 256. Peak memory is what one call allocates beyond what was there (torch's own CPU allocator
events). `train` is a forward and a backward pass. `growth` reads a table that grows by one position at a time, as in
generation: all reads together, over one plain pass of the final length. One thread.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.pretraining import SequentialPositionEncoder, position_digits

SIZES = [(256, 2000), (64, 2000), (768, 500), (256, 10_000)]
"""Width and positions; the first is the one that has a target."""
TARGET = 0.34


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def plain(encoder: SequentialPositionEncoder) -> Callable[[Tensor], Tensor]:
    """All tokens of all positions, with the weights of `encoder`."""
    names = {"out_proj": "attention_out", "linear1": "expand", "linear2": "contract", "norm1": "attention_norm"}
    layers = nn.ModuleList()
    for block in encoder.blocks:
        layer = nn.TransformerEncoderLayer(
            encoder.width, encoder.heads, 4 * encoder.width, 0.0, gelu, batch_first=True, norm_first=True
        )
        ours = dict(block.named_modules())
        for name, module in layer.named_modules():
            short = name.rpartition(".")[2]
            if short in names or short == "norm2":
                module.load_state_dict(ours[names.get(short, "mlp_norm")].state_dict())
        with torch.no_grad():
            for kind in ("weight", "bias"):
                parts = [getattr(ours[one], kind) for one in ("query", "key_value")]
                getattr(layer.self_attn, f"in_proj_{kind}").copy_(torch.cat(parts))
        layers.append(layer)
    slots = encoder.num_digits + 1
    hidden = torch.ones(slots, slots, dtype=torch.bool).triu(1)

    def run(positions: Tensor) -> Tensor:
        x = encoder.digit(position_digits(positions, encoder.num_digits)) + encoder.place.weight
        x = torch.cat([x, encoder.summary.expand(len(x), 1, -1)], 1)
        for layer in layers:
            x = layer(x, src_mask=hidden, is_causal=True)
        return encoder.out(encoder.norm(x))[:, -1]

    return run


def compared(what: str, calls: dict[str, Callable[[], object]], repeats: int, **about: Any) -> dict[str, Any]:
    """Times and memory of ours and of the plain encoder."""
    seconds = interleaved(calls, repeats)
    ratios = [ours / theirs for ours, theirs in zip(seconds[what], seconds["plain"], strict=True)]
    peak = {name: peak_bytes(call) / 1e6 for name, call in calls.items()}
    return {
        what: about,
        **{f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in seconds.items()},
        f"{what}_over_plain": round(statistics.median(ratios), 4),
        **{f"{name}_peak_mb": round(value, 1) for name, value in peak.items()},
    }


def table(width: int, count: int, repeats: int) -> dict[str, Any]:
    """A table made anew each time."""
    encoder = SequentialPositionEncoder(20_000, width=width).eval()
    whole, positions = plain(encoder), torch.arange(count)

    def anew() -> Tensor:
        encoder.train().eval()
        return encoder.table(count)

    with torch.no_grad():
        gap = float((anew() - whole(positions)).abs().max())
        row = compared("table", {"plain": lambda: whole(positions), "table": anew}, repeats, width=width, count=count)
    aim = {"target": TARGET, "met": row["table_over_plain"] <= TARGET} if (width, count) == SIZES[0] else {}
    return row | {"largest_difference": gap, **aim}


def train(width: int, count: int, repeats: int) -> dict[str, Any]:
    """Positions of a training step, with gradients."""
    encoder = SequentialPositionEncoder(20_000, width=width)
    whole, positions = plain(encoder), torch.arange(count)
    calls = {
        "plain": lambda: whole(positions).square().sum().backward(),
        "train": lambda: encoder(positions).square().sum().backward(),
    }
    return compared("train", calls, repeats, width=width, count=count)


def growth(width: int, count: int, repeats: int) -> dict[str, Any]:
    """A table that is read after every new position."""
    encoder = SequentialPositionEncoder(20_000, width=width).eval()
    whole, positions = plain(encoder), torch.arange(count)

    def step_by_step() -> None:
        encoder.train().eval()
        for size in range(1, count + 1):
            encoder.table(size)

    with torch.no_grad():
        calls = {"plain": lambda: whole(positions), "growth": step_by_step}
        return compared("growth", calls, repeats, width=width, count=count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)

    for number, size in enumerate(SIZES):
        keep(table(*size, options.repeats if not number else max(3, options.repeats // 3)))
    keep(train(256, 1000, max(3, options.repeats // 3)))
    keep(growth(256, 2000, max(3, options.repeats // 3)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
