"""Two gloo processes under sentence-transformers' trainer, started as a user would, against one on the joined batch."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.distributed.launch import two_processes

pytest.importorskip("sentence_transformers")


@pytest.mark.slow
@pytest.mark.host
@pytest.mark.dist
def test_an_objective_that_learns_is_the_same_in_all_processes(tmp_path: Path) -> None:
    """One test, because starting them costs a quarter of a minute."""
    from tests.distributed.st_worker import OBJECTIVES, run
    from tests.hosts.small_encoder import folder_of

    folder_of(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for name in OBJECTIVES:
        save_file(run(tmp_path, name, 8), tmp_path / f"{name}.safetensors")
    for found in two_processes("st_worker", tmp_path):
        assert found["gradient"] < 1e-12
        assert found["numbers"] == [0, 5, 1, 5]
        assert "different shapes, (2, 3), (3, 3): give each the same number of rows" in found["ragged"]
        for key in ("scaled", "scaled-accumulated", "scaled-in-pieces", "gathered"):
            assert found[f"{key}-apart"] == 0.0, key
            assert found[f"{key}-one"] < 1e-5, key
        assert found["remembering-apart"] == 0.0
        assert found["pushed"] == 16
        assert found["resumed"] == 0.0
