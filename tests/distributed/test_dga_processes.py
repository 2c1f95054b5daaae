"""Dynamic gradient alignment in two gloo processes: the same draws and weights in both, whole gradients of shards."""

from pathlib import Path

import pytest

from tests.distributed.launch import two_processes

pytest.importorskip("transformers")


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_agree(tmp_path: Path) -> None:
    """One test, because starting them costs a quarter of a minute."""
    one, two = two_processes("dga_worker", tmp_path)
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
