"""`kilter embeddings`: figures as the functions give them, models side by side, figures to look at, wrong input."""

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.commands.embeddings import Pairs, _labels
from kilter.evaluation import embeddings
from kilter.evaluation.retrieval import bitext_retrieval
from kilter.hosts.sentences import encode
from tests.own_text import WORDS, encoding_model

pytestmark = pytest.mark.host

TEXTS = [f"{a} {b} {c}" for a in WORDS[:4] for b in WORDS[4:8] for c in WORDS[8:10]]
PAIRS = [(f"{a} {b}", f"{b} {a} {a}") for a in WORDS[:6] for b in WORDS[6:12]]


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def models(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: `plain` is an encoder of transformers, `first` and `second` are sentence-transformers'."""
    place = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("plain", "first", "second")):
        encoding_model(place / name, seed=seed)
    for name in ("first", "second"):
        library.SentenceTransformer(str(place / name), device="cpu").save(str(place / name))
    modules = place / "second" / "modules.json"
    last = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    modules.write_text(json.dumps([*json.loads(modules.read_text()), last]))
    return place


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files")
    (place / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    (place / "scored.csv").write_text(
        "sentence1,sentence2,score\n" + "".join(f"{a},{b},{row % 6}\n" for row, (a, b) in enumerate(PAIRS))
    )
    (place / "translations.csv").write_text("de,en\n" + "".join(f"{a},{b}\n" for a, b in PAIRS))
    return place


def measured(capsys: pytest.CaptureFixture, *arguments: object) -> dict[str, Any]:
    assert main(["embeddings", *map(str, arguments), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def vectors(library: Any, model: Path, texts: list[str]) -> Any:
    found = library.SentenceTransformer(str(model), device="cpu")
    if type(found[-1]).__name__ == "Normalize":
        del found[-1]
    return torch.cat([encode(found, [text]) for text in texts])


@pytest.mark.parametrize("name", ["plain", "first", "second"])
def test_figures_are_those_of_the_functions(
    name: str, library: Any, models: Path, files: Path, capsys: pytest.CaptureFixture
) -> None:
    """Of the vectors before the model's own normalising, which a model of transformers has not."""
    found = measured(capsys, models / name, "--texts", files / "texts.txt")
    x = vectors(library, models / name, TEXTS)
    (one,) = found["models"]
    assert (found["number"], found["number_of_pairs"]) == (len(TEXTS), 0)
    assert (one["label"], one["normalises"], one["dimensions"], one["directions"]) == (name, name == "second", 16, 16)
    assert one["dead"] == []
    value = {figure: said["value"] for figure, said in one["figures"].items()}
    assert value == pytest.approx(
        {
            "mean_cosine": embeddings.mean_cosine(x),
            "uniformity": embeddings.uniformity(x),
            "effective_rank": embeddings.effective_rank(x),
            "isotropy": embeddings.isotropy(embeddings.unit(x)),
        },
        rel=1e-4,
    )


def test_scored_pairs(library: Any, models: Path, files: Path, capsys: pytest.CaptureFixture) -> None:
    """The texts are those of the pairs; the best are those of 4 and 5 of 0 to 5."""
    found = measured(capsys, models / "first", "--pairs", files / "scored.csv")
    x, y = (vectors(library, models / "first", [pair[side] for pair in PAIRS]) for side in (0, 1))
    scores = [row % 6 for row in range(len(PAIRS))]
    figures = found["models"][0]["figures"]
    assert found["number"] == len({text for pair in PAIRS for text in pair})
    assert figures["sts"]["value"] == pytest.approx(100 * embeddings.similarity_correlation(x, y, scores), abs=0.2)
    best = [row for row, score in enumerate(scores) if score >= 4]
    assert figures["alignment"]["value"] == pytest.approx(embeddings.alignment(x[best], y[best]), rel=1e-4)
    assert all(figures[name]["low"] < figures[name]["value"] < figures[name]["high"] for name in ("sts", "alignment"))


def test_translations_and_a_second_model(
    library: Any, models: Path, files: Path, capsys: pytest.CaptureFixture
) -> None:
    """Differences are paired, and there is none of the first model from itself."""
    found = measured(capsys, models / "first", models / "second", "--pairs", files / "translations.csv")["models"]
    for name, one in zip(("first", "second"), found, strict=True):
        sides = [vectors(library, models / name, [pair[side] for pair in PAIRS]) for side in (0, 1)]
        expected = bitext_retrieval(*sides)
        assert one["figures"]["forward"]["value"] == pytest.approx(100 * expected.forward)
        assert one["figures"]["backward"]["value"] == pytest.approx(100 * expected.backward)
        assert one["figures"]["alignment"]["value"] == pytest.approx(embeddings.alignment(*sides), rel=1e-4)
    first, second = (one["figures"] for one in found)
    assert all(figure["difference"] is None for figure in first.values())
    for name in ("forward", "backward", "alignment"):
        apart = second[name]["difference"]
        assert apart["mean"] == pytest.approx(second[name]["value"] - first[name]["value"], abs=1e-9)
        assert apart["low"] <= apart["mean"] <= apart["high"]
    assert second["uniformity"]["difference"] is None


def test_the_table_says_what_is_good_and_what_to_do(
    models: Path, files: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    arguments = [models / "first", models / "second", "--texts", files / "texts.txt", "--pairs"]
    assert main(["embeddings", *map(str, [*arguments, files / "translations.csv"])]) == 0
    said = capsys.readouterr().out
    head, good, advice = re.split(r"\nin kilter:\n|\nwhat one could do:\n", said)
    assert head.startswith(f"{len(TEXTS)} texts, {len(PAIRS)} translations\n")
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in head.splitlines() if "  " in line.strip())
    assert rows["normalises"].split() == ["no", "yes"]
    assert rows["effective rank"].count(" of 16") == 2
    assert {"mean cosine", "uniformity", "isotropy", "first → second, %", "second → first, %", "alignment"} <= {*rows}
    assert all(f"  {name}" in good for name in rows if name in ("mean cosine", "uniformity", "alignment"))
    assert "kilter calibrate --model" in advice
    assert max(map(len, (head.partition("\n*")[0] + good).splitlines())) <= 80


def test_advice_is_about_what_is_off(capsys: pytest.CaptureFixture) -> None:
    from kilter.lab.vector_table import Figure, Measured, advise

    def model(label: str, dead: list[int], **figures: float) -> Measured:
        said = {"mean_cosine": 0.0, "effective_rank": 80.0} | figures
        return Measured(f"my/{label}", label, False, 100, 100, dead, {k: Figure(v) for k, v in said.items()})

    good, cone = model("good", [], forward=97.0), model("cone", [], mean_cosine=0.8)
    advise([good, cone, model("flat", [7], effective_rank=9.0)], "t")
    said = capsys.readouterr().out
    assert "good: nothing stands out" in said
    assert "cone: a narrow space; to widen it: kilter run whitened-cse --model my/cone --train t" in said
    assert "flat: a narrow space" in said
    assert "flat: dimensions 7 are dead" in said
    assert said.count("\n") == 6


def test_figures_are_written(models: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [models / "first", models / "second", "--texts", files / "texts.txt", "--pairs"]
    found = measured(capsys, *arguments, files / "scored.csv", "--out", tmp_path / "scored")
    assert json.loads((tmp_path / "scored" / "embeddings.json").read_text(encoding="utf-8")) == found
    out = tmp_path / "translations"
    assert main(["embeddings", *map(str, [*arguments, files / "translations.csv", "--out", out])]) == 0
    assert f"figures: {out / 'spectrum.svg'}, {out / 'similarity.svg'}, {out / 'map.svg'}" in capsys.readouterr().out
    for folder, kind, group in (
        (tmp_path / "scored", "pairs of the best scores", " and more<"),
        (out, "translations of other texts", "their translations<"),
    ):
        drawn = {file.stem: file.read_text(encoding="utf-8") for file in folder.glob("*.svg")}
        assert drawn.keys() == {"spectrum", "similarity", "map"}
        assert all(">first" in svg and ">second" in svg for svg in drawn.values())
        assert kind in drawn["similarity"]
        assert "random pairs" in drawn["similarity"]
        assert group in drawn["map"]


def test_many_texts_are_drawn_from_and_copies_count_once(
    models: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "twice.txt").write_text("".join(f"{text}\n" for text in TEXTS + TEXTS[:5]))
    arguments = [models / "first", "--texts", tmp_path / "twice.txt", "--pairs", files / "scored.csv", "--most", 20]
    runs = []
    for seed in (0, 0, 1):
        assert main(["embeddings", *map(str, [*arguments, "--seed", seed, "--json"])]) == 0
        said = capsys.readouterr()
        runs.append(json.loads(said.out))
    assert "5 of 37 texts stand there before; each counts once" in said.err
    assert "20 of 32 texts, drawn with seed 1; --most 32 takes all" in said.err
    assert "20 of 36 pairs, drawn with seed 1; --most 36 takes all" in said.err
    assert (runs[0]["number"], runs[0]["number_of_pairs"]) == (20, 20)
    assert runs[0] == runs[1] != runs[2]


def test_texts_through_a_pipe(
    models: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    expected = measured(capsys, models / "first", "--texts", files / "texts.txt")["models"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((files / "texts.txt").read_bytes())))
    assert measured(capsys, models / "first", "--texts", "-")["models"] == expected


def test_what_is_wrong_is_said(models: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def said(*arguments: object, code: int = 1) -> str:
        assert main(["embeddings", *map(str, arguments)]) == code
        return capsys.readouterr().err

    texts = ("--texts", files / "texts.txt")
    assert "which model? kilter embeddings MODEL --texts FILE" in said(*texts, code=2)
    assert "which texts? add --texts FILE, --pairs FILE, or both" in said(models / "first", code=2)
    assert "not a folder or hub id of a model of sentence-transformers" in said("minlm", *texts)
    assert "did you mean 'minilm'?" in said("minlm", *texts)
    assert "models: one stands twice" in said(models / "first", models / "." / "first", *texts)
    assert "none.txt: no such file" in said(models / "first", "--texts", tmp_path / "none.txt")
    (one := tmp_path / "one.txt").write_text("rain\nrain\n")
    assert "one.txt: all texts are the same; give two or more that differ" in said(models / "first", "--texts", one)
    (pair := tmp_path / "pair.csv").write_text("de,en\nrain,sun\n")
    assert "pair.csv: has one pair only; give two or more" in said(models / "first", "--pairs", pair)
    assert "--pairs -: they are read twice; put them into a file" in said(models / "first", "--pairs", "-")
    assert "most must be at least 2" in said(models / "first", *texts, "--most", 1)


def test_vectors_that_are_none_are_named(
    models: Path, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(encoder: Any, texts: list[str], **_: Any) -> torch.Tensor:
        return torch.stack([torch.full((3,), 1.0 if text != TEXTS[3] else float("nan")) for text in texts])

    monkeypatch.setattr("kilter.hosts.sentences.encode", broken)
    assert main(["embeddings", str(models / "first"), "--texts", str(files / "texts.txt")]) == 1
    assert f"the vector of {TEXTS[3]!r} is zeros or NaN; leave the text out" in capsys.readouterr().err


def test_the_best_pairs_are_the_upper_fifth_of_the_scale() -> None:
    assert Pairs(["a"] * 6, ["b"] * 6, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).best == [4, 5]
    assert Pairs(["a"] * 3, ["b"] * 3, [-1.0, 0.5, 1.0]).best == [2]
    assert Pairs(["a"] * 2, ["b"] * 2).best == [0, 1]


def test_labels_tell_models_apart() -> None:
    assert _labels(["org/before", "runs/after/"]) == ["before", "after"]
    assert _labels(["a/model", "b/model"]) == ["a/model", "b/model"]


@pytest.mark.slow
def test_minilm_is_in_kilter_and_its_first_layers_are_not(capsys: pytest.CaptureFixture) -> None:
    folder = Path(os.environ.get("KILTER_DATA", "nowhere"), "wiki-simcse")
    if not folder.is_dir():
        pytest.skip("KILTER_DATA has no wiki-simcse")
    try:
        from kilter.data.pretrained import minilm_folder

        minilm_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    found = measured(capsys, "minilm-3", "minilm", "--texts", folder / "wiki_head.txt", "--most", 100)["models"]
    cut, whole = ({name: figure["value"] for name, figure in one["figures"].items()} for one in found)
    assert whole["mean_cosine"] < 0.15 < 0.4 < cut["mean_cosine"]
    assert whole["uniformity"] < -3 < -2.5 < cut["uniformity"]
    assert whole["effective_rank"] > cut["effective_rank"]
    assert [one["normalises"] for one in found] == [False, True]
    assert {127, 223} <= {*found[1]["dead"]}
