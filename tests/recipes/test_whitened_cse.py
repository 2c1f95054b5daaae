"""The recipe from end to end on a tiny random encoder: STS-like pairs, a user's own files, and any kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from tests.sentences import pairs, sentences, write_data

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "whitened-cse", "--preset", "smoke"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with made-up sentences and pairs under the names of the assets."""
    from kilter.data.catalogue import Asset

    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    (folder / "sitecustomize.py").write_text(
        "from kilter.data.catalogue import Asset\nAsset.checksums = lambda self: {}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Asset, "checksums", lambda self: {})
        patch.setenv("KILTER_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def smoke(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run of two seeds."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--seeds", "2", "--out", str(out)]) == 0
    return out


def figures(run: Path, arm: str, seed: int = 0) -> dict[str, float]:
    found = read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


def model(run: Path, arm: str, seed: int = 0) -> Path:
    return run / "arms" / arm / f"seed-{seed}" / "model"


SPACE = {"uniformity", "effective_rank", "isotropy"}


def test_every_arm_has_its_figures_and_the_report_its_pictures(smoke: Path) -> None:
    for arm in ("untrained", "simcse-2", "whitening", "whitened-cse"):
        assert figures(smoke, arm).keys() == {"stsb", "alignment", *SPACE}
    summary = read_json(smoke / "summary.json")
    assert summary["baseline"] == "untrained"
    assert [Path(found["file"]).stem for found in summary["figures"]] == ["space", "spectrum", "similarity", "map"]
    assert {"uniformity", "alignment"} == {
        verdict["metric"] for verdict in summary["verdicts"]
    }  # one set is no average
    assert any("Intervals are over seeds" in note for note in summary["notes"])


def test_what_is_not_trained_is_judged_once_and_is_the_same_for_every_seed(smoke: Path) -> None:
    for arm in ("untrained", "whitening"):
        assert figures(smoke, arm, 0) == figures(smoke, arm, 1)
        assert len([*(smoke / "arms" / arm).glob("seed-*/space.json")]) == 1
        found = read_json(smoke / "summary.json")["arms"][arm]["metrics"]["stsb"]
        assert found["low"] == found["mean"] == found["high"]
    assert figures(smoke, "whitened-cse", 0) != figures(smoke, "whitened-cse", 1)
    assert not model(smoke, "whitening", 1).exists()


@pytest.mark.slow
def test_training_moves_the_encoder_and_losses_differ(smoke: Path, data: Path, tmp_path: Path) -> None:
    arms = ["whitened-cse", "whitened-cse+compat", "group-whitening"]
    assert main([*RUN, "--test-pairs", "20", "--out", str(tmp_path / "run"), "--arms", *arms]) == 0
    weights = {arm: (model(tmp_path / "run", arm) / "model.safetensors").read_bytes() for arm in arms}
    assert weights["whitened-cse"] == (model(smoke, "whitened-cse") / "model.safetensors").read_bytes()
    weights["simcse-2"] = (model(smoke, "simcse-2") / "model.safetensors").read_bytes()
    assert len({*weights.values()}) == len(weights)


def test_what_is_saved_is_an_ordinary_model_of_the_kind_it_was(smoke: Path) -> None:
    """No head, no whitening, no code of ours; and what a text gives does not depend on its batch."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    for arm, kinds in (
        ("whitened-cse", ["Transformer", "Pooling"]),
        ("whitening", ["Transformer", "Pooling", "Dense"]),
    ):
        parts = [part["type"] for part in read_json(model(smoke, arm) / "modules.json")]
        assert [part.rpartition(".")[2] for part in parts] == kinds
        assert all(part.startswith("sentence_transformers.") for part in parts)
    encoder = SentenceTransformer(str(model(smoke, "whitened-cse")), device="cpu")
    assert encoder.max_seq_length == 512  # the encoder's own, not what was read while training
    texts = sentences(8)
    np.testing.assert_allclose(encoder.encode(texts)[0], encoder.encode(texts[0]), atol=1e-5)


def test_the_card_says_what_it_is(smoke: Path) -> None:
    card = (model(smoke, "whitened-cse") / "README.md").read_text(encoding="utf-8")
    for said in (
        "library_name: sentence-transformers",
        "WhitenedCSE, 3 views",
        "`groups` 8",
        "SentenceTransformer(folder)",
    ):
        assert said in card
    assert "## Results" in card
    rival = (model(smoke, "simcse-2") / "README.md").read_text(encoding="utf-8")
    assert "`groups`" not in rival


def test_what_was_left_is_what_the_architecture_says(smoke: Path) -> None:
    kinds = {path.suffix for path in smoke.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".safetensors", ".md", ".lock"}
    assert not [*smoke.rglob("checkpoints")]


# One's own files ------------------------------------------------------------------------------------------------------

SMALL = ["--model", "random", "--groups", "8", "--steps", "3", "--batch-size", "8"]


def own_pairs(file: Path) -> Path:
    lines = [f'"{first}","{second}",{score}' for first, second, score in pairs(60)]
    file.write_text("\n".join(["sentence1,sentence2,score", *dict.fromkeys(lines)]), encoding="utf-8")
    return file


@pytest.mark.slow
def test_own_sentences_and_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("KILTER_DATA", str(tmp_path / "none"))
    own, out = tmp_path / "own.txt", tmp_path / "run"
    own.write_text("\n".join([*sentences(40), sentences(1)[0]]), encoding="utf-8")
    given = ["run", "whitened-cse", "--train", str(own), "--eval", str(own_pairs(tmp_path / "pairs.csv")), *SMALL]
    assert main([*given, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    assert [*summary["arms"]] == ["untrained", "whitened-cse"]
    assert summary["arms"]["whitened-cse"]["metrics"].keys() == {"pairs", "alignment", *SPACE}
    assert summary["data"]["title"] == "your sentences: 40"
    assert "1 rows stand there twice" in summary["data"]["skipped"][0][1]
    assert not summary["verdicts"]
    assert (model(out, "whitened-cse") / "modules.json").exists()
    assert len(read_rows(out / "arms" / "whitened-cse" / "seed-0" / "utterances.jsonl")) <= 60
    own.write_text("\n".join(sentences(41)), encoding="utf-8")
    assert main([*given, "--out", str(out)]) == 1
    assert "the data is another now" in capsys.readouterr().err


@pytest.mark.slow
def test_texts_of_one_meaning_are_views(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    own = tmp_path / "own.csv"
    lines = [f'"{first}","{second}"' for first, second, _ in pairs(40)]
    own.write_text("\n".join(["anchor,positive", *lines]), encoding="utf-8")
    given = ["run", "whitened-cse", "--train", str(own), *SMALL, "--sets", "stsb", "--test-pairs", "50"]
    assert main([*given, "--arms", "whitened-cse-2", "--out", str(tmp_path / "run")]) == 0
    own.write_text("\n".join(["text1,text2,text3,text4", *(f"{line},{line}" for line in lines)]), encoding="utf-8")
    assert main([*given, "--out", str(tmp_path / "other")]) == 1
    assert "has 4 text columns (text1, text2, text3, text4), and the arm takes 3 views" in capsys.readouterr().err


@pytest.mark.slow
def test_without_any_scored_pairs_a_model_is_left_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kilter.data import similarity

    def none(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("STS could not be had")

    monkeypatch.setattr(similarity, "locate", none)
    own, out = tmp_path / "own.txt", tmp_path / "run"
    own.write_text("\n".join(sentences(40)), encoding="utf-8")
    assert main(["run", "whitened-cse", "--train", str(own), *SMALL, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert summary["arms"]["whitened-cse"]["metrics"].keys() == SPACE
    assert any("nothing says whether cosines follow meaning: give --eval" in note for note in summary["notes"])
    assert [Path(found["file"]).stem for found in summary["figures"]] == ["spectrum", "map"]
    assert (model(out, "whitened-cse") / "modules.json").exists()


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps must be at least 1"),
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--batch-size", "500"], "200 sentences to learn from, and a batch has 500"),
        (["--learning-rate", "0"], "learning_rate must be above 0"),
        (["--views", "1"], "views must be at least 2"),
        (["--groups", "5"], "groups"),
        (["--sets", "stsx"], "no set of scored pairs is called 'stsx'"),
        (["--model", "no/such/folder/here"], "not a folder or hub id of an encoder of sentences"),
        (["--train", "none.txt"], "none.txt: no such file"),
        (["--arms", "bowl"], "there is no 'bowl'; there are untrained, whitened-cse"),
    ],
)
def test_options_that_do_not_fit_are_named(data, tmp_path, capsys, options, message) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 1
    assert "WORLD_SIZE=2: whitened-cse trains in one process" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_numbers_of_an_unbroken_one(
    smoke: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    arms = ["--arms", "whitening", "whitened-cse"]
    command = [sys.executable, "-m", "kilter.cli", *RUN, *arms, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(data), *sys.path])}
    for moment in (
        "arms/whitening/seed-0/model",
        "arms/whitened-cse/seed-0/checkpoints/checkpoint-2",
        "arms/whitened-cse/seed-0/model",
    ):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while not [*out.glob(moment)] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert main([*RUN, *arms, "--out", str(out)]) == 0
    for arm in ("whitening", "whitened-cse"):
        assert figures(out, arm) == figures(smoke, arm)
