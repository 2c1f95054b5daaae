"""What the project promises about itself: the wheel's contents, the extras, the two commands, the floors."""

import re
import subprocess
import sys
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


@pytest.mark.parametrize("target", ["setup", "demo", "test", "slow", "lint", "types", "docs", "bench", "clean"])
def test_make_has_and_explains(target: str) -> None:
    assert re.search(rf"^{target}:.*## \w", text("Makefile"), re.M)


RUFF = Path(sys.executable).with_name("ruff")
MESS = '''"""Mess."""
import os
import json
print(json.dumps( {"a":1}),
  )
if True :
  print(list([ x for x in "ab"]))
def f(a = [ ]) :
  'Doc.'
  return a
'''


@pytest.mark.skipif(not RUFF.exists(), reason="ruff is not installed (make tools)")
def test_what_make_formats_passes_lint_but_for_what_no_machine_can_mend(tmp_path: Path) -> None:
    """An error that only a person can mend stands in the file, and does not keep the rest from being put right."""
    (tmp_path / "pyproject.toml").write_text(text("pyproject.toml"), encoding="utf-8")
    (tmp_path / "mess.py").write_text(MESS, encoding="utf-8")
    (recipe,) = re.findall(r"^format:.*\n((?:\t.*\n)+)", text("Makefile"), re.M)
    for line in recipe.splitlines():
        subprocess.run(line.strip().replace("$(BIN)/ruff", str(RUFF)), shell=True, cwd=tmp_path, check=True)
    subprocess.run([RUFF, "format", "--check"], cwd=tmp_path, check=True)
    left = subprocess.run([RUFF, "check", "--output-format", "concise"], cwd=tmp_path, capture_output=True, text=True)
    assert "B006" in left.stdout, "the mess has nothing that stops"
    assert "[*]" not in left.stdout, "something that a machine can mend is left"
