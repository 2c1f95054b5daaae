"""Two gloo processes, started as a user would (`torchrun`), against one process on the joined batch."""

from pathlib import Path

import pytest

from tests.distributed.launch import two_processes
from tests.hosts.tiny import Tiny

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
    for found in two_processes("worker", tmp_path):
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
