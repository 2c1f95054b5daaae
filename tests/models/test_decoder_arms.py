"""Arms of a comparison of decoders: names, labels, and what the decoders are asked for."""

import pytest

from kilter.models.decoder_arms import KINDS, DecoderArm

GIVEN = {"outputs": 6, "groups": 3, "length_penalty": 0.0}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("beam", "Beam search"),
        ("dbs", "DBS, Hamming"),
        ("dbs-0.5", "DBS, Hamming, λ 0.5"),
        ("dbs-ngram-2", "DBS, 2-grams, λ 2"),
        ("sibling-1.5", "Sibling ranks, γ 1.5"),
        ("nucleus-0.95", "Nucleus sampling, p 0.95"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert DecoderArm.parse(name).label() == label


@pytest.mark.parametrize("name", ["beams", "beam-2", "dbs-x", "dbs--1", "diverse", "", "nucleus-1.5", "nucleus-0"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="arms:"):
        DecoderArm.parse(name)


def test_only_groups_are_grouped() -> None:
    assert DecoderArm.parse("dbs").options(0.5, **GIVEN) == {
        "num_beams": 6,
        "keep": 6,
        "length_penalty": 0.0,
        "groups": 3,
        "diversity_penalty": 0.5,
        "diversity": "hamming",
    }
    assert "groups" not in DecoderArm.parse("sibling").options(1.0, **GIVEN)
    assert DecoderArm.parse("beam").options(None, **GIVEN) == {"num_beams": 6, "keep": 6, "length_penalty": 0.0}
    assert DecoderArm.parse("nucleus").options(0.9, **GIVEN) == {"n": 6, "temperature": 1.0, "top_p": 0.9, "top_k": 0}


def test_every_decoder_has_strengths_to_choose_from() -> None:
    for name, kind in KINDS.items():
        assert len(kind.grid) >= 4
        assert sorted(set(kind.grid)) == list(kind.grid)
        assert kind.grid[0] <= kind.usual <= kind.grid[-1]
        assert DecoderArm.parse(name).kind is kind
