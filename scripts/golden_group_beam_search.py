"""Record what group beam search of transformers 4.56.2, the last to have it, finds on small random tables.

    python -m venv old && old/bin/pip install torch==2.13.0 transformers==4.56.2
    PYTHONPATH=. old/bin/python scripts/golden_group_beam_search.py

writes tests/golden/group_beam_search.json, which tests/decoding/test_golden.py compares with ours. The model is
tests/decoding/table.py, the same numbers in every version. `ran_on` says that a group of some input had ended while
another went on: from there on the two differ by intent (the older one's groups end by another rule, and it charges the
padding of ended groups), so those cases are kept as a record and not compared.
"""

import argparse
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.generation.beam_search import BeamSearchScorer

from tests.decoding.table import table_lm

GROUPS = [(4, 2), (6, 3), (6, 2), (3, 3), (4, 4), (5, 5), (8, 2), (2, 2)]
CASES = {"no end": 140, "end": 100}


def case(kind: str, seed: int) -> dict[str, Any]:
    """What to ask."""
    draw = random.Random(f"{kind} {seed}")
    beams, groups = GROUPS[seed % len(GROUPS)]
    batch, length = draw.choice([1, 1, 2]), draw.randrange(1, 4)
    asked = {"num_beams": beams, "num_beam_groups": groups, "num_return_sequences": draw.choice([beams, beams, 1])}
    return {
        "model": {"seed": seed, "eos_bias": {"no end": -60.0, "end": draw.choice([-1.0, 1.0, 2.0])}[kind]},
        "prompt": [[draw.randrange(3, 12) for _ in range(length)] for _ in range(batch)],
        "settings": asked
        | {
            "diversity_penalty": draw.choice([0.1, 0.3, 0.5, 0.8, 1.5, 4.0]),
            "length_penalty": draw.choice([0.0, 1.0, 1.0, 2.0, -0.5]),
            "early_stopping": draw.choice([False, True, "never", "never"]),
            "max_new_tokens": draw.randrange(3, 9),
        },
    }


def run_on(scorer: BeamSearchScorer, process: Any) -> Any:
    """Wrap the step of a group so that it notes when an input has both ended groups and others."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        state = scorer._done.view(-1, scorer.num_beam_groups)
        BeamSearchScorer.ran_on |= bool((state.any(1) & ~state.all(1)).any()) and not kwargs["group_index"]
        return process(*args, **kwargs)

    return noting


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """What the older group beam search finds."""
    prompt = torch.tensor(asked["prompt"])
    BeamSearchScorer.ran_on = False
    found = table_lm(**asked["model"]).generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        return_dict_in_generate=True,
        output_scores=True,
        **asked["settings"],
    )
    return asked | {
        "ran_on": BeamSearchScorer.ran_on,
        "sequences": found.sequences[:, prompt.shape[1] :].tolist(),
        "scores": [round(score, 6) for score in found.sequences_scores.tolist()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tests/golden/group_beam_search.json"))
    out = parser.parse_args().out
    if transformers.__version__ != "4.56.2":
        parser.error(f"needs transformers 4.56.2, this is {transformers.__version__}; see the top of this file")

    begin = BeamSearchScorer.__init__

    def watched(self: BeamSearchScorer, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.process = run_on(self, self.process)

    BeamSearchScorer.__init__ = watched
    cases = [answer(case(kind, seed)) for kind, count in CASES.items() for seed in range(count)]
    provenance = {
        "made by": "PYTHONPATH=. python scripts/golden_group_beam_search.py",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "licence": "numbers computed by transformers (Apache-2.0); none of its code is copied",
    }
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in cases)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{{"provenance": {json.dumps(provenance, indent=1)},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    compared = sum(not row["ran_on"] for row in cases)
    print(f"{out}: {len(cases)} cases, {compared} to compare, {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
