"""Two gloo processes train a model with positions: gradients of the whole batch, and nothing left unused."""

from pathlib import Path

import pytest

from tests.distributed.launch import two_processes


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    ranks = two_processes("positions_worker", tmp_path)
    for kind in ("gpt2", "llama"):
        assert all(rank[f"{kind}-gradient"] < 1e-5 and rank[f"{kind}-apart"] < 1e-9 for rank in ranks)
        assert all(0 < rank[f"{kind}-shifted"] < 8 for rank in ranks)
