"""What a run keeps of its data: a digest of the manifest, and names that are those of its provenance."""

from pathlib import Path

import pytest

from kilter.data.assets import ASSETS, Located
from kilter.lab.recipe import Provenance


def test_a_digest_changes_with_any_file_of_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    asset = ASSETS["e2e"]
    before, pinned = asset.digest(), asset.checksums()
    assert before == ASSETS["e2e"].digest() != ASSETS["multi30k"].digest()
    for other in ({**pinned, "testset_w_refs.csv": "0" * 64}, dict([*pinned.items()][:1]), {"renamed.csv": "0" * 64}):
        monkeypatch.setattr(type(asset), "checksums", lambda self, other=other: other)
        assert asset.digest() != before
    monkeypatch.setattr(type(asset), "checksums", lambda self: {})
    assert asset.digest() == ""


def test_what_a_run_keeps_of_an_asset_has_the_names_it_keeps_them_by() -> None:
    asset = ASSETS["multi30k"]
    kept = Provenance(**Located(asset, Path(), "the cache").credit())
    assert (kept.title, kept.source, kept.subject, kept.digest) == (
        asset.title,
        "the cache",
        "captions",
        asset.digest(),
    )
