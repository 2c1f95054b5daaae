"""The recipe from end to end: what a run leaves behind, that it survives a kill, and a user's own model and data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from kilter.cli import main
from kilter.lab.files import read_json, read_rows

pytestmark = [pytest.mark.recipe, pytest.mark.host, pytest.mark.usefixtures("digits")]

RUN = ["run", "align-with-purpose", "--preset", "smoke"]


def figures(run: Path, arm: str) -> dict[str, float]:
    """Every number of a piece of work that must repeat bit by bit."""
    found = read_json(run / "arms" / arm / "seed-0" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def test_a_run_leaves_what_the_architecture_says(smoke: Path) -> None:
    for arm in ("ctc", "awp"):
        folder = smoke / "arms" / arm / "seed-0"
        metrics = read_json(folder / "metrics.json")
        assert all(isinstance(value, int | float) for value in metrics.values())
        assert {"wer", "dev_wer", "cost_cpu_seconds"} <= set(metrics)
        assert len(read_rows(folder / "utterances.jsonl")) == 12
        assert not list(folder.glob("checkpoints*"))
    summary = read_json(smoke / "summary.json")
    assert summary["arms"]["ctc"]["role"] == "baseline"
    assert summary["differences"].keys() == {"awp"}
    assert summary["data"]["licence"]
    settings = yaml.safe_load((smoke / "recipe.yaml").read_text())["settings"]
    assert settings["weight"] == 1.5
    page = (smoke / "report.html").read_text()
    assert summary["data"]["attribution"].split()[0] in page
    assert 'src="http' not in page


def test_nothing_that_kilter_writes_is_a_pickle(smoke: Path) -> None:
    kinds = {path.suffix for path in smoke.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".wav", ".safetensors", ".md", ".lock"}


def test_the_same_command_again_does_nothing_and_says_the_same(smoke: Path, capsys: pytest.CaptureFixture) -> None:
    before = {path: path.stat().st_mtime_ns for path in smoke.rglob("metrics.json")}
    assert main([*RUN, "--out", str(smoke)]) == 0
    assert {path: path.stat().st_mtime_ns for path in smoke.rglob("metrics.json")} == before
    assert str(smoke / "report.html") in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_numbers_of_an_unbroken_one(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "kilter.cli", *RUN, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    moments = (
        "warm-up/conv-0/checkpoints/checkpoint-6",
        "arms/ctc/seed-0/model",
        "arms/awp/seed-0/checkpoints/checkpoint-6",
    )
    for moment in moments:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not (out / moment).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert main([*RUN, "--out", str(out)]) == 0
    for arm in ("ctc", "awp"):
        assert figures(out, arm) == figures(smoke, arm)


def test_an_option_newer_than_the_run_had_its_default(smoke: Path, capsys: pytest.CaptureFixture) -> None:
    text = (smoke / "recipe.yaml").read_text()
    (smoke / "recipe.yaml").write_text(text.replace("  language: en\n", ""))
    assert main([*RUN, "--out", str(smoke)]) == 0
    assert main([*RUN, "--out", str(smoke), "--language", "es"]) == 1
    assert "language='en'" in capsys.readouterr().err
    (smoke / "recipe.yaml").write_text(text)


@pytest.mark.slow
def test_every_rival_trains(tmp_path: Path) -> None:
    arms = [
        "ctc",
        "awp+constant",
        "peak-first",
        "trim-tail",
        "awp+trim-tail",
        "delay-penalty",
        "bayes-risk",
        "residual+peak-first",
    ]
    out = tmp_path / "run"
    few = ["--warm-up-steps", "4", "--steps", "2", "--save-steps", "2"]
    assert main([*RUN, *few, "--out", str(out), "--arms", *arms]) == 0
    summary = read_json(out / "summary.json")
    assert set(summary["arms"]) == set(arms)
    assert summary["arms"]["bayes-risk"]["series"] == "bayes-risk"
    found = {arm: (out / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes() for arm in arms}
    assert len(set(found.values())) == len(arms), "two arms trained the same model"


def test_letters_of_recorded_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset for the other property, on sounds that stand for prompts."""
    import soundfile

    folder = tmp_path / "data" / "asterisk-prompts"
    (folder / "es").mkdir(parents=True)
    names = ["uno", "dos", "tres", "casa", "perro", "gato", "mesa", "silla", "puerta", "luz", "agua", "sol"]
    noise = np.random.default_rng(0)
    rows = []
    for name in names:
        soundfile.write(folder / "es" / f"{name}.wav", 0.1 * noise.standard_normal(6000), 8000)
        rows.append({"audio": f"es/{name}.wav", "text": f"la {name}", "language": "es"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("KILTER_DATA", str(tmp_path / "data"))
    out = tmp_path / "run"
    few = ["--seeds", "1", "--jobs", "1", "--warm-up-steps", "4", "--steps", "2", "--batch-size", "2"]
    command = ["run", "align-with-purpose", "--preset", "words", *few, "--arms", "ctc", "awp", "mwer"]
    assert main([*command, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert all({"wer", "cer", "lm_wer"} <= arm["metrics"].keys() for arm in summary["arms"].values())
    assert [found["arm"] for found in summary["verdicts"]] == ["awp", "awp", "mwer", "mwer"]


def test_a_half_written_checkpoint_is_not_resumed_from(tmp_path: Path) -> None:
    from kilter.lab.training import last_whole

    for step, whole in ((3, True), (6, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "whole").touch()
    assert last_whole(tmp_path) == str(tmp_path / "checkpoint-3")
    assert last_whole(tmp_path / "nowhere") is None


def test_one_piece_of_work_can_be_done_alone(tmp_path: Path, smoke: Path) -> None:
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--only", "awp/seed-0"]) == 0
    assert figures(out, "awp") == figures(smoke, "awp")
    assert not (out / "arms" / "ctc").exists()


@pytest.mark.slow
def test_pieces_side_by_side_give_the_same_numbers(
    tmp_path: Path, smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--jobs", "2"]) == 0
    for arm in ("ctc", "awp"):
        assert figures(out, arm) == figures(smoke, arm)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_train_one_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*launch, "-m", "kilter.cli", *RUN, "--out", str(out), "--steps", "4", "--warm-up-steps", "4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(out / "report.html")) == 1
    assert {path.parts[-3] for path in out.rglob("metrics.json")} == {"ctc", "awp"}


def test_report_compare_and_json(smoke: Path, capsys: pytest.CaptureFixture) -> None:
    (smoke / "report.html").unlink()
    assert main(["report", str(smoke)]) == 0
    assert (smoke / "report.html").exists()
    assert main(["compare", str(smoke), str(smoke), "--json"]) == 0
    assert main(["report", str(smoke), "--json"]) == 0
    assert '"verdicts"' in capsys.readouterr().out


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arms", "cts"], "unknown part 'cts' in 'cts'"),
        (["--only", "awp-3"], "awp/seed-3"),
        (["--model", "x"], "--train"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--weight", "-1"], "weight must be at least 0"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_bad_options(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_failed_start_does_not_claim_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--device", "gpu"]) == 1
    assert not out.exists()


def test_options_from_a_file_and_flags_go_together(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("model: no/such/model\n")
    assert main([*RUN, "--config", str(config), "--train", "a.csv", "--eval", "b.csv"]) == 1
    assert "no/such/model" in capsys.readouterr().err


def test_other_settings_in_the_same_folder(smoke: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*RUN, "--out", str(smoke), "--weight", "3"]) == 1
    assert "weight=1.5" in capsys.readouterr().err


def test_unknown_key_in_a_config_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("weigth: 2.0\n")
    assert main([*RUN, "--config", str(config)]) == 1
    assert "did you mean 'weight'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([*RUN, "--out", str(tmp_path / "file" / "run")]) == 1
    assert "file" in capsys.readouterr().err


def test_a_full_disk_leaves_the_run_intact(tmp_path: Path, smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    real = os.fsync

    def full(descriptor: int) -> None:
        if "utterances" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        real(descriptor)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to see which file is written")
    monkeypatch.setattr(os, "fsync", full)
    assert main([*RUN, "--out", str(out), "--arms", "ctc"]) == 1
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("metrics.json"))
    monkeypatch.setattr(os, "fsync", real)
    assert main([*RUN, "--out", str(out), "--arms", "ctc"]) == 0
    assert figures(out, "ctc") == figures(smoke, "ctc")


# One's own model and recordings -----------------------------------------------------------------------------------


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A manifest of a few recordings in several formats, one of them stereo with an empty channel."""
    import soundfile

    rng = np.random.default_rng(0)
    rows = []
    for index, (suffix, rate) in enumerate((("wav", 8000), ("flac", 16000), ("ogg", 22050), ("wav", 44100))):
        sound = 0.1 * rng.standard_normal(2 * rate).astype(np.float32)
        if index == 3:
            sound = np.stack([np.zeros_like(sound), sound], axis=1)
        soundfile.write(tmp_path / f"{index}.{suffix}", sound, rate)
        rows.append({"audio": f"{index}.{suffix}", "text": "one two"})
    manifest = tmp_path / "mine.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


def own(model: Path, manifest: Path, out: Path) -> list[str]:
    return [
        *("run", "align-with-purpose", "--model", str(model), "--train", str(manifest), "--eval", str(manifest)),
        *("--arms", "awp", "--steps", "2", "--batch-size", "2", "--out", str(out)),
    ]


def test_own_model_and_recordings(smoke: Path, recordings: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCTC

    base = smoke / "arms" / "ctc" / "seed-0" / "model"
    out = tmp_path / "tuned"
    assert main(own(base, recordings, out)) == 0
    tuned = out / "arms" / "awp" / "seed-0" / "model"
    before, after = (AutoModelForCTC.from_pretrained(folder).state_dict() for folder in (base, tuned))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    card = (tuned / "README.md").read_text()
    assert "segev2024align" in card
    assert "base model's licence" in card
    assert read_json(out / "summary.json")["baseline"] == "before"


def test_a_bad_recording_is_named_and_skipped_only_when_asked(
    smoke: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (recordings.parent / "1.flac").write_bytes(b"not audio")
    arguments = own(smoke / "arms" / "ctc" / "seed-0" / "model", recordings, tmp_path / "tuned")
    assert main(arguments) == 1
    assert "1.flac" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "again"), "--skip-bad"]) == 0
    assert len(read_json(tmp_path / "again" / "summary.json")["data"]["skipped"]) == 2


def test_what_is_not_a_recogniser(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    assert main(own(tmp_path / "empty", recordings, tmp_path / "run")) == 1
    assert "empty" in capsys.readouterr().err
