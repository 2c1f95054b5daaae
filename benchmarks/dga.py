"""What a reweighting costs beside the backward passes it replaces, and what a whole run loses by it.

    python benchmarks/dga.py [--repeats 9] [--steps 200] [--json FILE]

`step` is one measurement of eight domains and a target on a GPT-2-like model, by each method, interleaved: medians of
CPU time over those of k + 1 backward passes, the largest error relative to the largest exact alignment, and peak memory
beyond what was there (torch's own CPU allocator events). The model has been trained for some steps on the domains
first. `run` is a training with dynamic gradient alignment every hundred steps, of ten domains, on batches of a quarter
of the training batch, beside one that draws by the same weights and measures nothing: CPU time of the steps, the
measurement's apart, since it is all there is between them. One thread.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from _timing import cpu_seconds, peak_bytes
from torch import Generator, Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from kilter.pretraining import DomainMixture, DynamicGradientAlignment, gradient_alignments

SIZES = [(128, 4), (256, 4), (384, 6)]
"""Width and layers."""
METHODS = ("gradients", "central_difference", "jvp", "last_layer")
TOKENS = 128
VOCABULARY = 384


def model_of(width: int, layers: int) -> GPT2LMHeadModel:
    """Of random weights, without dropout."""
    sizes = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": TOKENS, "vocab_size": VOCABULARY}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**sizes, **drop, **ids))  # type: ignore[arg-type]


def text(domain: int, rows: int, generator: Generator) -> Tensor:
    """Random walks over an alphabet that overlaps with the next domain's, each with its own habits."""
    steps = torch.randint(0, 2 + domain, (rows, TOKENS), generator=generator)
    return (20 * domain + steps.cumsum(1)) % VOCABULARY


def loss_fn(model: Any, ids: Tensor) -> Tensor:
    """Mean cross entropy per token."""
    return model(input_ids=ids, labels=ids).loss


def train(model: Any, steps: int, domains: int, rows: int) -> None:
    """On all domains alike."""
    optimizer, generator = torch.optim.AdamW(model.parameters(), 1e-3), Generator().manual_seed(1)
    for number in range(steps):
        loss_fn(model, text(number % domains, rows, generator)).backward()
        optimizer.step()
        optimizer.zero_grad()


def step(width: int, layers: int, repeats: int, domains: int = 8, rows: int = 4) -> list[dict[str, Any]]:
    """Each method beside the k + 1 backward passes."""
    model, generator = model_of(width, layers), Generator().manual_seed(0)
    train(model, 100, domains, rows)
    batches = [text(domain, rows, generator) for domain in range(domains)]
    target = torch.cat([text(domain, rows // 2, generator) for domain in (2, 3)])

    def call(method: Any) -> Tensor:
        return gradient_alignments(model, loss_fn, batches, target, method=method)

    exact = call("gradients")
    error = {method: float((call(method) - exact).abs().max() / exact.abs().max()) for method in METHODS}
    rounds = [{method: cpu_seconds(lambda m=method: call(m)) for method in METHODS} for _ in range(repeats)]
    return [
        {
            "step": {"width": width, "layers": layers, "domains": domains, "rows": rows, "tokens": TOKENS},
            "method": method,
            "ms": 1e3 * statistics.median(one[method] for one in rounds),
            "over_backward_passes": statistics.median(one[method] / one["gradients"] for one in rounds),
            "error": error[method],
            "peak_mb": peak_bytes(lambda m=method: call(m)) / 1e6,
        }
        for method in METHODS
    ]


def run(width: int, layers: int, steps: int, domains: int = 10, rows: int = 16, every: int = 100) -> dict[str, Any]:
    """CPU seconds of a training's steps, and of what comes between them every so many."""
    model, generator = model_of(width, layers), Generator().manual_seed(0)
    data = [text(domain, 200, generator) for domain in range(domains)]
    joined, target = torch.cat(data), text(3, 200, generator)
    mixture = DomainMixture([200] * domains, generator=generator)
    dga = DynamicGradientAlignment(mixture, step_size=1.0, every=every)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    trained = measured = 0.0
    done = 0

    def one() -> None:
        loss_fn(model, joined[drawn]).backward()
        optimizer.step()
        optimizer.zero_grad()

    def between() -> None:
        chosen = [each[torch.randperm(200, generator=generator)[: rows // 4]] for each in data]
        wanted = target[torch.randperm(200, generator=generator)[:rows]]
        dga.update(gradient_alignments(model, loss_fn, chosen, wanted))

    while done < steps:
        draws = list(mixture)
        for start in range(0, len(draws) - rows + 1, rows):
            drawn = draws[start : start + rows]
            trained += cpu_seconds(one)
            done += 1
            if done % every == 0:
                measured += cpu_seconds(between)
            if done == steps:
                break
    return {
        "run": {"width": width, "layers": layers, "steps": steps, "domains": domains, "rows": rows, "every": every},
        "ms_a_step": 1e3 * trained / steps,
        "ms_a_reweighting": 1e3 * measured / (steps // every),
        "slower_percent": 100 * measured / trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=200, help="of the whole run, a multiple of a hundred")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        found.append(row)
        print(json.dumps(row), flush=True)

    for size in SIZES:
        for row in step(*size, options.repeats):
            keep(row)
    for size in SIZES:
        keep(run(*size, options.steps))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
