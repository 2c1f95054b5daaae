"""What Align With Purpose adds to CTC, against `F.ctc_loss` on the same tensors.

    python benchmarks/align_with_purpose.py [--repeats 15] [--json FILE]

Everything is interleaved in one process and compared by medians, so that a noisy machine moves both sides alike. The
cost of CTC grows with the length of the targets, ours does not: targets have a token in every four frames (letters),
and in every eight (`sparse`: word pieces).
Peak memory is what one call of each side allocates beyond what was there (torch's own CPU allocator events).
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from _timing import peak_bytes
from torch import Tensor
from torch.nn import functional as F

from kilter.speech import AlignWithPurpose, LowLatency, MinimumWER

SIZES = [(16, 200, 32), (16, 800, 128), (8, 1500, 1000)]


def tensors(
    batch: int, time_: int, vocab: int, every: int = 4
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[str], list[str]]:
    """Log-probabilities as peaky as a trained model's, with targets, lengths, a vocabulary and references."""
    g = torch.Generator().manual_seed(0)
    letters = ["", " ", *(chr(0x4E00 + i) for i in range(vocab - 2))]
    targets = torch.randint(1, vocab, (batch, time_ // every), generator=g)
    path = torch.zeros(batch, time_, dtype=torch.long)
    path[:, : targets.shape[1] * every : every] = targets
    logits = torch.randn(batch, time_, vocab, generator=g) + 8 * F.one_hot(path, vocab)
    lengths = torch.linspace(0.7 * time_, time_, batch).long()
    target_lengths = lengths // every
    wrong = targets.clone()
    wrong[:, ::12] = 2  # about one wrong character in twelve: something to mend
    texts = [
        "".join(letters[t] for t in row[:n]) for row, n in zip(wrong.tolist(), target_lengths.tolist(), strict=True)
    ]
    return logits.log_softmax(-1).requires_grad_(), lengths, targets, target_lengths, letters, texts


def python_sampler(log_probs: Tensor, lengths: Tensor, samples: int = 5) -> None:
    """The frame-by-frame way: one categorical draw a frame, lists shifted in Python."""
    for b, length in enumerate(lengths.tolist()):
        for _ in range(samples):
            path = [int(torch.distributions.Categorical(logits=log_probs[b, t]).sample()) for t in range(length)]
            where = [t for t in range(1, length) if path[t] == path[t - 1]]
            if where:
                j = where[int(torch.randint(len(where), ()))]
                path = [*path[:j], *path[j + 1 :], 0]


def measure(size: tuple[int, int, int], threads: int, repeats: int, every: int) -> dict[str, float]:
    """Median seconds of each side at one size, interleaved, and their ratios."""
    torch.set_num_threads(threads)
    log_probs, lengths, targets, target_lengths, vocabulary, texts = tensors(*size, every)
    early, words = AlignWithPurpose(LowLatency()), AlignWithPurpose(MinimumWER(vocabulary))

    def ctc() -> None:
        F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, target_lengths).backward()

    calls = {
        "ctc": ctc,
        "awp": lambda: early(log_probs, lengths).loss.backward(),
        "mwer": lambda: words(log_probs, lengths, references=texts).loss.backward(),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(repeats + 2):
        for name, call in calls.items():
            log_probs.grad = None
            start = time.perf_counter()
            call()
            if i >= 2:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    memory = {}
    for name, call in calls.items():
        log_probs.grad = None
        memory[name] = peak_bytes(call)
    return {
        "threads": threads,
        "ctc_ms": 1e3 * median["ctc"],
        "awp_over_ctc": median["awp"] / median["ctc"],
        "mwer_over_low_latency": median["mwer"] / median["awp"],
        "ctc_peak_mb": memory["ctc"] / 1e6,
        "awp_peak_mb": memory["awp"] / 1e6,
        "log_probs_mb": log_probs.numel() * 4 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for threads in (1, 2):
        for size, every in ((size, every) for size in SIZES for every in (4, 8)):
            found = measure(size, threads, options.repeats, every)
            rows.append({"size": size, "targets": "dense" if every == 4 else "sparse", **found})
            print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    torch.set_num_threads(1)
    log_probs, lengths, *_ = tensors(*SIZES[0])
    log_probs = log_probs.detach()
    early = AlignWithPurpose(LowLatency())
    start = time.perf_counter()
    python_sampler(log_probs, lengths)
    slow = time.perf_counter() - start
    fast = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        low_latency_of = early(log_probs, lengths)
        fast.append(time.perf_counter() - start)
        del low_latency_of
    rows.append({"size": SIZES[0], "python_sampler_over_awp": slow / statistics.median(fast)})
    print(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
