"""Two gloo processes train an encoder–decoder with an objective attached, as one does, and go on where they stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.distributed.seq2seq_worker", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    for rank in (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)):
        assert all(rank[f"{family}-gradient"] < 1e-6 for family in ("t5", "bart", "marian"))
        assert rank["apart"] == rank["resumed"] == 0
        assert rank["objective_weight"] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])
        parts = [sum(both) for both in zip(rank["nll"][2:], rank["contrast"], strict=True)]
        assert parts == pytest.approx(rank["loss"][2:], abs=1e-4)
