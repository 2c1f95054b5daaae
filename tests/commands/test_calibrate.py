"""`kilter calibrate`: what is written and printed, the same figures as the functions, and what cannot be."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.commands import calibrate
from kilter.embeddings import LanguageCalibration
from kilter.embeddings.language_maps import STEPS

pytestmark = pytest.mark.host

library = pytest.importorskip("sentence_transformers")

from kilter.evaluation.retrieval import bitext_retrieval  # noqa: E402 (after what skips)
from kilter.hosts.sentence_modules import without_normalize  # noqa: E402
from tests.decoding.encoders import WORDS  # noqa: E402
from tests.embeddings.tiny_encoder import tiny_encoder  # noqa: E402

HALF = len(WORDS) // 2


def sentences(language: str, count: int, seed: int = 0) -> list[str]:
    """A language has half of the words; a text and its translation have them at the same places."""
    rng = random.Random(seed)
    drawn = [[rng.randrange(HALF) for _ in range(rng.randint(4, 8))] for _ in range(count)]
    return [" ".join(WORDS[place + HALF * (language == "de")] for place in row) for row in drawn]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, texts of two languages, and pairs."""
    place = tmp_path_factory.mktemp("calibrate")
    tiny_encoder(place)
    for seed, name in enumerate(("en", "de")):
        (place / f"{name}.txt").write_text("\n".join(sentences(name, 60, seed)) + "\n", encoding="utf-8")
    pairs = zip(sentences("de", 30, 7), sentences("en", 30, 7), strict=True)
    lines = [json.dumps({"source": german, "target": english}) for german, english in pairs]
    (place / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def asked(files: Path, out: Path, *more: str) -> list[str]:
    texts = ["--texts", f"en={files / 'en.txt'}", f"de={files / 'de.txt'}"]
    return ["calibrate", "--model", str(files / "encoder"), *texts, "--out", str(out), "--device", "cpu", *more]


def test_what_is_written_and_printed(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "deep" / "out"
    assert main(asked(files, out, "--pairs", f"de={files / 'pairs.jsonl'}", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]
    assert sorted(path.name for path in out.iterdir()) == ["calibration.json", "calibration.safetensors", "de", "en"]
    calibration = LanguageCalibration.from_pretrained(out)
    assert (calibration.languages, calibration.steps, calibration.pivot) == (("en", "de"), STEPS, "en")
    assert told["languages"]["de"] == {"texts": 60, "folder": str(out / "de")}

    model = library.SentenceTransformer(str(files / "encoder"), device="cpu")
    vectors = without_normalize(model)
    texts = sentences("de", 5, 99)
    baked = library.SentenceTransformer(str(out / "de"), device="cpu")
    assert [type(one).__name__ for one in baked] == ["Transformer", "Pooling", "Dense", "Normalize"]
    expected = torch.from_numpy(calibration.transform(vectors.encode(texts), "de"))
    found = torch.from_numpy(baked.encode(texts))
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1), atol=1e-5, rtol=1e-4)
    assert "calibrated for `de`" in (out / "de" / "README.md").read_text(encoding="utf-8")

    rows = {(tuple(row["steps"]), row["statistics"], row["fitted_on"]): row for row in told["retrieval"]}
    assert len(rows) == 1 + 3 + 3 + 2  # as it is; by the texts, by the pairs themselves, the control without rotation
    fitted = {name: vectors.encode(sentences(name, 60, seed)) for seed, name in enumerate(("en", "de"))}
    pairs = {name: vectors.encode(sentences(name, 30, 7)) for name in ("en", "de")}
    for (steps, statistics, fitted_on), row in rows.items():
        one = LanguageCalibration(statistics=statistics)
        one.fit(fitted if fitted_on == "texts" else pairs, steps=steps)
        hits = bitext_retrieval(*(one.transform(pairs[name], name) for name in ("de", "en")))
        assert (row["language"], row["pairs"]) == ("de", 30)
        assert (row["forward"], row["backward"]) == pytest.approx((100 * hits.forward, 100 * hits.backward), abs=4)


def test_the_table_has_a_row_for_each_step(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "out").mkdir()  # an empty folder will do
    assert (
        main(asked(files, tmp_path / "out", "--pairs", f"de={files / 'pairs.jsonl'}", "--steps", "shift", "rotate"))
        == 0
    )
    said = capsys.readouterr().out
    assert "30 pairs: accuracy in % of de → en / en → de" in said
    rows = [line.split("  ")[0] for line in said.splitlines()]
    assert [row for row in rows if row in ("as it is", "shift", "+ scale", "+ rotate")] == [
        "as it is",
        "shift",
        "+ rotate",
    ]
    assert LanguageCalibration.from_pretrained(tmp_path / "out").steps == ("shift", "rotate")


def test_without_pairs_it_says_how_to_give_them(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(asked(files, tmp_path / "out", "--joint", "--pivot", "de", "--steps", "shift")) == 0
    assert "no retrieval was measured: give translations as --pairs en=FILE" in capsys.readouterr().out
    calibration = LanguageCalibration.from_pretrained(tmp_path / "out")
    assert (calibration.statistics, calibration.pivot) == ("joint", "de")


def test_what_fails_leaves_nothing(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(calibrate, "write_whole", full)
    assert main(asked(files, tmp_path / "out", "--steps", "shift")) == 1
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert main(asked(files, tmp_path / "out", "--steps", "shift")) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--texts", "en=en.txt"], 2, "there is one language"),
        (["--texts", "en=en.txt", "de.txt"], 2, "--texts de.txt: give each as LANGUAGE=FILE"),
        (["--texts", "en=en.txt", "de="], 2, "give each as LANGUAGE=FILE"),
        (["--texts", "en=en.txt", "../de=de.txt"], 2, "a language names a folder"),
        (["--texts", "en=en.txt", "En=de.txt", "de=de.txt"], 2, "en and En are one language"),
        (["--pivot", "fr"], 2, "--pivot fr: has no --texts; there are: en, de"),
        (["--pairs", "fr=pairs.jsonl"], 2, "--pairs fr=…: must be of a language with --texts and not the pivot: de"),
        (["--pairs", "en=pairs.jsonl"], 2, "not the pivot: de"),
        (["--texts", "en=en.txt", "de=none.txt"], 1, "none.txt: no such file"),
        (["--texts", "en=en.txt", "de=empty.txt"], 1, "empty.txt: holds no sentences"),
        (["--texts", "en=en.txt", "de=one.txt"], 1, "one.txt: has one text"),
        (["--pairs", "de=en.txt"], 1, "en.txt"),
        (["--pairs", "de=pair.jsonl"], 1, "pair.jsonl: has one pair"),
        (["--model", "no-such-model"], 1, "no-such-model: not a folder or hub id"),
        (["--batch-size", "0"], 1, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_is_named_before_any_work(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    more: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(files)
    Path("empty.txt").write_text("", encoding="utf-8")
    Path("one.txt").write_text("rain\n", encoding="utf-8")
    Path("pair.jsonl").write_text('{"source": "rain", "target": "fell"}\n', encoding="utf-8")
    monkeypatch.setattr(calibrate, "_load", lambda asked: pytest.fail("the model was loaded"))
    assert main(asked(files, tmp_path / "out", *more)) == code
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(asked(files, tmp_path)) == 1
    assert f"{tmp_path}: is not empty; choose another --out, or remove it" in capsys.readouterr().err
    assert main(asked(files, tmp_path / "mine.txt")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_help_needs_no_torch_and_steps_are_those_of_the_class() -> None:
    assert calibrate.STEPS == STEPS
    code = "import sys, kilter.commands.calibrate; assert 'torch' not in sys.modules"
    import subprocess

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
