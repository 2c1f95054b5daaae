"""The recipe from end to end on made requests: figures, parts by the step, own pairs and judge, kills, bad options."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer

from kilter.cli import main
from kilter.lab.files import read_json
from kilter.lab.run import run
from kilter.preference import GroupRelativeAlignment
from kilter.recipes.grao import GroupAlignmentRecipe
from kilter.tasks.preference.groups import SampleAndImitate, WithoutExploration
from tests.made_requests import made_requests

__all__ = ["made_requests"]

pytestmark = [pytest.mark.recipe, pytest.mark.host, pytest.mark.usefixtures("made_requests")]

RUN = ["run", "grao", "--preset", "smoke"]
ARMS = ("base", "sft", "grpo", "no-exploration", "grao")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, made_requests: None) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def own_pairs(folder: Path, rows: int = 20) -> list[str]:
    """Options for pairs and a judge of one's own."""
    pairs = [{"prompt": f"Say {number}:", "chosen": f" {number}"} for number in range(rows)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")
    (folder / "mine.py").write_text(
        "def short(completions, **columns):\n    return [-len(one) for one in completions]\n"
    )
    return ["--train", str(folder / "pairs.jsonl"), "--judge", f"{folder / 'mine.py'}:short"]


def test_every_arm_is_held_against_references_and_the_start(smoke: Path) -> None:
    for arm in ARMS:
        found = read_json(smoke / f"arms/{arm}/seed-0/metrics.json")
        assert {"win_rate", "net_start", "all_fail", "reference_log_prob", "length", "kl"} <= found.keys()
        assert 0 <= found["win_rate"] <= 100
        assert found["reference_log_prob"] < 0


def test_the_parts_of_the_loss_are_logged_by_the_step(smoke: Path) -> None:
    rows = read_json(smoke / "arms/grao/seed-0/trail.json")["logged"]
    assert len(rows) == 3
    for row in rows:
        assert {"part_exploration", "part_imitation", "part_regulariser"} <= row.keys()
        assert {"reference_advantage", "reference_log_prob", "completions/mean_length"} <= row.keys()
    assert "part_exploration" not in read_json(smoke / "arms/grpo/seed-0/trail.json")["logged"][0]
    names = [Path(one["file"]).stem for one in read_json(smoke / "summary.json")["figures"]]
    assert {"reference-log-prob", "reference-advantage", "completions-mean-length", "parts-grao", "answers-0"} <= {
        *names
    }


def test_the_notes_say_what_fails_at_the_start_and_what_the_regulariser_is(smoke: Path) -> None:
    notes = " ".join(read_json(smoke / "summary.json")["notes"])
    assert "of groups of 2 answers lose to the reference whole" in notes
    assert "each sample counts 0.8 and the reference 0.8" in notes


def test_imitation_makes_references_likelier(smoke: Path) -> None:
    """What the arms learn from is what they are named after."""
    found = {arm: read_json(smoke / f"arms/{arm}/seed-0/metrics.json")["reference_log_prob"] for arm in ARMS}
    assert found["sft"] > found["base"]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["sft", "grao"])
def test_a_killed_training_ends_with_the_same_bits(smoke: Path, tmp_path: Path, arm: str) -> None:
    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    given: Any = {**GroupAlignmentRecipe.presets["smoke"], "arms": (arm,), "preset": "smoke"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(GroupAlignmentRecipe(**given, out=tmp_path / "run"), "")
    run(GroupAlignmentRecipe(**given, out=tmp_path / "run"), "")
    file = f"arms/{arm}/seed-0/model/model.safetensors"
    assert (tmp_path / "run" / file).read_bytes() == (smoke / file).read_bytes()


@pytest.mark.slow
def test_ones_own_pairs_and_judge(tmp_path: Path) -> None:
    given = [*own_pairs(tmp_path), "--arms", "grao", "clipped", "grpo-sft", "--steps", "2"]
    assert main([*RUN, *given, "--out", str(tmp_path / "run")]) == 0
    summary = read_json(tmp_path / "run" / "summary.json")
    assert "18 to learn from, 2 to judge on" in summary["data"]["title"]
    assert not summary["verdicts"], "one's own data judge no paper"
    made = {
        arm: AutoModelForCausalLM.from_pretrained(tmp_path / f"run/arms/{arm}/seed-0/model")
        for arm in ("grao", "grpo-sft")
    }
    first, second = (model.state_dict() for model in made.values())
    assert not all(torch.equal(first[name], second[name]) for name in first)


def test_rivals_share_the_weights() -> None:
    rewards = torch.tensor([[-1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    whole, reference = GroupRelativeAlignment().advantages(rewards)
    part, same = WithoutExploration().advantages(rewards)
    torch.testing.assert_close(part, 0.6 / 1.6 * whole)
    torch.testing.assert_close(same, reference)
    ours, ones = SampleAndImitate().advantages(rewards)
    assert ones.tolist() == [1.0]
    assert float(ours.sum()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompts", "a.txt", "--judge", "m.py:f"], "--prompts has no answers to learn from"),
        (["--train", "a.csv"], "need --reward or --judge"),
        (["--train", "nowhere.csv", "--judge", "mine.py:short"], "nowhere.csv"),
        (["--imitation", "-1"], "imitation must not be negative"),
        (["--arms", "grow"], "there is no 'grow'"),
        (["--arms", "grpo+sft"], "2 losses"),
    ],
)
def test_bad_options(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, *options, "--out", str(tmp_path / "run")]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("prompt,text2,more\na,b,c\n", "needs column 'chosen'"),
        ("prompt,chosen\na,b\nc,\n", "line 3"),
        ("prompt,chosen\na,b\n", "too few to hold some out"),
    ],
)
def test_bad_pairs(rows: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = own_pairs(tmp_path)
    (tmp_path / "pairs.csv").write_text(rows)
    given[1] = str(tmp_path / "pairs.csv")
    assert main([*RUN, *given, "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err
