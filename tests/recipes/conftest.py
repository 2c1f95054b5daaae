"""Digits for every recipe that needs them, without a network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `locate("fsdd")` finds: recordings if KILTER_DATA has them, else digits spoken by espeak-ng."""
    if not Path(os.environ.get("KILTER_DATA", "nowhere"), "fsdd").is_dir():
        os.environ["KILTER_FSDD_URL"] = "http://127.0.0.1:9/none.tar.gz"
        os.environ["KILTER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
