"""The recipe from end to end on tiny random models: novels, a user's own documents, and any kill."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from tests.prose import prose, write_books

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "rankgen", "--preset", "smoke"]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory):
    """A data folder with three made-up books under the names of the asset."""
    folder = tmp_path_factory.mktemp("data")
    books = write_books(folder / "books")
    (folder / "sitecustomize.py").write_text(
        "from kilter.data.catalogue import Asset\nAsset.checksums = lambda self: {}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        from kilter.data.catalogue import Asset

        patch.setattr(Asset, "checksums", lambda self: {})
        patch.setenv("KILTER_DATA", str(folder))
        yield books


@pytest.fixture(scope="module")
def smoke(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out)]) == 0
    return out


def figures(run: Path, arm: str, seed: int = 0) -> dict[str, float]:
    found = read_json(run / "arms" / arm / f"seed-{seed}" / "metrics.json")
    return {name: value for name, value in found.items() if not name.startswith("cost_")}


def test_every_arm_has_its_figures(smoke: Path) -> None:
    texts = {"preferred", "near_human", "rep", "overlap"}
    assert figures(smoke, "untrained").keys() == {"inbook", "generative", *texts}
    assert figures(smoke, "both").keys() == {"inbook", "generative", *texts}
    assert figures(smoke, "both+blocks").keys() == texts
    assert figures(smoke, "nucleus").keys() == texts
    assert figures(smoke, "nucleus")["preferred"] == 50
    summary = read_json(smoke / "summary.json")
    assert summary["arms"]["untrained"]["role"] == "baseline"
    assert {Path(found["file"]).stem for found in summary["figures"]} == {"identification", "decoding"}
    assert any("another of the three novels" in note for note in summary["notes"])


def test_arms_have_the_same_rows_so_that_they_can_be_paired(smoke: Path) -> None:
    rows = {arm: read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl") for arm in ("untrained", "nucleus")}
    assert len({len(found) for found in rows.values()}) == 1
    for ours, theirs in zip(*rows.values(), strict=True):
        assert ours.get("prefix") == theirs.get("prefix")


def test_the_held_out_book_is_not_learnt_from(smoke: Path) -> None:
    rows = [row for row in read_rows(smoke / "arms" / "both" / "seed-0" / "utterances.jsonl") if "prefix" in row]
    assert {row["input"].partition("/")[0] for row in rows} == {"frankenstein"}
    from kilter.recipes.rankgen import RankGenRecipe

    recipe = RankGenRecipe(**RankGenRecipe.presets["smoke"])
    recipe.build_data()
    for seed in range(6):
        held, seen = set(recipe._passages.held(seed)), set(recipe._passages.seen(seed))
        assert len(held) == 1
        assert held | seen == set(recipe._passages.documents)
        learnt = recipe._passages.spread(recipe._passages.seen(seed), 0, recipe.pairs)
        judge = recipe._passages.spread(recipe._passages.seen(seed), 1, recipe.judge_pairs)
        assert {pair.document for pair in learnt} == seen
        assert not {pair.id for pair in learnt} & {pair.id for pair in judge}
    assert {recipe._passages.held(seed)[0] for seed in range(3)} == set(recipe._passages.documents)


def test_a_negative_passage_is_another_of_the_same_book(smoke: Path) -> None:
    rows = [row for row in read_rows(smoke / "arms" / "both" / "seed-0" / "utterances.jsonl") if "inbook" in row]
    assert len(rows) == 6
    assert all(row["inbook"] != row["true"] for row in rows)
    assert all(row["generative"] not in ("", row["true"]) for row in rows)


def test_the_ranker_loads_where_it_is_wanted(smoke: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from kilter.decoding import RankGenScorer

    folder = smoke / "arms" / "both" / "seed-0" / "model"
    scorer, encoder = RankGenScorer.from_pretrained(folder), SentenceTransformer(str(folder), device="cpu")
    prefix, text = "Ada saw the storm.", "Brand forgot a letter."
    vectors = [encoder.encode(prefix, prompt_name="prefix"), encoder.encode(text, prompt_name="continuation")]
    assert scorer([prefix], [text]).item() == pytest.approx(float(vectors[0] @ vectors[1]), rel=1e-4)
    card = (folder / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert "rankgen" in card


def test_what_was_left_is_what_the_architecture_says(smoke: Path) -> None:
    kinds = {path.suffix for path in smoke.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".yaml", ".html", ".svg", ".safetensors", ".md", ".lock"}
    assert not list(smoke.rglob("checkpoints"))
    assert not list(smoke.rglob("start"))


def test_training_is_training(smoke: Path, shelf: Path, tmp_path: Path) -> None:
    """Losses differ in what they learn, and a ranker that learns longer is another."""
    out = tmp_path / "run"
    assert main([*RUN, "--out", str(out), "--arms", "inbook", "generative", "both", "--prompts", "0"]) == 0
    weights = {
        arm: (out / "arms" / arm / "seed-0" / "model" / "model.safetensors").read_bytes()
        for arm in ("inbook", "generative", "both")
    }
    assert len(set(weights.values())) == 3
    same = (smoke / "arms" / "both" / "seed-0" / "model" / "model.safetensors").read_bytes()
    assert weights["both"] == same


def test_own_documents(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for seed in (7, 8):
        (own / f"tale {seed}.txt").write_text(prose(400, seed), encoding="utf-8")
    out = tmp_path / "run"
    small = ["--model", "random", "--generator", "random", "--steps", "4", "--pairs", "12", "--batch-size", "4"]
    small += ["--test-pairs", "6", "--prefix-words", "24", "--longest", "16", "--no-judgements"]
    assert main(["run", "rankgen", "--train", str(own), *small, "--out", str(out)]) == 0
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    assert summary["data"]["title"].startswith("your documents: 2 texts")
    assert {"inbook", "generative"} == summary["arms"]["both"]["metrics"].keys()
    rows = read_rows(out / "arms" / "both" / "seed-0" / "utterances.jsonl")
    negatives = {row["id"] for file in (out / "negatives").glob("*.jsonl") for row in read_rows(file)}
    assert len(rows) == 6
    assert len(negatives) == 12 + 6
    assert (out / "arms" / "both" / "seed-0" / "model" / "modules.json").exists()
    (own / "tale 7.txt").write_text(prose(400, 9), encoding="utf-8")
    assert main(["run", "rankgen", "--train", str(own), *small, "--out", str(out)]) == 1
    assert "the data is another now" in capsys.readouterr().err


def test_own_documents_to_judge_on(shelf: Path, tmp_path: Path) -> None:
    from kilter.recipes.rankgen import RankGenRecipe

    other = tmp_path / "other"
    other.mkdir()
    (other / "frankenstein.txt").write_text(prose(300, 5), encoding="utf-8")
    recipe = RankGenRecipe(**RankGenRecipe.presets["own"], train_data=str(shelf), eval_data=str(other))
    recipe.build_data()
    assert len(recipe._passages.seen(0)) == 3
    assert list(recipe._passages.held(0)) == ["frankenstein (held out)"]


@pytest.mark.parametrize("count", [1, 42, 47, 300])
def test_many_short_documents_all_have_a_negative(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares that end in one passage, of no other of its document, leave it out; hundreds of texts give two each."""
    from kilter.data import assets
    from kilter.recipes.rankgen import RankGenRecipe

    for number in range(count):
        (tmp_path / f"note {number}.txt").write_text(prose(150, number), encoding="utf-8")
    (tmp_path / "word.txt").write_text("It is so.", encoding="utf-8")
    monkeypatch.setattr(assets, "locate", lambda *_, **__: pytest.fail("one's own documents need no asset"))
    recipe = RankGenRecipe(**RankGenRecipe.presets["own"], train_data=str(tmp_path), prefix_words=24, longest=16)
    provenance = recipe.build_data()
    assert [name for name, _ in provenance.skipped] == ["word.txt"]
    asked = {pair.id for pairs in recipe._wanted(0).values() for pair in pairs}
    for documents, total in ((recipe._passages.seen(0), recipe.pairs), (recipe._passages.held(0), recipe.test_pairs)):
        there = sum(len(recipe._passages.documents[document]) for document in documents)
        found = recipe._passages.spread(documents, 0, total)
        assert min(there, total) - 1 <= len(found) <= total
        assert len({pair.id for pair in found}) == len(found)
        assert all(many > 1 for many in Counter(pair.document for pair in found).values())
        assert {pair.id for pair in found} <= asked
    assert len(asked) <= recipe.pairs + recipe.test_pairs


def test_own_documents_are_held_out_with_a_gap(tmp_path: Path) -> None:
    from kilter.recipes.rankgen import RankGenRecipe

    text = " ".join(f"This is the sentence number {n}." for n in range(900))
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    (tmp_path / "short.txt").write_text(" ".join(text.split()[:150]), encoding="utf-8")
    recipe = RankGenRecipe(**RankGenRecipe.presets["own"], train_data=str(tmp_path))
    provenance = recipe.build_data()
    assert recipe._passages.documents.keys() == {"long", "long (held out)"}
    assert [name for name, _ in provenance.skipped] == ["short.txt"]
    assert not any(
        learnt.continuation in held.prefix or held.prefix in learnt.continuation
        for learnt in recipe._passages.documents["long"]
        for held in recipe._passages.documents["long (held out)"]
    )
    (tmp_path / "long.txt").unlink()
    with pytest.raises(ValueError, match=r"short\.txt: only \d passages, too few to hold some out; add longer texts"):
        recipe.build_data()


def test_models_and_judgements_are_credited(shelf: Path) -> None:
    from kilter.recipes.rankgen import RankGenRecipe

    smoke = RankGenRecipe.presets["smoke"]
    assert RankGenRecipe(**smoke).build_data().note == ""
    note = RankGenRecipe(**smoke | {"model": "minilm", "generator": "smollm2"}).build_data().note
    for said in ("SmolLM2", "Hugging Face TB", "all-MiniLM-L6-v2", "sentence-transformers project", "Apache-2.0"):
        assert said in note
    assert "Krishna" not in note


def test_several_processes_are_refused(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*RUN, "--out", str(tmp_path / "run")]) == 1
    assert "WORLD_SIZE=2: rankgen trains in one process" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_numbers_of_an_unbroken_one(
    smoke: Path, shelf: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    arms = ["--arms", "both", "nucleus"]
    command = [sys.executable, "-m", "kilter.cli", *RUN, *arms, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(shelf.parent), *sys.path])}
    for moment in (
        "negatives/moby-dick-*.jsonl",
        "samples/seed-0.jsonl",
        "judge/seed-0/checkpoints/checkpoint-2",
        "arms/both/seed-0/checkpoints/checkpoint-2",
        "arms/both/seed-0/model",
    ):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while not list(out.glob(moment)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, process.stderr.read().decode()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    assert main([*RUN, *arms, "--out", str(out)]) == 0
    for arm in ("both", "nucleus"):
        assert figures(out, arm) == figures(smoke, arm)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval", "x"], "--eval needs --train"),
        (["--shortest", "9", "--longest", "8"], "shortest=9"),
        (["--pairs", "1"], "pairs must be at least 2"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--prompts", "-1"], "prompts must not be negative"),
        (["--top-p", "0"], "top_p=0"),
        (["--learning-rate", "0"], "learning_rate=0"),
        (["--arms", "bowl"], "there is no 'bowl'; there are untrained, inbook"),
        (["--train", "no/such/folder"], "no/such/folder: no such folder"),
    ],
)
def test_options_that_do_not_fit_are_named(shelf, tmp_path, capsys, options, message) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in capsys.readouterr().err


def test_people_are_asked_where_their_judgements_are(shelf: Path, tmp_path: Path) -> None:
    from kilter.recipes.rankgen import RankGenRecipe
    from kilter.tasks.continuations.judging import agree
    from tests.data.test_judgements import votes, write

    (shelf.parent / "rankgen-judgements").mkdir()
    file = shelf.parent / "rankgen-judgements" / "one.csv"
    write(file, votes("a", "Text 1", "Text 1") + votes("bb", "Text 2"))
    try:
        recipe = RankGenRecipe(**RankGenRecipe.presets["smoke"] | {"judgements": True})
        assert "RankGen's human judgements" in recipe.build_data().note
        scorer = lambda prefixes, texts: torch.tensor([float("first" in text) for text in texts])  # noqa: E731
        rows = agree(scorer, recipe._preferences)
        assert [row["totals"]["human_agreement"] for row in rows] == [[1.0, 1.0], [0.0, 1.0]]
        assert all(row.keys() == {"input", "totals"} for row in rows)
    finally:
        file.unlink()
        file.parent.rmdir()
