"""`kilter new`: what it writes imports, passes its own tests, runs, and harms nothing that is there.

The names are such as no paper will have: these tests also run where a paper has just been added.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kilter.commands.new import Method, export, families, new, next_steps, tasks

ROOT = Path(__file__).parents[2]
PAIRS = [(lever, task) for task, levers in tasks().items() for lever in levers]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy to write into: the package, and the conformance suite that looks for cases beside itself."""
    for folder in ("src", "tests/conformance"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "decoding").mkdir()
    for file in ("conftest.py", "decoding/tiny.py"):
        shutil.copy(ROOT / "tests" / file, tmp_path / "tests" / file)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
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
assert {cls} and RECIPE is {cls}Recipe
settings = {{**{cls}Recipe.presets["smoke"], "steps": 2, "save_steps": 2, "device": "cpu"}}
if hasattr({cls}Recipe, "warm_up_steps"):
    settings["warm_up_steps"] = 2
out = run({cls}Recipe(preset="smoke", out=Path("run"), **settings), "kilter run {slug}")
summary = read_json(out / "summary.json")
assert summary["method"] == "{slug}"
assert summary["arms"]["{slug}"]["role"] == "method"
assert summary["differences"].keys() == {{"{slug}"}}
assert (out / "report.html").exists()
"""


def test_what_it_writes_works_at_once(checkout: Path) -> None:
    """Whatever it is; all of them in one run, since starting one is what takes time."""
    files = []
    for lever, task in PAIRS:
        before = {path for path in checkout.rglob("*") if path.is_file()}
        written = new(f"speech/try-{lever}", checkout, lever=lever, task=task)
        assert {path for path in checkout.rglob("*") if path.is_file()} - before <= set(written)
        module = f"try_{lever}.py"
        assert [path.name for path in written] == [module, module, f"test_{module}", "__init__.py"]
        assert len(written[1].read_text(encoding="utf-8").splitlines()) <= 60, "a recipe on a task that exists is short"
        files.append(str(written[0]))
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(checkout), "-p", "no:cacheprovider"]
    names = " or ".join(f"try_{lever} or try{lever}" for lever, _ in PAIRS)
    chosen = ["-m", "not compile and not dist", "-k", names, "tests", *files]
    said = python(checkout, "-m", "pytest", "-v", *settings, *chosen)
    passed = [line for line in said.splitlines() if "PASSED" in line]
    for lever, _ in PAIRS:
        least = 10 if lever in ("objective", "decoder") else 4
        own = [line for line in passed if re.search(f"try.?{lever}", line, re.IGNORECASE)]
        assert len(own) > least, "its tests, its examples, the conformance suite"


@pytest.mark.recipe
@pytest.mark.host
@pytest.mark.slow
@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize(("lever", "task"), PAIRS)
def test_its_recipe_runs_in_a_new_family_too(checkout: Path, lever: str, task: str) -> None:
    if task == "several_answers" and not Path(os.environ.get("KILTER_DATA", "nowhere"), "e2e").is_dir():
        pytest.skip("KILTER_DATA has no e2e, and the task has nothing to stand for it")
    new("humming/x2", checkout, lever=lever, task=task, new_family=True)
    python(checkout, "-c", RUN.format(**Method.parse("humming/x2").names))


@pytest.mark.parametrize(("lever", "task"), PAIRS)
def test_the_code_it_writes_is_in_the_house_style(checkout: Path, lever: str, task: str) -> None:
    pytest.importorskip("ruff", reason="the dev group is not installed (make tools)")
    written = [str(path) for path in new("speech/try-out", checkout, lever=lever, task=task)]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    python(checkout, "-m", "ruff", "check", *settings, *written)
    python(checkout, "-m", "ruff", "format", "--check", *settings, *written)


def test_an_unknown_family_is_refused_with_the_nearest(checkout: Path) -> None:
    before = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"there is no family 'spech'; did you mean 'speech'\?.*--new-family"):
        new("spech/try-out", checkout)
    assert (checkout / "pyproject.toml").read_text(encoding="utf-8") == before
    assert not (checkout / "src" / "kilter" / "spech").exists()


def test_a_new_family_stands_in_the_import_layers(checkout: Path) -> None:
    before = families(checkout)
    assert {"speech", "decoding"} <= set(before)
    written = new("humming/try-out", checkout, new_family=True)
    assert checkout / "pyproject.toml" in written
    assert families(checkout) == [*before, "humming"]
    new("humming/again", checkout)  # known now


@pytest.mark.parametrize(
    ("lever", "task", "said"),
    [
        ("module", None, "no task here takes the lever module; the tasks and what one can begin on them: "),
        (
            "decoder",
            "recognition",
            "recognition does not take the lever decoder here; .*recognition: curator, objective",
        ),
        ("objective", "cooking", "cooking does not take the lever objective here"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_with_those_that_do(
    checkout: Path, lever: str, task: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        new("speech/try-out", checkout, lever=lever, task=task)


def test_nothing_is_overwritten(checkout: Path) -> None:
    (checkout / "tests" / "speech").mkdir()
    mine = checkout / "tests" / "speech" / "test_try_out.py"
    mine.write_text("mine", encoding="utf-8")
    init = checkout / "src" / "kilter" / "speech" / "__init__.py"
    before = init.read_text(encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"test_try_out\.py"):
        new("speech/try-out", checkout)
    assert mine.read_text(encoding="utf-8") == "mine"
    assert init.read_text(encoding="utf-8") == before
    assert not (checkout / "src" / "kilter" / "speech" / "try_out.py").exists()


@pytest.mark.parametrize(
    "target",
    ["try-out", "speech/Fast", "speech/fast_emit", "speech/2d", "a/b/c", "../x", "core/x", "tasks/x", "speech/class"],
)
def test_a_bad_name_is_refused(checkout: Path, target: str) -> None:
    with pytest.raises(ValueError, match=r"is not family/name|is a floor|is a word of the Python language"):
        new(target, checkout, new_family=True)


def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="checkout"):
        new("speech/try-out", tmp_path)


def test_exports_keep_what_was_there() -> None:
    text = (ROOT / "src" / "kilter" / "speech" / "__init__.py").read_text(encoding="utf-8")
    tree = ast.parse(export(text, "kilter.speech.try_out", ["TryOut", "try_out"]))
    before = {ast.unparse(node) for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)}
    after = {ast.unparse(node) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert after - before == {"from kilter.speech.try_out import TryOut, try_out"}
    assert before <= after


def test_next_steps_name_the_files() -> None:
    said = next_steps("speech/try-out", "curator")
    assert "src/kilter/speech/try_out.py" in said
    assert "with the lever curator on recognition" in said
    assert "kilter run try-out --preset smoke" in said
