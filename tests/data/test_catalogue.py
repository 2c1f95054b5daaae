"""What a run keeps of its data: a digest of the manifest, and names that are those of its provenance."""

from dataclasses import replace
from pathlib import Path

import pytest

from kilter.data.assets import ASSETS, Located, credit_of
from kilter.data.catalogue import BETWEEN
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


def test_what_a_run_keeps_of_several_assets_names_each_and_changes_with_any() -> None:
    books, wiki = (Located(ASSETS[name], Path(), "the cache") for name in ("books", "wikitext2"))
    kept = Provenance(**credit_of([books, wiki]))
    assert kept.title == f"{books.asset.title}; {wiki.asset.title}"
    assert kept.licence == f"{books.asset.licence}; {wiki.asset.licence}"
    assert f"{wiki.asset.attribution} ({wiki.asset.page})" in kept.attribution
    assert (kept.source, kept.subject) == ("the cache", "novels and encyclopaedia")
    assert kept.digest not in ("", books.asset.digest(), wiki.asset.digest())
    assert credit_of([books, replace(wiki, digest="of another day")])["digest"] != kept.digest
    assert credit_of([books]) == books.credit()


def test_titles_can_be_told_apart_in_a_row() -> None:
    assert not [asset.title for asset in ASSETS.values() if BETWEEN in asset.title]
