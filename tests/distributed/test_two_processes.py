"""Two gloo processes, started as a user would (`torchrun`), against one process on the joined batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.tiny import Tiny

ROOT = Path(__file__).parents[2]
NEAR = {
    f"{kind}-{what}"
    for kind in (
        "by-hand",
        *(f"{kind}-{reduction}" for kind in ("ddp", "fsdp") for reduction in ("mean", "sum")),
        *(f"trainer-{reduction}-{accumulation}" for reduction in ("mean", "sum") for accumulation in (1, 2)),
    )
    for what in ("loss", "gradient")
}


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    """One test, because starting them costs a quarter of a minute."""
    for family in ("wav2vec2", "small"):
        Tiny(tmp_path).folder(family)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "tests.distributed.worker", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    for rank in range(2):
        found = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        assert found.keys() >= NEAR
        assert not {name: found[name] for name in NEAR if not found[name] < 1e-5}
        # the logged parts add up to the logged loss
        assert not {name: value for name, value in found.items() if name.endswith("-parts") and not value < 1e-5}
        # one process has every word right, the other none: they start together, at their common rate
        assert found["words-0.4"] == [False, True, True]
        assert found["words-0.6"] == [False, False, False]
        # the state was written once, and is taken up by both
        assert found["resume"] == 0.0
        assert found["state"] == {"on": True, "began_at": 1, "words": [0.0, 0.0]}
        assert found["steps"] == [1, 2]
