"""Two gloo processes, started once as a user would (`torchrun`), against one process on the joined batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.tiny import Tiny

pytestmark = [pytest.mark.host, pytest.mark.dist]

ROOT = Path(__file__).parents[2]
KINDS = ["by-hand"] + [
    f"{kind}-{reduction}{accumulation}"
    for reduction in ("mean", "sum")
    for kind, accumulation in (("ddp", ""), ("fsdp", ""), ("trainer", "-1"), ("trainer", "-2"))
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two found, see `worker.py`."""
    folder = tmp_path_factory.mktemp("two")
    for family in ("wav2vec2", "small"):
        Tiny(folder).folder(family)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launch, "-m", "tests.distributed.worker", str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_one_process(ranks, kind):
    for found in ranks:
        assert found[f"{kind}-loss"] < 1e-5
        assert found[f"{kind}-gradient"] < 1e-5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("trainer")])
def test_logged_parts_add_up_to_the_logged_loss(ranks, kind):
    assert ranks[0][f"{kind}-parts"] == ranks[1][f"{kind}-parts"] < 1e-5


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_sharded_model_takes_a_step(ranks, reduction):
    assert ranks[0][f"fsdp-{reduction}-step"] == ranks[1][f"fsdp-{reduction}-step"] == 0.0


def test_word_success_is_that_of_both_processes_and_starts_both_at_once(ranks):
    """One process has every word right, the other none."""
    for found in ranks:
        assert found["words-0.4"] == [False, True, True]
        assert found["words-0.6"] == [False, False, False]


def test_resume_is_exact_and_the_state_was_written_once(ranks):
    for found in ranks:
        assert found["resume"] == 0.0
        assert found["state"] == {"on": True, "began_at": 1, "words": [0.0, 0.0]}
        assert found["steps"] == [1, 2]
