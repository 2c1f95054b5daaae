"""Record what fairseq's diverse and sibling searches choose on small random tables, step after step.

    git clone --depth 1 https://github.com/facebookresearch/fairseq
    PYTHONPATH=. python scripts/golden_fairseq_search.py fairseq

writes tests/golden/fairseq_search.json, which tests/decoding/test_golden.py compares with ours. Only fairseq's
search.py is loaded, so nothing need be installed. Its discounted overlap is kept for a pair of groups, ours for a pair
of beams: groups of one beam where the discount is not 0. It charges as many candidates as it keeps
(`candidate_multiple=1`), and nothing ends in these tables.
"""

import argparse
import importlib.util
import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.decoding.table import table_lm

CASES = 60


def search_module(checkout: Path) -> ModuleType:
    """fairseq/search.py by itself; the constraints that it imports are not used here."""
    unused = ModuleType("fairseq.token_generation_constraints")
    for name in ("ConstraintState", "OrderedConstraintState", "UnorderedConstraintState"):
        setattr(unused, name, object)
    sys.modules |= {"fairseq": ModuleType("fairseq"), unused.__name__: unused}
    spec = importlib.util.spec_from_file_location("fairseq_search", checkout / "fairseq" / "search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case(seed: int) -> dict[str, Any]:
    """What to ask."""
    draw = random.Random(seed)
    asked: dict[str, Any] = {"model": {"seed": 1000 + seed, "eos_bias": -60.0}, "prompt": [draw.randrange(3, 12)]}
    asked["steps"] = draw.randrange(2, 7)
    if seed % 3 == 2:
        return asked | {"beams": draw.choice([2, 3, 5]), "rank_penalty": draw.choice([0.0, 0.2, 0.5, 1.5])}
    discount = draw.choice([0.5, 1.0]) if seed % 3 else 0.0
    groups = draw.choice([2, 3, 4])
    beams = groups * (1 if discount else draw.choice([1, 2, 3]))
    return asked | {
        "beams": beams,
        "groups": groups,
        "strength": draw.choice([0.2, 0.5, 1.0, 3.0]),
        "discount": discount,
    }


def answer(asked: dict[str, Any], module: ModuleType) -> dict[str, Any]:
    """The beams that fairseq is left with, and their scores."""
    vocabulary = type("V", (), {"pad": lambda _: 1, "unk": lambda _: 3, "eos": lambda _: 0, "__len__": lambda _: 12})()
    if "groups" in asked:
        of = SimpleNamespace(**asked)
        searcher = module.DiverseBeamSearch(vocabulary, of.groups, of.strength, of.discount, candidate_multiple=1)
    else:
        searcher = module.DiverseSiblingsSearch(vocabulary, asked["rank_penalty"])
    model, beams = table_lm(**asked["model"]), asked["beams"]
    said: list[list[int]] = [[]] * beams
    scores = torch.zeros(1, beams, 0)
    for step in range(asked["steps"]):
        log_probs = torch.tensor([[model.log_probs(asked["prompt"] + tokens) for tokens in said]])
        values, tokens, parents = searcher.step(step, log_probs, scores, original_batch_idxs=torch.arange(1))
        said = [[*said[p], v] for p, v in zip(parents[0, :beams].tolist(), tokens[0, :beams].tolist(), strict=True)]
        scores = torch.cat([scores, values[:, :beams, None]], -1)  # of earlier steps only the last is read
    return asked | {"sequences": said, "scores": [round(score, 5) for score in scores[0, :, -1].tolist()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of a fairseq checkout")
    parser.add_argument("--commit", help="its commit, where git cannot say")
    parser.add_argument("--out", type=Path, default=Path("tests/golden/fairseq_search.json"))
    settings = parser.parse_args()
    git = ["git", "-C", str(settings.checkout), "rev-parse", "HEAD"]
    commit = settings.commit or subprocess.run(git, text=True, capture_output=True, check=True).stdout.strip()
    module = search_module(settings.checkout)
    provenance = {
        "made by": "PYTHONPATH=. python scripts/golden_fairseq_search.py fairseq",
        "fairseq": commit,
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "licence": "numbers computed by fairseq (MIT); none of its code is copied",
    }
    lines = ",\n".join(json.dumps(answer(case(seed), module), separators=(",", ":")) for seed in range(CASES))
    head = json.dumps(provenance, indent=1)
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    settings.out.write_text(f'{{"provenance": {head},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{settings.out}: {CASES} cases, {settings.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
