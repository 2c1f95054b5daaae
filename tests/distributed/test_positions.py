"""Two gloo processes train a model with positions: gradients of the whole batch, and nothing left unused."""

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
        [*torchrun, "-m", "tests.distributed.positions_worker", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    for kind in ("gpt2", "llama"):
        assert all(rank[f"{kind}-gradient"] < 1e-5 and rank[f"{kind}-apart"] < 1e-9 for rank in ranks)
        assert all(0 < rank[f"{kind}-shifted"] < 8 for rank in ranks)
