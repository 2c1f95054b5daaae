"""`kilter fetch`: the data that were asked for, or exit code 1."""

import json
from pathlib import Path

import pytest

from kilter.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Synthetic speech is there; the recordings are nowhere."""
    monkeypatch.setenv("KILTER_CACHE", str(tmp_path))
    monkeypatch.delenv("KILTER_DATA", raising=False)
    monkeypatch.setenv("KILTER_FSDD_URL", "http://127.0.0.1:9/nobody.tar.gz")
    (tmp_path / "espeak-digits").mkdir()
    return tmp_path


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_stands_in_is_named_and_is_no_success(form: list[str], cache: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fetch", "fsdd", *form]) == 1
    said = capsys.readouterr()
    assert "kilter: Free Spoken Digit Dataset could not be had; espeak-digits, from the cache, stands in" in said.err
    assert str(cache / "espeak-digits") in said.out
    if form:
        assert json.loads(said.out)["name"] == "espeak-digits"


def test_synthetic_speech_may_be_asked_for(cache: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fetch", "espeak-digits"]) == 0
    assert str(cache / "espeak-digits") in capsys.readouterr().out


def test_what_only_the_hub_has_is_no_success(cache: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fetch", "librispeech"]) == 1
    assert "is read from the hub by its id" in capsys.readouterr().err
