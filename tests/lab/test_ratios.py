"""How many times a figure is another's: the interval, and the four words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kilter.core.paper import Claim
from kilter.lab.metrics import Metric
from kilter.lab.summary import Arms
from kilter.lab.verdicts import judge

CLAIM = Claim("distinct_4", "higher", baseline="beam", arm="dbs", times=1.5)
METRICS = {"distinct_4": Metric("Distinct 4-grams", "%", "higher", 1)}


def arms(folder: Path, factor: float, seeds: int, noise: float = 0.02) -> Arms:
    """Fifty inputs; the method's figure is so many times the baseline's, give or take."""
    pieces: dict[str, dict[int, Path]] = {"beam": {}, "dbs": {}}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        beam = rng.uniform(0.1, 0.2, 50)
        for arm, values in (("beam", beam), ("dbs", factor * beam * (1 + noise * rng.standard_normal(50)))):
            piece = folder / arm / str(seed)
            piece.mkdir(parents=True)
            (piece / "metrics.json").write_text(json.dumps({"distinct_4": 100 * float(values.mean())}))
            rows = [json.dumps({"totals": {"distinct_4": [value, 1]}}) for value in values]
            (piece / "utterances.jsonl").write_text("\n".join(rows) + "\n")
            pieces[arm][seed] = piece
    return Arms(pieces, METRICS, "beam", "examples")


@pytest.mark.parametrize(
    ("factor", "seeds", "noise", "verdict"),
    [
        (2.0, 5, 0.02, "holds"),
        (2.0, 3, 0.02, "holds in direction"),  # too few seeds
        (1.3, 5, 0.02, "holds in direction"),  # too small
        (1.0, 5, 0.5, "not seen here"),
        (0.8, 5, 0.02, "contradicted"),
    ],
)
def test_verdicts(tmp_path: Path, factor: float, seeds: int, noise: float, verdict: str) -> None:
    found = judge(CLAIM, arms(tmp_path, factor, seeds, noise))
    assert found is not None
    assert found["verdict"] == verdict
    assert found["claim"] == "dbs has at least 1.5 times the distinct 4-grams of beam"
    assert f"{seeds} seeds" in found["why"]


def test_nothing_is_said_without_the_pair(tmp_path: Path) -> None:
    there = arms(tmp_path, 2.0, 1)
    assert judge(replace(CLAIM, arm="sibling"), there) is None
    assert judge(replace(CLAIM, metric="oracle_20"), there) is None
