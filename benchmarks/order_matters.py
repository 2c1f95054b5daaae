"""What it costs to read sets by attention: ours beside torch_geometric's Set2Set, and orders written at once.

    python benchmarks/order_matters.py [--repeats 9] [--json FILE]

`set2set` is torch_geometric's, with the same weights, given the sets one after another and told how many there are; the
vectors are compared first. Calls are interleaved, times are medians of CPU time; `block_over_set2set` is the median of
ratios, and should be at most 0.7 at every size here, with gradients and without. Peak memory is what one call allocates
beyond what was there (torch's own CPU allocator events). `ragged` has sets of half the size on average, for us with
a mask. `written` is a pointer writer's pass over all steps, beside the same network asked step by step. One thread.
"""

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from torch import Tensor

from kilter.seq2seq import PointerWriter, ProcessBlock

SIZES = [(128, 10, 128, 5), (128, 50, 128, 5), (64, 100, 64, 10), (32, 20, 64, 3), (256, 20, 256, 6)]
"""Sets, items, width and steps."""
TARGET = 0.7


def peer() -> Any:
    """Set2Set, whose package warns of what it imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric.nn.aggr import Set2Set
    except ModuleNotFoundError:
        raise SystemExit("the peer is missing: .venv/bin/python -m pip install --group test") from None
    return Set2Set


def compared(ours: str, theirs: str, calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, Any]:
    """Times and memory of two calls."""
    seconds = interleaved(calls, repeats)
    ratios = [a / b for a, b in zip(seconds[ours], seconds[theirs], strict=True)]
    peak = {name: peak_bytes(call) / 1e6 for name, call in calls.items()}
    return {
        **{f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in seconds.items()},
        f"{ours}_over_{theirs}": round(statistics.median(ratios), 3),
        **{f"{name}_peak_mb": round(value, 2) for name, value in peak.items()},
    }


def block(size: tuple[int, int, int, int], kind: str, repeats: int) -> dict[str, Any]:
    """The process block with the weights of Set2Set; `kind` is `read`, `train` or `ragged`."""
    sets, items, width, steps = size
    theirs, ours = peer()(width, steps), ProcessBlock(width, steps)
    ours.load_state_dict({name.removesuffix("_l0"): one for name, one in theirs.lstm.state_dict().items()})
    memory = torch.randn(sets, items, width)
    real = torch.ones(sets, items, dtype=torch.bool)
    if kind == "ragged":
        real = torch.arange(items) < torch.randint(1, items + 1, (sets, 1))
    mask = real if kind == "ragged" else None
    flat, index = memory[real], real.nonzero()[:, 0]
    gap = float((theirs(flat, index, dim_size=sets) - ours(memory, mask)).detach().abs().max())
    calls: dict[str, Callable[[], Tensor]] = {
        "set2set": lambda: theirs(flat, index, dim_size=sets),
        "block": lambda: ours(memory, mask),
    }
    about = {kind: size}
    if kind == "train":
        memory.requires_grad_()
        flat.requires_grad_()
        learn = {name: (lambda call=call: call().square().sum().backward()) for name, call in calls.items()}
        row = compared("block", "set2set", learn, repeats)
    else:
        with torch.no_grad():
            row = compared("block", "set2set", calls, repeats)
    aim = {} if kind == "ragged" else {"target": TARGET, "met": row["block_over_set2set"] <= TARGET}
    return {**about, **row, "largest_difference": gap, **aim}


def writer(size: tuple[int, int, int, int], repeats: int) -> dict[str, Any]:
    """Teacher forcing, all steps at once and one after another."""
    sets, items, width, _ = size
    write, memory, state = PointerWriter(width), torch.randn(sets, items, width), torch.randn(sets, 2 * width)
    targets = torch.rand(sets, items).argsort(1)
    calls = {
        "one_by_one": lambda: write.decode(memory, state),
        "written": lambda: write(memory, state, targets),
    }
    with torch.no_grad():
        return {"write": size[:3], **compared("written", "one_by_one", calls, repeats)}


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

    for size in SIZES:
        for kind in ("read", "train"):
            keep(block(size, kind, options.repeats))
    keep(block(SIZES[1], "ragged", options.repeats))
    for size in SIZES[:2]:
        keep(writer(size, max(3, options.repeats // 3)))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
