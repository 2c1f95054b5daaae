"""Dynamic gradient alignment in two gloo processes: the same draws and weights in both, whole gradients of shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_agree(tmp_path: Path) -> None:
    """One test, because starting them costs a quarter of a minute."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.distributed.dga_worker", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    one, two = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    for name in ("whole", "resumed"):
        assert one["ddp"][name]["history"] == two["ddp"][name]["history"]
        assert one["ddp"][name]["sum"] == two["ddp"][name]["sum"]
    assert [row["step"] for row in one["ddp"]["whole"]["history"]] == [5, 10]
    assert one["ddp"]["resumed"]["history"] == one["ddp"]["whole"]["history"]
    assert one["ddp"]["resumed"]["sum"] == one["ddp"]["whole"]["sum"]
    # of the same draws each has its share: together they are those that the mixture counts
    asked = [[index for index in each["ddp"]["whole"]["asked"] if index][-40:] for each in (one, two)]
    assert asked[0] != asked[1]
    for each in (one, two):
        assert each["fsdp"]["error"] < 1e-5
        assert each["fsdp"]["gradients"]
        assert each["fsdp"]["values"]
        assert each["fsdp"]["training"]
