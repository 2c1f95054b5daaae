"""Shared by all tests: the devices there are, the shape checks off for a moment, repeatable hypothesis, digits."""

import gc
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a run of the tests that need none, e.g. of a wheel
    pass
else:
    settings.register_profile("kilter", deadline=None, derandomize=True, database=None, max_examples=60)
    settings.load_profile("kilter")

if find_spec("numpy") is None:  # no extra has brought it, and without it jaxtyping cannot broadcast `*#lead`
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)


def devices() -> list[str]:
    """The CPU and what accelerators are present."""
    import torch

    return ["cpu", *["cuda"] * torch.cuda.is_available(), *["mps"] * torch.backends.mps.is_available()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `device` runs on each."""
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", devices())


def pytest_collection_finish() -> None:
    """What is imported by now stays: trainers collect garbage when they end, and need not look at all of it again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What torch.compile is asked to trace must be free of the run-time shape checks, which are on by default."""
    if item.get_closest_marker("compile") and "kilter" in (item.config.getoption("jaxtyping_packages") or ""):
        pytest.skip(
            "torch.compile cannot trace the shape checks: -m compile --jaxtyping-packages=none,beartype.beartype"
        )


@pytest.fixture
def own_messages() -> Iterator[None]:
    """Shape checks by jaxtyping off, so that wrong shapes and dtypes reach the library's own messages."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `locate("fsdd")` finds: recordings if KILTER_DATA has them, else digits spoken by espeak-ng."""
    if not Path(os.environ.get("KILTER_DATA", "nowhere"), "fsdd").is_dir():
        os.environ["KILTER_FSDD_URL"] = "http://127.0.0.1:9/none.tar.gz"
        os.environ["KILTER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
