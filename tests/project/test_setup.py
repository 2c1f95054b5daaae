"""`scripts/setup.sh`: says what is missing, does nothing twice, asks nobody when told where torch comes from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a shell script, for make")

FAKE_PYTHON = """#!/bin/sh
# Stands for the python of .venv: notes what it is asked to install, and has no torch yet.
case "$*" in
    *"import torch"*) exit 1 ;;
    *install*) echo "$*" >>"$(dirname "$0")/../../asked" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/setup.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def setup(checkout: Path, *groups: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(checkout / "scripts" / "setup.sh"), *groups]
    kept = {name: value for name, value in os.environ.items() if name != "KILTER_TORCH_INDEX"}
    return subprocess.run(command, env=kept | env, text=True, capture_output=True, timeout=60)


def with_environment(checkout: Path) -> Path:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(FAKE_PYTHON, encoding="utf-8")
    python.chmod(0o755)
    return checkout


def asked(checkout: Path) -> list[str]:
    file = checkout / "asked"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def test_without_python_it_says_what_to_do(checkout: Path) -> None:
    done = setup(checkout, "all", PYTHON="no-such-python")
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(("index", "where"), [("", "the index pip is configured with"), ("https://x/y", "https://x/y")])
def test_a_named_index_is_used_and_printed(checkout: Path, index: str, where: str) -> None:
    done = setup(with_environment(checkout), "all", "test", KILTER_TORCH_INDEX=index)
    assert done.returncode == 0, done.stderr
    assert f"from {where} (KILTER_TORCH_INDEX)" in done.stdout
    pip, torch, *rest = asked(checkout)
    assert "pip>=25.1" in pip
    assert "torch==" in torch, "torch comes before whatever might ask for it"
    assert ("--index-url" in torch) == bool(index)
    assert [line.split("install ")[1] for line in rest] == ["--editable .[all]", "--group test"]


def test_without_an_answer_it_says_what_may_come(checkout: Path) -> None:
    python = with_environment(checkout) / ".venv" / "bin" / "python"
    silent = FAKE_PYTHON.replace("    *install*)", '    "- https"*) exit 1 ;;\n    *install*)')
    python.write_text(silent, encoding="utf-8")
    said = setup(checkout, "all").stdout
    assert "does not answer" in said
    assert ("several gigabytes" in said) == (sys.platform == "linux")
    python.write_text(FAKE_PYTHON, encoding="utf-8")
    for index in ({"KILTER_TORCH_INDEX": ""}, {}):
        shutil.rmtree(checkout / ".venv")
        assert "gigabytes" not in setup(with_environment(checkout), "all", **index).stdout, "nobody fell back"


def test_again_costs_nothing_until_the_project_changes(checkout: Path) -> None:
    with_environment(checkout)
    assert setup(checkout, "all", KILTER_TORCH_INDEX="").returncode == 0
    first = asked(checkout)
    assert setup(checkout, "all").stdout == ""
    assert asked(checkout) == first
    with (checkout / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write("\n# changed\n")
    assert "ready" in setup(checkout, "all", KILTER_TORCH_INDEX="").stdout
    assert len(asked(checkout)) == 2 * len(first)


def test_an_interrupted_setup_is_not_taken_for_a_finished_one(checkout: Path) -> None:
    with_environment(checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(FAKE_PYTHON.replace("*install*)", "*group*) exit 130 ;;\n    *install*)"), encoding="utf-8")
    assert setup(checkout, "all", "test", KILTER_TORCH_INDEX="").returncode == 130
    python.write_text(FAKE_PYTHON, encoding="utf-8")
    assert "ready" in setup(checkout, "all", "test", KILTER_TORCH_INDEX="").stdout
