"""What the project promises about itself: the wheel's contents, the extras, the two commands, the floors."""

import re
import tomllib
from pathlib import Path

import pytest

import kilter

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert re.search(r"^version: (\S+)$", text("CITATION.cff"), re.M)[1] == kilter.__version__  # type: ignore[index]


def test_all_is_every_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras["all"] == [f"kilter[{','.join(sorted(set(extras) - {'all'}))}]"]


def test_the_core_stays_light() -> None:
    names = {re.split(r"[><=\[ ]", need)[0].lower() for need in PROJECT["project"]["dependencies"]}
    assert names == {"jaxtyping", "pyyaml", "rich", "safetensors", "torch", "tyro"}


def test_no_torchaudio() -> None:
    assert "torchaudio" not in text("pyproject.toml")


def test_setup_pins_a_torch_the_project_allows() -> None:
    assert re.search(r'^torch="torch==\d+\.\d+\.\d+"$', text("scripts/setup.sh"), re.M)


def test_licence_is_whole() -> None:
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text("LICENSE")
    assert "END OF TERMS AND CONDITIONS" in text("LICENSE")


@pytest.mark.parametrize("target", ["setup", "demo", "test", "lint", "types", "docs", "bench", "clean"])
def test_make_has_and_explains(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", text("Makefile"), re.M)
