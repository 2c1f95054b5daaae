"""The recipe from end to end on a few restaurants: what a run leaves, kills, one's own model, and bad options."""

import json
import os
from pathlib import Path

import pytest

from kilter.cli import main
from kilter.data.catalogue import Asset
from kilter.data.e2e import load_e2e
from kilter.evaluation.diversity import distinct_n, oracle_at_k
from kilter.lab.files import read_json, read_rows
from kilter.lab.progress import Bar
from kilter.recipes.diverse_beam_search import PUBLISHED, DiverseBeamSearchRecipe
from tests.made_restaurants import AREAS, write_restaurants

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "diverse-beam-search", "--preset", "smoke"]


@pytest.fixture(scope="module", autouse=True)
def restaurants(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A data set of the shape of E2E, and no other."""
    folder = tmp_path_factory.mktemp("data") / "e2e"
    write_restaurants(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KILTER_DATA", str(folder.parent))
        patch.setattr(Asset, "checksums", lambda self: {})
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def figures(run: Path, arm: str) -> dict[str, float]:
    """Every number of a piece of work that must repeat bit by bit."""
    found = read_json(run / "arms" / arm / "seed-0" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


def test_a_run_leaves_what_the_architecture_says(smoke: Path) -> None:
    for arm in ("beam", "dbs", "nucleus-0.9"):
        found = figures(smoke, arm)
        assert {"oracle_1", "distinct_1", "distinct_4", "log_prob", "repeated"} <= found.keys()
        assert "oracle_5" not in found  # there are four outputs
        assert len(read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl")) == 6
    summary = read_json(smoke / "summary.json")
    assert summary["baseline"] == "beam"
    assert summary["interval"] == "95 % bootstrap over inputs of one seed"
    assert summary["differences"].keys() == {"dbs", "nucleus-0.9"}
    assert [found["file"] for found in summary["figures"]] == [
        "figures/tradeoff.svg",
        "figures/strengths.svg",
        "figures/outputs-0.svg",
    ]
    page = (smoke / "report.html").read_text()
    assert "Novikova" in page
    assert "speech" not in page.lower()
    assert "recording" not in page


def test_rows_hold_what_the_figures_are_made_of(smoke: Path) -> None:
    """The figures of a run, recomputed from the outputs that it wrote."""
    for arm in ("beam", "dbs", "nucleus-0.9"):
        rows = read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl")
        found = figures(smoke, arm)
        texts = [[output["text"] for output in row["outputs"]] for row in rows]
        assert all(len(outputs) == 4 for outputs in texts)
        assert found["distinct_2"] == pytest.approx(100 * distinct_n(texts, 2))
        assert found["oracle_1"] == pytest.approx(oracle_at_k([row["bleu"] for row in rows], [1])[1], abs=1e-3)
        best = [row["outputs"][0]["log_prob"] for row in rows]
        assert found["log_prob"] == pytest.approx(sum(best) / len(best))
        assert all("Zizzi" in " ".join(row["references"]) for row in rows)
    assert not any("NAME" in text for outputs in texts for text in outputs)


def test_the_strength_is_that_of_the_best_oracle_on_the_development_inputs(smoke: Path) -> None:
    choice = read_json(smoke / "arms" / "dbs" / "seed-0" / "choice.json")
    tried = {point["strength"]: point["oracle_1"] for point in choice["grid"]}
    assert list(tried) == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert tried[choice["strength"]] == max(tried.values())
    assert figures(smoke, "dbs")["strength"] == choice["strength"]
    assert figures(smoke, "dbs")["dev_oracle_1_at_0.4"] == tried[0.4]
    assert any(f"λ {choice['strength']:g}" in note for note in read_json(smoke / "summary.json")["notes"])
    assert read_json(smoke / "arms" / "nucleus-0.9" / "seed-0" / "choice.json") == {"strength": 0.9, "grid": []}


def test_nothing_that_kilter_writes_is_a_pickle(smoke: Path) -> None:
    kinds = {path.suffix for path in smoke.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".safetensors", ".md", ".lock"}
    assert not list(smoke.rglob("checkpoint*"))


def test_the_model_of_a_seed_is_one_of_transformers(smoke: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = smoke / "warm-up" / "seed-0" / "model"
    AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("NAME is in the hill.").input_ids, skip_special_tokens=True) == (
        "NAME is in the hill."
    )
    assert "vijayakumar" in (folder / "README.md").read_text().lower()


def test_test_inputs_that_the_model_was_trained_on_are_counted(smoke: Path) -> None:
    """Here every test input is, but for its name, one of the development set, of which a part is held out."""
    held_out = {item.source for item in load_e2e(Path(os.environ["KILTER_DATA"], "e2e")).dev}
    rows = read_rows(smoke / "arms" / "beam" / "seed-0" / "utterances.jsonl")
    known = sum(row["input"] not in held_out for row in rows)
    assert known
    notes = read_json(smoke / "summary.json")["notes"]
    assert any(f"{known} of the 6 test inputs read to the model as an input it was trained" in note for note in notes)


def test_another_run_gives_the_same_numbers_also_in_parts(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, advance = [], Bar.advance
    monkeypatch.setattr(Bar, "advance", lambda bar, *moved: told.append(moved) or advance(bar, *moved))
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--only", "dbs/seed-0"]) == 0
    inputs = [done for done, total, *_ in told if total == 5 * 3 + 6]  # of the grid, then of the test
    assert inputs == [3, 6, 9, 12, 15, 21]
    assert figures(out, "dbs") == figures(smoke, "dbs")
    assert not (out / "arms" / "beam").exists()
    choice = out / "arms" / "dbs" / "seed-0" / "choice.json"
    half = read_json(choice)
    choice.write_text(json.dumps({"strength": None, "grid": half["grid"][:2]}))  # killed while it chose
    choice.with_name("metrics.json").unlink()
    assert main([*RUN, "--out", str(out), "--inputs-at-once", "1"]) == 0
    assert read_json(choice)["strength"] == half["strength"]
    for arm in ("beam", "dbs", "nucleus-0.9"):
        assert figures(out, arm) == pytest.approx(figures(smoke, arm), abs=1e-4)


@pytest.mark.slow
def test_every_decoder_runs(smoke: Path, tmp_path: Path) -> None:
    arms = ["beam", "sibling-1", "mmi-0.3", "dbs-0.5", "dbs-cumulative-1", "dbs-overlap-0.5", "dbs-ngram-0.5"]
    arms += ["dbs-embedding-0.5", "dbs-2", "nucleus-0.8"]
    out = tmp_path / "run"
    learnt = ["--steps", "150", "--learning-rate", "5e-3", "--max-new-tokens", "24"]
    assert main([*RUN, *learnt, "--out", str(out), "--arms", *arms]) == 0
    summary = read_json(out / "summary.json")
    assert set(summary["arms"]) == set(arms)
    assert {summary["arms"][arm]["series"] for arm in ("dbs-0.5", "dbs-2")} == {"dbs"}
    assert [summary["arms"][arm]["role"] for arm in ("beam", "dbs-2", "mmi-0.3")] == [
        "baseline",
        "method",
        "context",
    ]
    found = [(out / "arms" / arm / "seed-0" / "utterances.jsonl").read_text() for arm in arms]
    assert len(set(found)) == len(arms), "two decoders wrote the same"


# One's own model and prompts --------------------------------------------------------------------------------------


def own(smoke: Path, prompts: Path, out: Path) -> list[str]:
    model = smoke / "warm-up" / "seed-0" / "model"
    few = ["--outputs", "6", "--max-new-tokens", "8"]
    return ["run", "diverse-beam-search", "--model", str(model), "--data", str(prompts), *few, "--out", str(out)]


def test_own_model_and_prompts_without_references(smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = tmp_path / "mine.txt"
    prompts.write_text("name[NAME], area[hill]\nname[NAME], area[north]\n")
    out = tmp_path / "own"
    assert main(own(smoke, prompts, out)) == 0
    summary = read_json(out / "summary.json")
    assert list(summary["arms"]) == ["beam", "dbs-0.2", "dbs-0.5", "dbs-0.8", "nucleus"]
    assert not any(name.startswith("oracle") for name in summary["metrics"])
    assert any("no references" in note for note in summary["notes"])
    assert not (out / "warm-up").exists()
    assert "models:" not in capsys.readouterr().out
    assert (out / "figures" / "tradeoff.svg").exists()


def test_own_prompts_with_references(smoke: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"name[NAME], area[{area}]", "references": [f"NAME is in the {area}."]} for area in AREAS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "own"
    assert main([*own(smoke, prompts, out), "--arms", "beam", "dbs", "--test-inputs", "4"]) == 0
    assert {"oracle_1", "oracle_5"} <= read_json(out / "summary.json")["metrics"].keys()
    assert len(read_rows(out / "arms" / "dbs" / "seed-0" / "utterances.jsonl")) == 4
    assert read_json(out / "arms" / "dbs" / "seed-0" / "choice.json")["strength"] == 0.5
    prompts.write_text(prompts.read_text().replace("hill", "mountain"))
    assert main([*own(smoke, prompts, out), "--arms", "beam", "dbs", "--test-inputs", "4"]) == 1  # other data


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--arms", "bean"], "there is no 'bean'"),
        (["--model", "x"], "--model and --data go together"),
        (["--chat"], "--chat needs --model"),
        (["--model", "x", "--data", "-"], "--data -: a run reads its prompts more than once"),
        (["--data", "x.txt"], "--model and --data go together"),
        (["--groups", "3"], "outputs=4 cannot be divided into groups=3"),
        (["--outputs", "1"], "outputs must be at least 2"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--dropout", "1"], "dropout is a share"),
        (["--withheld", "0", "--arms", "mmi"], "leaves MMI without p(text)"),
        (["--learning-rate", "0"], "learning_rate must be above 0"),
        (["--model", "no/such/model", "--data", "none.txt"], "no/such/model: not a folder"),
        (["--model", "smollm2", "--data", "none.txt"], "none.txt: no such file"),
    ],
)
def test_bad_options(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_model_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.txt").write_text("hello\n")
    (tmp_path / "empty").mkdir()
    command = ["run", "diverse-beam-search", "--model", str(tmp_path / "empty"), "--data", str(tmp_path / "mine.txt")]
    assert main([*command, "--out", str(tmp_path / "run")]) == 1
    assert "empty" in capsys.readouterr().err


# What the recipe says of itself -----------------------------------------------------------------------------------


def test_the_evidence_presets_are_the_papers_setting() -> None:
    presets = DiverseBeamSearchRecipe.presets
    for name in ("full", "multi30k"):
        recipe = DiverseBeamSearchRecipe(**presets[name])
        recipe.prepare()
        assert recipe.outputs == recipe.groups == 20
        assert recipe.length_penalty == 0
        assert recipe.seeds == 3
        assert {"beam", "sibling", "mmi", "dbs", "nucleus"} < set(recipe.arms)


def test_published_ratios_are_those_of_the_tables() -> None:
    ratios = {data: round(found["dbs"][1] / found["beam"][1], 2) for data, found in PUBLISHED.items()}
    assert ratios == {"COCO": 2.37, "PASCAL-50S": 2.93, "VQG": 2.34, "newstest2013": 1.72}
