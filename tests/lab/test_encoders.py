"""Encoders trained by sentence-transformers' stock trainer: killed, resumed, cut texts, saved as its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from kilter.embeddings import ContextPrediction, WhitenedCSE
from tests.hosts import small_encoder

pytestmark = pytest.mark.host


class Killed(Exception):
    pass


def until(last: int) -> Any:
    def advance(done: int, total: int) -> None:
        if done == last:
            raise Killed

    return advance


def never(done: int, total: int) -> None:
    pass


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return small_encoder.folder_of(tmp_path / "start")


def trained(start: Path, work: Path, objective: str, advance: Any = never, **more: Any) -> Any:
    from kilter.lab.encoders import train_encoder

    torch.manual_seed(1)
    if objective == "context":
        made: Any = ContextPrediction(small_encoder.DIM, languages=2, bank_size=8)
        rows = small_encoder.rows(2, label=[0, 0, 0, 0, 1, 1, 1, 1])
    else:
        made = WhitenedCSE(small_encoder.DIM, groups=8)
        rows = small_encoder.rows(3)
    how: Any = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "warm_up_steps": 0, "precision": "float32"}
    return train_encoder(
        small_encoder.load(start), rows, made, work, seed=0, device="cpu", advance=advance, save_steps=2, **how, **more
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["whitening", "context"])
def test_a_killed_training_ends_with_the_same_numbers(objective: str, start: Path, tmp_path: Path) -> None:
    whole = trained(start, tmp_path / "whole", objective)
    with pytest.raises(Killed):
        trained(start, tmp_path / "killed", objective, until(3))
    resumed = trained(start, tmp_path / "killed", objective)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.parameters(), small_encoder.load(start).parameters(), strict=True)
    )


@pytest.mark.slow
def test_texts_are_cut_while_it_trains_only(start: Path, tmp_path: Path) -> None:
    whole, cut = (trained(start, tmp_path / str(most), "whitening", max_tokens=most) for most in (None, 3))
    assert whole.max_seq_length == cut.max_seq_length == small_encoder.load(start).max_seq_length
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_it_is_saved_as_the_library_saves_it(start: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from kilter.lab.encoders import save_encoder

    encoder = trained(start, tmp_path / "work", "whitening")
    save_encoder(encoder, tmp_path / "model", lambda folder: (folder / "README.md").write_text("card") and None)
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert [type(layer) for layer in loaded] == [type(layer) for layer in small_encoder.load(start)]
    assert_close(loaded.encode(["the cat"]), encoder.encode(["the cat"]))
    assert (tmp_path / "model" / "README.md").read_text() == "card"
    assert not [*tmp_path.glob("*.part")], "whole or not at all"
    assert not [*(tmp_path / "model").rglob("objective*")], "what only training needs is not in the model"
