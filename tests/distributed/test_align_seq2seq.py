"""Two gloo processes train an encoder–decoder with an objective attached, as one does, and go on where they stopped."""

from pathlib import Path

import pytest

from tests.distributed.launch import two_processes


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    for rank in two_processes("seq2seq_worker", tmp_path):
        assert all(rank[f"{family}-gradient"] < 1e-6 for family in ("t5", "bart", "marian"))
        assert rank["apart"] == rank["resumed"] == 0
        assert rank["objective_weight"] == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 1])
        parts = [sum(both) for both in zip(rank["nll"][2:], rank["contrast"], strict=True)]
        assert parts == pytest.approx(rank["loss"][2:], abs=1e-4)
