"""Prefix beam search against pyctcdecode, forced alignment against the forward pass of `F.ctc_loss`.

    pip install --no-deps pyctcdecode==0.5.0 pygtrie hypothesis
    python benchmarks/ctc_search.py [--repeats 5] [--json FILE]

Everything is interleaved in one process on one thread and compared by medians, so that a noisy machine moves both
sides alike. The peer searches with its own thresholds (tokens below -5, hypotheses 10 below the best), ours without
any; no token is a space, which the peer would normalise. `full` is the mean log-probability of each side's best
labellings, by `F.ctc_loss`: what a search is to make large. Outputs are `sure` (no frame in doubt: the peer has one
token to look at), `speech` (one frame in six in doubt), `peaky` (every frame a little) or `flat` (noise).
"""

import argparse
import json
import logging
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kilter.speech import ctc_forced_align, ctc_prefix_beam_search

# batch, frames, vocabulary, beam, how sure
SEARCHES = [
    (16, 200, 32, 16, "sure"),
    (16, 200, 32, 16, "speech"),
    (16, 200, 32, 16, "peaky"),
    (16, 200, 32, 16, "flat"),
    (1, 200, 32, 16, "peaky"),  # from here on one thing at a time grows
    (16, 800, 32, 16, "peaky"),
    (16, 200, 1000, 16, "peaky"),
    (16, 200, 5000, 16, "peaky"),
    (16, 200, 32, 64, "peaky"),
]
# batch, frames, vocabulary, tokens
ALIGNMENTS = [
    (16, 200, 32, 25),
    (16, 200, 32, 50),
    (16, 800, 32, 100),
    (16, 800, 32, 200),
    (8, 1500, 1000, 187),
    (8, 1500, 1000, 375),
    (1, 200, 32, 50),
]


def outputs(batch: int, frames: int, vocab: int, how: str) -> Tensor:
    """Log-probabilities with a token in every fourth frame, blank between them; or noise."""
    g = torch.Generator().manual_seed(0)
    path = torch.zeros(batch, frames, dtype=torch.long)
    path[:, ::4] = torch.randint(1, vocab, path[:, ::4].shape, generator=g)
    height = torch.full((batch, frames), {"sure": 16.0, "speech": 16.0, "peaky": 8.0, "flat": 0.0}[how])
    if how == "speech":
        height[torch.rand(batch, frames, generator=g) < 1 / 6] = 4.0
    return (torch.randn(batch, frames, vocab, generator=g) + height[..., None] * F.one_hot(path, vocab)).log_softmax(-1)


def seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each call, interleaved."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if i:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def full_score(log_probs: Tensor, labellings: list[list[int]]) -> float:
    """Mean log-probability of the labellings over all their alignments."""
    lengths = torch.tensor([len(y) for y in labellings])
    frames = torch.full_like(lengths, log_probs.shape[1])
    flat = torch.tensor([token for y in labellings for token in y], dtype=torch.long)
    return -F.ctc_loss(log_probs.transpose(0, 1).double(), flat, frames, lengths, reduction="none").mean().item()


def search(batch: int, frames: int, vocab: int, beam: int, how: str, repeats: int) -> dict[str, float]:
    """Both searches on the same outputs."""
    from pyctcdecode import build_ctcdecoder

    letters = ["", *(chr(0x4E00 + i) for i in range(vocab - 1))]
    token = {letter: i for i, letter in enumerate(letters)}
    decoder = build_ctcdecoder(letters)
    log_probs = outputs(batch, frames, vocab, how)
    lengths = torch.full((batch,), frames)

    def peer() -> list[list[int]]:
        found = [decoder.decode_beams(rows, beam_width=beam)[0][0] for rows in log_probs.numpy()]
        return [[token[letter] for letter in text] for text in found]

    def ours() -> list[list[int]]:
        return [hypotheses[0].tokens for hypotheses in ctc_prefix_beam_search(log_probs, lengths, beam_size=beam)]

    median = seconds({"ours": ours, "peer": peer}, repeats)
    return {
        "ours_ms": 1e3 * median["ours"],
        "ours_over_pyctcdecode": median["ours"] / median["peer"],
        "ours_full": full_score(log_probs, ours()),
        "pyctcdecode_full": full_score(log_probs, peer()),
    }


def align(batch: int, frames: int, vocab: int, tokens: int, repeats: int) -> dict[str, float]:
    """Forced alignment beside the loss of the same batch, without gradient."""
    log_probs = outputs(batch, frames, vocab, "peaky")
    lengths = torch.linspace(0.7 * frames, frames, batch).long()
    targets = torch.randint(1, vocab, (batch, tokens), generator=torch.Generator().manual_seed(1))
    counts = torch.linspace(0.7 * tokens, tokens, batch).long()
    median = seconds(
        {
            "ours": lambda: ctc_forced_align(log_probs, lengths, targets, counts),
            "loss": lambda: F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, counts),
        },
        16 * repeats if frames < 500 else 4 * repeats,  # short calls: a load on the machine moves their median
    )
    return {"ours_ms": 1e3 * median["ours"], "ours_over_ctc_loss": median["ours"] / median["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # the peer's about the language model it is not given
    rows = []

    def show(**row: object) -> None:
        rows.append(row)
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)

    for size in ALIGNMENTS:
        show(what="forced alignment", size=size, **align(*size, options.repeats))
    if find_spec("pyctcdecode") is None:
        print("prefix beam search: left out, its peer is not installed; see above")
    for size in SEARCHES if find_spec("pyctcdecode") else ():
        show(what="prefix beam search", size=size, **search(*size, options.repeats))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
