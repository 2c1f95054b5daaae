"""The recipe from end to end on made requests: figures, draws, curves without a model, own prompts, bad options."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from kilter.lab.run import run
from kilter.recipes.infalign import InferenceAwareRecipe
from tests.made_requests import made_requests

__all__ = ["made_requests"]

pytestmark = [pytest.mark.recipe, pytest.mark.host, pytest.mark.usefixtures("made_requests")]

RUN = ["run", "infalign", "--preset", "smoke"]
OWN = (
    "def short(completions, **columns):\n    return [-len(text) + 1e-3 * sum(map(ord, text)) for text in completions]\n"
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, made_requests: None) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def own_prompts(folder: Path) -> list[str]:
    """Options for prompts and a reward of one's own."""
    (folder / "prompts.txt").write_text("\n".join(f"Say {number}:" for number in range(30)) + "\n")
    (folder / "mine.py").write_text(OWN)
    return ["--prompts", str(folder / "prompts.txt"), "--reward", f"{folder / 'mine.py'}:short"]


def test_every_arm_is_judged_behind_every_decoder(smoke: Path) -> None:
    wanted = {f"{who}_{what}" for who in ("win", "judged") for what in ("best", "worst", "plain")} | {"kl", "length"}
    found = {arm: read_json(smoke / f"arms/{arm}/seed-0/metrics.json") for arm in ("base", "raw", "exp", "log")}
    for arm, figures in found.items():
        assert wanted <= figures.keys()
        assert (figures["kl"] == 0) == (arm == "base")
        assert ("strength" in figures) == (arm != "base")
    assert len({figures["kl"] for figures in found.values()}) == 4, "each arm is another training"


def test_draws_are_made_once_and_kept_with_their_scores(smoke: Path) -> None:
    rows = read_rows(smoke / "draws" / "train.jsonl")
    assert len(rows) == 8
    for row in rows:
        assert len(row["answers"]) == 6
        assert [len(scores) for scores in row["scores"]] == [6, 6], "of the reward and of the judge"
    assert read_json(smoke / "draws" / "train.settings.json")["scorers"] == [["liked", ""], ["disliked", ""]]


def test_the_report_has_curves_the_calibrated_reward_and_answers(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    assert [Path(one["file"]).stem for one in summary["figures"]] == ["win-rates", "calibrated", "answers-0"]
    notes = " ".join(summary["notes"])
    for said in (
        "7.1 points between the first two",
        "t interval over prompts",
        "the same reward in",
        "judged by disliked",
    ):
        assert said in notes
    assert {claim["metric"] for claim in summary["verdicts"]} <= {"win_best", "win_plain"}


def test_the_saved_model_is_a_plain_one(smoke: Path) -> None:
    folder = smoke / "arms/exp/seed-0/model"
    assert not (folder / "adapter_config.json").exists()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.generate(**tokenizer("Name red:", return_tensors="pt"), max_new_tokens=2).shape[0] == 1
    assert not any("lora" in name for name in model.state_dict())


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(smoke: Path, tmp_path: Path) -> None:
    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    given: Any = {**InferenceAwareRecipe.presets["smoke"], "arms": ("exp",), "preset": "smoke"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(InferenceAwareRecipe(**given, out=tmp_path / "run"), "")
    assert (tmp_path / "run/arms/exp/seed-0/checkpoints/checkpoint-2/adapter_model.safetensors").exists()
    run(InferenceAwareRecipe(**given, out=tmp_path / "run"), "")
    file = "arms/exp/seed-0/model/model.safetensors"
    assert (tmp_path / "run" / file).read_bytes() == (smoke / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["rloo", "grpo"])
def test_trls_trainers_learn_from_ones_own_prompts_and_reward(solver: str, tmp_path: Path) -> None:
    given = [*own_prompts(tmp_path), "--arms", "raw", "exp", "--solver", solver, "--steps", "2", "--kl", "0.1"]
    assert main([*RUN, *given, "--out", str(tmp_path / "run")]) == 0
    assert "27 to learn from, 3 to judge on" in read_json(tmp_path / "run/summary.json")["data"]["title"]
    logged = {arm: read_json(tmp_path / f"run/arms/{arm}/seed-0/trail.json")["logged"] for arm in ("raw", "exp")}
    assert all(len(rows) == 2 for rows in logged.values())
    assert any("win_rate" in name for name in logged["exp"][0]), "the calibrated reward is logged"
    figures = read_json(tmp_path / "run/arms/exp/seed-0/metrics.json")
    assert "judged_best" not in figures, "without a judge the reward judges"


@pytest.mark.slow
def test_curves_need_no_model_and_are_the_table_of_the_specification(tmp_path: Path) -> None:
    assert main(["run", "infalign", "--preset", "curves", "--kl", "0.3701", "--out", str(tmp_path / "run")]) == 0
    found = read_json(tmp_path / "run" / "summary.json")["arms"]
    table = {"identity": 76.85, "log": 73.17, "exp-5": 82.59, "exp": 83.93, "poly": 83.53, "fixed-point": 84.014}
    for arm, value in table.items():
        assert found[arm]["metrics"]["win_best"]["mean"] == pytest.approx(value, abs=0.02)
        assert found[arm]["metrics"]["kl"]["mean"] == pytest.approx(0.3701, abs=1e-4)
    assert found["base"]["metrics"]["win_best"]["mean"] == 50


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompts", "a.txt"], "need --reward or --judge"),
        (["--eval", "a.txt"], "--eval needs --train or --prompts"),
        (["--prompts", "a.txt", "--eval", "a.txt", "--reward", "m.py:f"], "--eval is a.txt, too"),
        (["--train", "a.csv", "--prompts", "a.txt"], "--train and --prompts are both given"),
        (["--batch-size", "5"], "batch_size=5 must be a multiple of group=2"),
        (["--n", "9"], "n=9 is more than samples=8"),
        (["--half", "--lora", "0"], "half"),
        (["--solver", "curves"], "leave prompts and the arm raw out"),
        (["--arms", "expp"], "there is no 'expp'"),
        (["--model", "no/where"], "no/where"),
        (["--kl", "50"], "kl=50"),
        (["--prompts", "nowhere.txt", "--reward", "mine.py:short"], "nowhere.txt"),
    ],
)
def test_bad_options(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, *options, "--out", str(tmp_path / "run")]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def short(completions, **columns):\n    return [1.0]\n", "returned 1 numbers"),
        ("def short(completions, **columns):\n    return [None for _ in completions]\n", "gave no number for answer 1"),
        ("def short(completions, **columns):\n    return [0.0 for _ in completions]\n", "too few differ in reward"),
        ("def short(texts):\n    return [0.0 for _ in texts]\n", "short"),
    ],
)
def test_bad_rewards(code: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = own_prompts(tmp_path)
    (tmp_path / "mine.py").write_text(code)
    assert main([*RUN, *given, "--arms", "base", "raw", "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err


def test_bad_rows_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = own_prompts(tmp_path)
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a"}) + "\n" + json.dumps({"prompt": 3}) + "\n")
    given[1] = str(tmp_path / "rows.jsonl")
    assert main([*RUN, *given, "--out", str(tmp_path / "run")]) == 1
    assert "line 2" in capsys.readouterr().err
