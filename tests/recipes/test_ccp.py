"""The recipe from end to end on a tiny random encoder: made-up packages, and a user's own documents."""

from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from tests.made_descriptions import made_debian, made_descriptions, sentence

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "ccp", "--preset", "smoke"]


@pytest.fixture(scope="module", autouse=True)
def debian():
    """Made-up descriptions of packages."""
    with pytest.MonkeyPatch.context() as patch:
        made_debian(patch)
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def test_every_arm_has_its_figures(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    each = {f"{test}{one}" for test in ("debian", "tatoeba") for one in ("", "_de", "_fr")}
    for arm in ("untrained", "standardise", "ccp", "ccp+rotate"):
        found = read_json(smoke / "arms" / arm / "seed-0" / "metrics.json")
        told = {name for name in found if not name.startswith("cost_")}
        assert told == each | {"told_apart", "uniformity", "effective_rank"}
        rows = read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl")
        part, whole = (sum(row["totals"].get("debian", (0, 0))[place] for row in rows) for place in (0, 1))
        assert found["debian"] == pytest.approx(100 * part / whole)
    assert summary["arms"]["untrained"]["role"] == "baseline"
    assert [Path(found["file"]).stem for found in summary["figures"]] == ["spectrum", "similarity", "map"]
    tried = {(found["metric"], found["baseline"], found["arm"]) for found in summary["verdicts"]}
    assert ("tatoeba", "untrained", "ccp") in tried
    assert ("debian", "standardise", "ccp+rotate") not in tried
    assert any("learnt from in no language" in note for note in summary["notes"])


def test_the_encoder_is_an_ordinary_one(smoke: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = smoke / "arms" / "ccp" / "seed-0" / "model"
    assert not (smoke / "arms" / "ccp+rotate" / "seed-0" / "model").exists()
    assert SentenceTransformer(str(folder), device="cpu").encode(["a map"]).shape == (1, 32)
    files = {file.name for file in folder.rglob("*")}
    assert not any(name.endswith((".py", ".bin", ".pt")) for name in files)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: sentence-transformers" in card
    assert "kilter-ccp" in card
    assert "Translations found, Tatoeba" in card


def test_vectors_that_several_arms_need_are_made_once(smoke: Path) -> None:
    assert {file.name for file in (smoke / "vectors").glob("*.safetensors")} == {
        "untrained-0.safetensors",
        "ccp-0.safetensors",
    }


@pytest.mark.slow
def test_a_run_goes_on_with_the_encoder_that_is_there(smoke: Path, tmp_path: Path) -> None:
    model = smoke / "arms" / "ccp" / "seed-0" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns, model.read_bytes()
    assert main([*RUN, "--out", str(smoke), "--arms", "ccp+shift"]) == 0
    assert (model.stat().st_mtime_ns, model.read_bytes()) == before
    again = tmp_path / "again"
    assert main([*RUN, "--out", str(again), "--arms", "ccp"]) == 0
    assert (again / "arms" / "ccp" / "seed-0" / "model" / "model.safetensors").read_bytes() == before[1]


def own(folder: Path) -> dict[str, Path]:
    """Documents in two formats, and pairs in one."""
    found = made_descriptions(("en", "de"), documents=40, seed=3)
    (folder / "english").mkdir()
    for number, document in enumerate(found["en"]):
        (folder / "english" / f"{number}.txt").write_text("\n".join(document.sentences), encoding="utf-8")
    blocks = "\n\n".join("\n".join(document.sentences) for document in found["de"])
    (folder / "german.txt").write_text(blocks, encoding="utf-8")
    words = [["map", "road", one] for one in ("river", "bridge", "tower", "garden", "window", "kettle")]
    rows = [f'"{sentence("de", some)}","{sentence("en", some)}"' for some in words]
    (folder / "pairs.csv").write_text("\n".join(["source,target", *rows]) + "\n", encoding="utf-8")
    return {"en": folder / "english", "de": folder / "german.txt", "pairs": folder / "pairs.csv"}


SMALL = ["--model", "random", "--steps", "3", "--batch-size", "8", "--statistics", "30", "--test-pairs", "20"]


@pytest.mark.slow
def test_own_documents_and_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from kilter.data import debian_descriptions

    monkeypatch.setattr(debian_descriptions, "descriptions", lambda *_: pytest.fail("one's own needs no packages"))
    files, out = own(tmp_path), tmp_path / "run"
    train = ["--train", f"en={files['en']}", f"de={files['de']}"]
    command = ["run", "ccp", *train, "--eval", f"de={files['pairs']}", *SMALL, "--out", str(out)]
    assert main(command) == 0
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    assert summary["data"]["title"] == "your documents: 80 in en, de"
    assert {"pairs", "pairs_de"} <= summary["arms"]["ccp"]["metrics"].keys()
    assert not {"debian", "tatoeba"} & summary["arms"]["ccp"]["metrics"].keys()
    assert not summary["verdicts"]
    assert (out / "arms" / "ccp" / "seed-0" / "model" / "modules.json").exists()
    files["pairs"].write_text("source,target\nein,one\nzwei,two\n", encoding="utf-8")
    assert main(command) == 1
    assert "the data is another now" in capsys.readouterr().err


@pytest.mark.slow
def test_own_documents_without_pairs_are_judged_on_tatoeba(tmp_path: Path) -> None:
    from kilter.recipes.ccp import ContextPredictionRecipe

    files = own(tmp_path)
    train = (f"en={files['en']}", f"de={files['de']}")
    recipe = ContextPredictionRecipe(**ContextPredictionRecipe.presets["own"], train_data=train)
    recipe.model = "random"
    recipe.prepare()
    assert "Tatoeba" in recipe.build_data().note
    assert recipe.languages == ("de",)
    assert recipe._corpus.tests["tatoeba"].keys() == {"de"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval", "de=x.csv"], "--eval needs --train"),
        (["--train", "docs.txt"], "--train docs.txt: say of which language it is"),
        (["--train", "de=docs.txt"], "--train has no en=…"),
        (["--train", "en=a", "en=b"], "--train has en twice, a and b"),
        (["--train", "en=a", "de=b", "--eval", "fr=c"], "--eval fr=…: --train needs documents in fr"),
        (["--train", "en=no/such", "de=no/such"], "no/such"),
        (["--languages", "de", "en"], "not pivot=en"),
        (["--languages", "de", "de"], "each once"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--smoothing", "2"], "smoothing is a share"),
        (["--bank-size", "-1"], "bank_size must not be negative"),
        (["--model", "no/such/model/here"], "no/such/model/here"),
        (["--arms", "bowl"], "there is no 'bowl'; there are untrained, ccp"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, capsys: Any, options: list[str], message: str) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 1
    assert "WORLD_SIZE=2: ccp trains in one process" in capsys.readouterr().err


def test_models_and_tests_are_credited() -> None:
    from kilter.recipes.ccp import ContextPredictionRecipe

    for model, said in (("random", "Tatoeba"), ("gemma-6", "Gemma Terms of Use")):
        recipe = ContextPredictionRecipe(**{**ContextPredictionRecipe.presets["smoke"], "model": model})
        recipe.prepare()
        assert said in recipe.build_data().note
