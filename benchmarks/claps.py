"""What CLAPS costs beside a step of likelihood alone, and what knowing the logits spares.

    python benchmarks/claps.py [--repeats 15] [--sizes small] [--json FILE]

A step is a pass forward, backward and an optimiser's update of a T5 on random pairs. `plain` is the model's own loss;
`claps` is `ContrastivePerturbation`, as attached by `align_seq2seq`; `anew` the same by autograd, which calls the
output layer for every gradient. Steps are interleaved, times are CPU time, ratios medians of ratios. The first over
`plain` should be at most 1.6 for three layers of width 128 and a vocabulary of 4,000, and 1.25 at T5-small's size; over
`anew` at most 0.9. All start from the same weights, and the losses of `claps` and `anew` are compared.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _timing import interleaved
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from kilter.core import LossOutput
from kilter.hosts.transformers import align_seq2seq
from kilter.seq2seq import ContrastivePerturbation


class Size(NamedTuple):
    """A model, and batches for it."""

    config: dict[str, int]
    batch: int
    source: int
    target: int
    most: float


SMALL = {"num_layers": 3, "d_model": 128, "d_kv": 32, "d_ff": 512, "num_heads": 4, "vocab_size": 4000}
T5_SMALL = {"num_layers": 6, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "vocab_size": 32128}
SIZES = {"small": Size(SMALL, 32, 20, 16, 1.6), "t5-small": Size(T5_SMALL, 8, 64, 32, 1.25)}
"""The second on documents twice as long as what is written of them; with sources as short as targets it is dearer."""
ANEW = 0.9


class Anew(ContrastivePerturbation):
    """The same by autograd: an output that says nothing of its matrix."""

    def from_states(self, source_states: Any, target_states: Any, labels: Any, output: Any, **rest: Any) -> LossOutput:
        return super().from_states(source_states, target_states, labels, lambda states: output(states), **rest)


def pairs(size: Size) -> dict[str, Tensor]:
    """Random sentences, of which the shortest is half as long as the longest."""
    vocab = size.config["vocab_size"]
    ids, labels = (torch.randint(2, vocab, (size.batch, length)) for length in (size.source, size.target))
    share = torch.linspace(0.5, 1, size.batch)[torch.randperm(size.batch), None]
    mask = torch.arange(size.source) < share * size.source
    labels[torch.arange(size.target) >= share * size.target] = -100
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": labels}


def step(model: T5ForConditionalGeneration, batch: dict[str, Tensor]) -> Callable[[], float]:
    """A step of training; its loss."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)

    def run() -> float:
        optimiser.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return run


def compared(name: str, repeats: int) -> dict[str, Any]:
    """Seconds of each kind of step, one after another, the first round apart."""
    size, steps = SIZES[name], {}
    plain = T5ForConditionalGeneration(T5Config(**size.config, dropout_rate=0.0, decoder_start_token_id=0)).train()
    batch, projection = pairs(size), None
    for kind, made in {"plain": None, "claps": ContrastivePerturbation, "anew": Anew}.items():
        model = copy.deepcopy(plain)
        if made is not None:
            objective = made(size.config["d_model"])
            projection = projection or objective.state_dict()
            objective.load_state_dict(projection)
            align_seq2seq(model, objective)
        steps[kind] = step(model, batch)
    first = {kind: run() for kind, run in steps.items()}
    seconds = interleaved(steps, repeats, warm=0)

    def over(kind: str, other: str) -> float:
        ratios = [a / b for a, b in zip(seconds[kind], seconds[other], strict=True)]
        return round(statistics.median(ratios), 3)

    found = {"claps_over_plain": over("claps", "plain"), "claps_over_anew": over("claps", "anew")}
    return {
        "size": name,
        **{f"{kind}_ms": round(1e3 * statistics.median(values), 1) for kind, values in seconds.items()},
        **found,
        "loss_difference": abs(first["claps"] - first["anew"]),
        "target": size.most,
        "met": found["claps_over_plain"] <= size.most and found["claps_over_anew"] <= ANEW,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = []
    for name in options.sizes:
        found.append(compared(name, options.repeats))
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
