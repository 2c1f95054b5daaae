"""The recipe from end to end on tiny random models: STS-B- and SICK-like pairs, a user's own, any kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from tests.sentences import pairs

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "dse", "--preset", "smoke"]
NLI = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")


def write_data(folder: Path) -> None:
    """Folders `stsb` and `sick` as the readers want them; the checksums must be off."""
    for name in ("stsb", "sick"):
        (folder / name).mkdir(parents=True)
    for part, seed in (("train", 0), ("dev", 2), ("test", 1)):
        lines = [f"g\tf\ty\t0\t{score}\t{first}\t{second}" for first, second, score in pairs(80, seed)]
        (folder / "stsb" / f"sts-{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for part, seed in (("train", 3), ("trial", 4), ("test_annotated", 5)):
        lines = ["pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment"]
        for row, (first, second, score) in enumerate(pairs(80, seed)):
            lines.append(f"{row}\t{first}\t{second}\t{score}\t{NLI[min(2, int(score / 2))]}")
        (folder / "sick" / f"SICK_{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with made-up pairs under the names of the assets."""
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
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def figures(run: Path, arm: str, seed: int = 0) -> dict[str, float]:
    """Those that do not depend on the clock."""
    found = read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json")
    timed = ("cost_cpu_seconds", "query_ms", "times_faster", "store_s")
    return {name: value for name, value in found.items() if name not in timed}


SCORED = {"stsb_spearman", "stsb_pearson"}


def test_every_arm_has_its_figures_and_the_report_its_picture(smoke: Path) -> None:
    follows = {"stsb_follows", "sick_e_follows"}
    for arm in ("siamese", "dse"):
        assert figures(smoke, arm).keys() == {*SCORED, *follows, "sick_e_accuracy", "average"}
    assert figures(smoke, "teacher").keys() == {*SCORED, "sick_e_accuracy", "average"}
    assert figures(smoke, "untrained").keys() == {*SCORED, "stsb_follows"}
    summary = read_json(smoke / "summary.json")
    assert summary["baseline"] == "siamese"
    assert [Path(found["file"]).stem for found in summary["figures"]] == ["cost"]
    assert summary["arms"]["teacher"]["metrics"]["times_faster"]["mean"] == 1
    assert summary["arms"]["dse"]["metrics"]["times_faster"]["mean"] > 1
    assert any("extrapolated from 4 pairs" in note for note in summary["notes"])


def test_all_arms_of_a_seed_have_one_teacher_whose_logits_stand_in_the_rows(smoke: Path) -> None:
    from kilter.tasks.sentence_pairs.teachers import load_teacher

    place = smoke / "teachers" / "seed-0"
    assert sorted(one.name for one in place.iterdir() if one.is_dir()) == ["sick-e", "stsb"]
    for name, shape in (("stsb", (48,)), ("sick-e", (48, 3))):
        rows = read_rows(place / name / "train.jsonl")
        teacher = load_teacher(place / name / "model", "cpu")
        both = [(row["sentence1"], row["sentence2"]) for row in rows]
        said = teacher.predict(both, activation_fn=torch.nn.Identity(), convert_to_tensor=True)
        kept = torch.tensor([row["teacher"] for row in rows])
        assert kept.shape == shape
        assert torch.allclose(said, kept, atol=1e-5)


def test_arms_are_trained_and_differ(smoke: Path) -> None:
    weights = {
        (arm, file): (smoke / "arms" / arm / "seed-0" / "stsb" / "model" / file).read_bytes()
        for arm in ("siamese", "dse")
        for file in ("model.safetensors", "head/head.safetensors")
    }
    assert len({*weights.values()}) == len(weights)


def test_what_is_left_is_the_student_with_its_head_and_a_card(smoke: Path) -> None:
    from kilter.tasks.sentence_pairs.students import load_student

    folder = smoke / "arms" / "dse" / "seed-0" / "sick-e" / "model"
    encoder, head = load_student(folder, "cpu")
    u, v = encoder.encode(["A man reads.", "A dog runs."], convert_to_tensor=True)
    assert head(u[None], v[None]).shape == (1, 3)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for said in ("Distilled student, α 0.5", "PairHead.from_pretrained", "`distill_weight` 0.5"):
        assert said in card
    kinds = {path.suffix for path in smoke.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".safetensors", ".md", ".lock", ".txt"}
    assert not [*smoke.rglob("checkpoints")]


# One's own pairs ------------------------------------------------------------------------------------------------------

TINY = ["--student", "random", "--epochs", "1", "--hidden", "8", "--timed-pairs", "2", "--timed-stored", "20"]


def own(file: Path, count: int = 40) -> Path:
    """Pairs of two classes."""
    rows = {(first, second): "same" if score > 2 else "different" for first, second, score in pairs(count)}
    lines = [f'"{first}","{second}",{label}' for (first, second), label in rows.items()]
    file.write_text("\n".join(["sentence1,sentence2,label", *lines]), encoding="utf-8")
    return file


def test_own_pairs_leave_a_student_and_an_index_that_is_searched(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """With a teacher that is given: here a cross-encoder with two outputs, which two classes ask for."""
    from sentence_transformers import CrossEncoder

    given_one, two = str(smoke / "teachers" / "seed-0" / "stsb" / "model"), {"ignore_mismatched_sizes": True}
    teacher = CrossEncoder(given_one, num_labels=2, device="cpu", model_kwargs=two)
    teacher.save_pretrained(str(tmp_path / "teacher"), create_model_card=False)
    out, train = tmp_path / "run", own(tmp_path / "own.csv", 80)
    given = [
        "run",
        "dse",
        "--train",
        str(train),
        "--teacher",
        str(tmp_path / "teacher"),
        *TINY,
        "--arms",
        "dse+portable",
    ]
    assert main([*given, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    assert summary["arms"]["dse+portable"]["metrics"].keys() >= {
        "pairs_accuracy",
        "pairs_f1",
        "pairs_follows",
        "query_ms",
    }
    assert not summary["verdicts"]
    place = out / "arms" / "dse+portable" / "seed-0"
    parts = read_json(place / "model" / "modules.json")
    assert all(part["type"].startswith("sentence_transformers.") for part in parts)
    assert {"model", "index"} <= {one.name for one in place.iterdir()}
    assert (place / "model" / "head" / "head.safetensors").exists()
    assert [one.name for one in (out / "teachers").iterdir()] == ["given"]
    assert "## Results" in (place / "model" / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["search", str(place / "index"), "--text", "A man is reading a book.", "--k", "3"]) == 0
    found = capsys.readouterr().out
    assert sum(pair[1] in found for pair in {(None, second) for _, second, _ in pairs(80)}) == 3
    train.write_text(train.read_text(encoding="utf-8") + '\n"New.","New too.",same', encoding="utf-8")
    assert main([*given, "--out", str(out)]) == 1
    assert "the data is another now" in capsys.readouterr().err


# What goes wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs must be above 0"),
        (["--distill-weight", "1.5"], "distill_weight is a share between 0 and 1"),
        (["--sets", "stsx"], "sets=stsx: name one or more of stsb, sick-r, sick-e, snli"),
        (["--eval", "x.csv"], "--eval needs --train"),
        (["--index", "x.txt"], "--index needs --train"),
        (["--train", "x.csv", "--eval", "x.csv"], "--eval and --train are both x.csv"),
        (["--train", "none.csv"], "none.csv: no such file"),
        (["--teacher", "no/such/folder/here"], "not a folder or hub id of a cross-encoder"),
        (["--student", "no/such/folder/here"], "not a folder or hub id of an encoder of sentences"),
        (["--arms", "bowl"], "there is no 'bowl'; there are siamese, dse"),
    ],
)
def test_options_that_do_not_fit_are_named(data, tmp_path, capsys, options, message) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_teacher_of_another_kind_is_named(smoke: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    scores = str(smoke / "teachers" / "seed-0" / "stsb" / "model")
    given = [*RUN, "--teacher", scores, "--sets", "sick-e", "--arms", "dse", "--out", str(tmp_path / "run")]
    assert main(given) == 1
    assert "has 1 outputs, and the data ask for 3 outputs" in capsys.readouterr().err


def test_several_processes_are_refused(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 1
    assert "WORLD_SIZE=2: dse trains in one process" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_numbers_of_an_unbroken_one(
    smoke: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "kilter.cli", *RUN, "--arms", "dse", "--save-steps", "2", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(data), *sys.path])}
    for moment in (
        "teachers/seed-0/stsb/checkpoints/checkpoint-2",
        "teachers/seed-0/stsb/model",
        "arms/dse/seed-0/stsb/checkpoints/checkpoint-2",
        "arms/dse/seed-0/stsb/checkpoints/checkpoint-3/whole",  # after the last step
        "arms/dse/seed-0/sick-e/model",
    ):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while not [*out.glob(moment)] and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert main([*RUN, "--arms", "dse", "--out", str(out)]) == 0
    assert figures(out, "dse") == figures(smoke, "dse")
