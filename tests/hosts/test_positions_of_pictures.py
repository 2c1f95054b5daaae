"""Positions in models of pictures: rows and columns of patches, whatever the size, and a class token without one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.hosts.positioned import Waves, model_of
from tests.hosts.test_positions import APPLY, attach, detach

pytestmark = pytest.mark.host
pytest.importorskip("transformers")

PICTURES = torch.randn(2, 1, 32, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["vit", "deit"])
@pytest.mark.parametrize("apply", APPLY)
class TestPictures:
    def test_any_size_runs(self, kind: str, apply: str) -> None:
        model = attach(model_of(kind), Waves(apply=apply, axes=2))
        for height, width in ((16, 16), (32, 32), (16, 40), (8, 8)):
            picture = torch.randn(2, 1, height, width)
            said = model(picture).logits
            with torch.no_grad():  # by a kept table
                assert_close(model(picture).logits, said)

    def test_detaching_restores_every_bit(self, kind: str, apply: str) -> None:
        plain = model_of(kind)
        model = attach(model_of(kind), Waves(apply=apply, axes=2))
        assert (model(PICTURES[:, :, :16, :16]).logits - plain(PICTURES[:, :, :16, :16]).logits).abs().max() > 1e-3
        detach(model)
        assert model.config.to_dict() == plain.config.to_dict()
        assert [*model.state_dict()] == [*plain.state_dict()]
        assert torch.equal(model(PICTURES[:, :, :16, :16]).logits, plain(PICTURES[:, :, :16, :16]).logits)
        with pytest.raises(ValueError, match="doesn't match model"):
            model(PICTURES)


def swapped(pictures: torch.Tensor) -> torch.Tensor:
    """The first two rows of patches change places."""
    return torch.cat([pictures[:, :, 4:8], pictures[:, :, :4], pictures[:, :, 8:]], 2)


@pytest.mark.parametrize("apply", APPLY)
def test_places_count_where_there_are_any(apply: str) -> None:
    model = attach(model_of("vit"), Waves(apply=apply, axes=2))
    apart = (model(PICTURES).logits - model(swapped(PICTURES)).logits).abs().max()
    assert apart < 1e-5 if apply == "none" else apart > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_come_before_columns(attention: str) -> None:
    """Against a bias of N × N that is handed to the model, with a vector of its own for the class token."""
    model = attach(model_of("vit", attn_implementation=attention).double(), Waves(axes=2))
    pictures, term = PICTURES.double(), model.kilter_positions
    grid = torch.tensor([[row, column] for row in range(8) for column in range(6)])
    a, b = term.query_key(torch.cat([term.first, term.encode(grid)]), 0)
    bias = torch.einsum("qhd,khd->hqk", a, b) / term.sizes.head_dim**0.5
    said = model(pictures).logits
    detach(model)
    naive = attach(model, Waves(apply="none", axes=2))
    assert_close(said, naive(pictures, attention_mask=bias.expand(2, -1, -1, -1)).logits, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_a_table_of_places_serves_smaller_pictures() -> None:
    model = attach(model_of("vit"), Waves(axes=2))
    small = PICTURES[:, :, :16, :20]
    alone = model(small).logits
    model(PICTURES)
    assert model.kilter_memo["ends"] == [8, 6]
    kept = model.kilter_memo["vectors"]
    assert_close(model(small).logits, alone, atol=1e-5, rtol=1e-5)
    assert model.kilter_memo["vectors"] is kept


@pytest.mark.parametrize(("height", "width"), [(18, 16), (16, 18)])
def test_pictures_are_whole_patches(height: int, width: int) -> None:
    model = attach(model_of("vit"), Waves(axes=2))
    with pytest.raises(ValueError, match=f"{height} × {width} pixels are not whole patches of 4 × 4"):
        model(torch.randn(1, 1, height, width))


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    from kilter.hosts.transformers import load

    model: Any = attach(model_of("vit"), Waves(axes=2, apply="attn_mul"))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert torch.equal(again(PICTURES).logits, model(PICTURES).logits)
    assert torch.equal(detach(again).first, model.kilter_positions.first)


def test_settings_of_positions_that_have_no_class() -> None:
    """A frozen host stays frozen when its positions come back."""
    model = model_of("vit")
    model.vit.embeddings.position_embeddings.requires_grad_(False)
    detach(attach(model, Waves(axes=2)))
    assert not model.vit.embeddings.position_embeddings.requires_grad
