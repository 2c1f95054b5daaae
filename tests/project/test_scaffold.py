"""`kilter new`: what it writes imports, passes its own tests, runs, and harms nothing that is there."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kilter.scaffold import Method, export, new, next_steps

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy to write into: the package, and the conformance suite that looks for cases beside itself."""
    for folder in ("src", "tests/conformance"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    return tmp_path


def python(checkout: Path, *arguments: str) -> str:
    """Run Python on the copy."""
    env = {**os.environ, "PYTHONPATH": str(checkout / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=checkout, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


RUN = """
from pathlib import Path
from kilter.{family} import *
from kilter.lab.files import read_json
from kilter.lab.run import run
from kilter.recipes.{module} import RECIPE, {cls}Recipe
assert {cls} and {module} and RECIPE is {cls}Recipe
out = run({cls}Recipe(preset="smoke", out=Path("run"), **{cls}Recipe.presets["smoke"]), "kilter run {slug}")
summary = read_json(out / "summary.json")
assert summary["method"] == "{slug}"
assert summary["differences"]["{slug}"]["peak"]["high"] < 0
assert summary["verdicts"][0]["verdict"] == "holds in direction"
assert (out / "report.html").exists()
"""


def test_what_it_writes_works_at_once(checkout: Path) -> None:
    before = {path for path in checkout.rglob("*") if path.is_file()}
    written = new("speech/fast-emit", checkout)
    assert {path for path in checkout.rglob("*") if path.is_file()} - before <= set(written)
    assert [path.name for path in written] == ["fast_emit.py", "fast_emit.py", "test_fast_emit.py", "__init__.py"]
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(checkout), "-p", "no:cacheprovider"]
    chosen = ["-m", "not compile and not dist", "-k", "FastEmit or fast_emit", "tests", str(written[0])]
    said = python(checkout, "-m", "pytest", "-q", *settings, *chosen)
    assert int(re.search(r"(\d+) passed", said)[1]) > 10, "its own tests, its examples, and the conformance suite"  # type: ignore[index]


def test_its_recipe_runs_in_a_new_family_too(checkout: Path) -> None:
    new("tagging/x2", checkout)
    python(checkout, "-c", RUN.format(**Method.parse("tagging/x2").names))


def test_the_code_it_writes_is_in_the_house_style(checkout: Path) -> None:
    pytest.importorskip("ruff", reason="the dev group is not installed (make tools)")
    written = [str(path) for path in new("speech/fast-emit", checkout)]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    python(checkout, "-m", "ruff", "check", *settings, *written)
    python(checkout, "-m", "ruff", "format", "--check", *settings, *written)


def test_nothing_is_overwritten(checkout: Path) -> None:
    (checkout / "tests" / "speech").mkdir()
    mine = checkout / "tests" / "speech" / "test_fast_emit.py"
    mine.write_text("mine", encoding="utf-8")
    init = checkout / "src" / "kilter" / "speech" / "__init__.py"
    before = init.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"test_fast_emit\.py"):
        new("speech/fast-emit", checkout)
    assert mine.read_text(encoding="utf-8") == "mine"
    assert init.read_text(encoding="utf-8") == before
    assert not (checkout / "src" / "kilter" / "speech" / "fast_emit.py").exists()


@pytest.mark.parametrize(
    "target",
    ["fast-emit", "speech/Fast", "speech/fast_emit", "speech/2d", "a/b/c", "../x", "core/x", "speech/class"],
)
def test_a_bad_name_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(ValueError, match=r"is not family/name|is a floor|is a word of the Python language"):
        new(target, tmp_path)


def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="checkout"):
        new("speech/fast-emit", tmp_path)


def test_exports_keep_what_was_there() -> None:
    text = (ROOT / "src" / "kilter" / "speech" / "__init__.py").read_text(encoding="utf-8")
    tree = ast.parse(export(text, "kilter.speech.fast_emit", ["FastEmit", "fast_emit"]))
    before = {ast.unparse(node) for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)}
    after = {ast.unparse(node) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert after - before == {"from kilter.speech.fast_emit import FastEmit, fast_emit"}
    assert before <= after


def test_next_steps_name_the_files() -> None:
    said = next_steps("speech/fast-emit")
    assert "src/kilter/speech/fast_emit.py" in said
    assert "kilter run fast-emit --preset smoke" in said
