"""`kilter run`: a recipe on several tasks, and runs that are no evidence."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kilter.cli import main
from kilter.core import paper
from kilter.lab import record
from kilter.lab.files import read_json
from kilter.recipes import every
from tests.commands import made_up

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up method is one of kilter's."""
    list(every())  # they read their cards when they are first imported, whichever test comes first
    monkeypatch.setitem(sys.modules, "kilter.recipes.made_up", made_up)
    monkeypatch.setattr(paper, "cards", lambda: {"made-up": made_up.PAPER})


def settings(run: Path) -> dict[str, object]:
    return yaml.safe_load((run / "recipe.yaml").read_text())["settings"]


def missed(run: Path, arm: str = "plain", seed: int = 0) -> float:
    return read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json")["missed"]


def test_the_first_task_is_the_default(tmp_path: Path) -> None:
    assert main(["run", "made-up", "--out", str(tmp_path / "run")]) == 0
    assert settings(tmp_path / "run")["task"] == "sheep"
    assert missed(tmp_path / "run") == 1


@pytest.mark.parametrize("asked", [["--task", "wolves"], ["--task=wolves"], ["--teeth", "42", "--task", "wolves"]])
def test_the_task_chooses_the_class_and_its_options(asked: list[str], tmp_path: Path) -> None:
    assert main(["run", "made-up", *asked, "--out", str(tmp_path / "run")]) == 0
    assert settings(tmp_path / "run")["teeth"] == missed(tmp_path / "run") == 42


def test_a_file_may_say_the_task_and_a_flag_wins(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("task: wolves\nteeth: 30\n")
    run = ["run", "made-up", "--config", str(config), "--out"]
    assert main([*run, str(tmp_path / "a")]) == 0
    assert missed(tmp_path / "a") == 30
    assert main(["run", "made-up", "--config", str(tmp_path / "a" / "recipe.yaml"), "--out", str(tmp_path / "a")]) == 0
    config.write_text("task: wolves\n")
    assert main([*run, str(tmp_path / "b"), "--task", "sheep"]) == 0
    assert settings(tmp_path / "b")["task"] == "sheep"


@pytest.mark.parametrize("how", ["flag", "file"])
def test_an_unknown_task_is_wrong_usage(how: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.yaml").write_text("task: wolfs\n")
    asked = ["--task", "wolfs"] if how == "flag" else ["--config", str(tmp_path / "mine.yaml")]
    assert main(["run", "made-up", *asked]) == 2
    assert "task: there is no 'wolfs'; did you mean 'wolves'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("dreamt: perhaps", "dreamt must be true or false, got 'perhaps'"),
        ("preset: null", "preset must be a text, got None"),
        ("arms: plain", "arms must be a list of texts, got 'plain'"),
        ("settings: 3", "must hold options as `name: value` lines"),
        ("method: rankgen\nsettings: {preset: smoke}", "holds a run of rankgen, not of made-up"),
        ("arms: []", "arms: there is none; name one, or leave --arms out"),
    ],
)
def test_what_a_file_says_wrongly_is_named(
    written: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.yaml").write_text(written)
    assert main(["run", "made-up", "--config", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("asked", "teeth"), [([], False), (["--task", "wolves"], True)])
def test_help_names_the_tasks_and_the_options_of_one(
    asked: list[str], teeth: bool, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "made-up", *asked, "--help"])
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--task {sheep,wolves} chooses what is trained for and judged on" in said
    assert ("--teeth" in said) == teeth


def test_an_option_of_another_task_is_wrong_usage(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "made-up", "--teeth", "1"])
    assert stopped.value.code == 2


def test_a_class_that_cannot_keep_its_task_is_told(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass
    class Forgetful:
        pass

    monkeypatch.setattr(made_up, "RECIPE", {"naps": Forgetful})
    assert main(["run", "made-up"]) == 1
    assert "Forgetful: a recipe on several tasks needs an option `task: str = 'naps'`" in capsys.readouterr().err


@pytest.mark.slow
def test_pieces_in_processes_of_their_own_are_on_the_task_too(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    package = tmp_path / "src" / "kilter"
    shutil.copy(HERE / "made_up.py", package / "recipes" / "made_up.py")
    shutil.copy(HERE / "made_up.py", package / "speech" / "made_up.py")  # where its card is found
    command = [sys.executable, "-m", "kilter.cli", "run", "made-up", "--task", "wolves", "--seeds", "2", "--jobs", "2"]
    done = subprocess.run(
        [*command, "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [missed(tmp_path / "run", arm, 1) for arm in ("plain", "made-up")] == [43, 21.5]


# Evidence ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "source_tree", lambda: tmp_path)
    return tmp_path


def test_a_run_is_recorded(tree: Path) -> None:
    assert main(["run", "made-up", "--record", "--out", str(tree / "run")]) == 0
    assert read_json(tree / "evidence" / "made-up.json")["per_seed"]["plain"]["0"]["missed"] == 1


@pytest.mark.parametrize("how", ["flag", "file"])
def test_a_smoke_run_is_refused_before_any_work(how: str, tree: Path, capsys: pytest.CaptureFixture) -> None:
    (tree / "mine.yaml").write_text("preset: smoke\n")
    asked = ["--preset", "smoke"] if how == "flag" else ["--config", str(tree / "mine.yaml")]
    assert main(["run", "made-up", *asked, "--record", "--out", str(tree / "run")]) == 1
    assert "leave --preset out (which is full)" in capsys.readouterr().err
    assert not (tree / "run").exists()


def test_a_run_on_synthetic_data_is_refused_when_it_is_known(tree: Path, capsys: pytest.CaptureFixture) -> None:
    run = tree / "run"
    assert main(["run", "made-up", "--dreamt", "--record", "--out", str(run)]) == 1
    said = capsys.readouterr()
    assert "keeps no run on synthetic data, and this one was on A meadow. Nobody went out. Get" in said.err
    assert "another --out" in said.err
    assert str(run / "report.html") in said.out, "the run itself is kept"
    assert not (tree / "evidence").exists()
