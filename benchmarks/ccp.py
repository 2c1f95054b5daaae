"""A training step of a sentence encoder with ContextPrediction against one with sentence-transformers' loss.

    python benchmarks/ccp.py [--bank 4096] [--repeats 9] [--json FILE]

The peer is MultipleNegativesRankingLoss: the same pairs of texts, but neither bank, head nor norm. A step is two passes
of the encoder, the loss, the backward pass and AdamW. The bank is full. Weights are random, which changes no time: the
sizes are MiniLM's cut to three layers, MiniLM's, and BERT's width with four layers. One thread, interleaved, medians of
CPU time. Peak memory is what one step of each side allocates beyond what was there (torch's allocator events).
`loss` is the loss and its gradient for given vectors alone, and how it grows with the bank.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _timing import interleaved, peak_bytes
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from kilter.embeddings import ContextPrediction

SIZES = [(3, 384, 64), (6, 384, 64), (4, 768, 32)]
"""Layers, width and pairs in a batch."""
TOKENS = 32
LANGUAGES = 6


class Encoder(nn.Module):
    """Mean of BERT's last states."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        shape = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": width // 32}
        self.bert = BertModel(BertConfig(intermediate_size=4 * width, **shape), add_pooling_layer=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bert(ids).last_hidden_state.mean(1)


def objective(width: int, bank: int) -> ContextPrediction:
    """Ours with a full bank."""
    made = ContextPrediction(width, languages=LANGUAGES, bank_size=bank)
    made.bank.push(torch.randn(bank, width), torch.arange(bank) % LANGUAGES)
    return made


def medians(calls: dict[str, Callable[[], object]], repeats: int, warm: int = 1) -> dict[str, float]:
    """Median CPU seconds of each, interleaved."""
    seconds = interleaved(calls, repeats, warm=warm)
    return {name: statistics.median(values) for name, values in seconds.items()}


def steps(layers: int, width: int, batch: int, bank: int) -> dict[str, Callable[[], object]]:
    """A training step of each side on the same texts, each with an encoder of its own."""
    ids = torch.randint(30_000, (2, batch, TOKENS))
    language = torch.zeros(batch, dtype=torch.long)
    theirs, ours = MultipleNegativesRankingLoss(nn.Identity()), objective(width, bank)

    def side(loss: Callable[[list[Tensor]], Tensor], *more: nn.Module) -> Callable[[], object]:
        encoder = Encoder(layers, width)
        optimiser = torch.optim.AdamW([*encoder.parameters(), *(p for one in more for p in one.parameters())], 1e-5)

        def step() -> None:
            loss([encoder(side) for side in ids]).backward()
            optimiser.step()
            optimiser.zero_grad()

        return step

    return {
        "mnrl": side(lambda vectors: theirs.compute_loss_from_embeddings(vectors, language)),
        "ccp": side(lambda vectors: ours(*vectors, language).loss, ours),
    }


def alone(width: int, batch: int, bank: int) -> dict[str, Callable[[], object]]:
    """The loss and its gradient for given vectors."""
    vectors = [torch.randn(batch, width, requires_grad=True) for _ in range(2)]
    language = torch.zeros(batch, dtype=torch.long)
    theirs, ours = MultipleNegativesRankingLoss(nn.Identity()), objective(width, bank)
    return {
        "mnrl": lambda: theirs.compute_loss_from_embeddings(vectors, language).backward(),
        "ccp": lambda: ours(*vectors, language).loss.backward(),
        "spread": ours.bank.spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []
    for layers, width, batch in SIZES:
        calls = steps(layers, width, batch, options.bank)
        took = medians(calls, options.repeats)
        peak = {name: peak_bytes(call) for name, call in calls.items()}
        found.append(
            {
                "step": {"layers": layers, "width": width, "batch": batch, "tokens": TOKENS, "bank": options.bank},
                "mnrl_ms": 1e3 * took["mnrl"],
                "ccp_over_mnrl": took["ccp"] / took["mnrl"],
                "mnrl_peak_mb": peak["mnrl"] / 1e6,
                "ccp_peak_mb": peak["ccp"] / 1e6,
            }
        )
        print(json.dumps(found[-1]), flush=True)
    for bank in (0, 1024, 4096, 16384):
        took = medians(alone(384, 64, bank), 3 * options.repeats, warm=3)
        found.append(
            {"loss": {"width": 384, "batch": 64, "bank": bank}, **{f"{k}_ms": 1e3 * v for k, v in took.items()}}
        )
        print(json.dumps(found[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
