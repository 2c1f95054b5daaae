"""The recipe from end to end: every arm on made-up texts, kills, one's own texts and model, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from kilter.lab.recipe import Provenance
from kilter.lab.run import run
from kilter.recipes.dga import GradientAlignmentRecipe
from kilter.tasks.language_modelling import sources
from kilter.tasks.language_modelling.sources import Texts
from tests.prose import prose

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "dga", "--preset", "smoke", "--device", "cpu"]
TINY: dict[str, Any] = {
    **GradientAlignmentRecipe.presets["smoke"],
    "preset": "smoke",
    "device": "cpu",
    "corpora": ("near", "far"),
    "domain_blocks": 40,
    "judged_tokens": 800,
    "steps": 6,
    "every": 2,
    "save_steps": 2,
}
PAGES = "Prints the names of all files below a directory, and how large each of them is in blocks of the disk.\n\n"


def made_up(names: Any, judged_on: str) -> Texts:
    """The target is what `near` is about; `far` is prose."""
    texts = {name: [PAGES * 40 if name == "near" else prose(240, 1)] for name in names}
    return Texts(texts, [PAGES * 8], [PAGES * 12], [PAGES * 12], Provenance("Made-up texts", digest="1"))


@pytest.fixture(scope="module", autouse=True)
def data() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "given", made_up)
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run."""
    return run(GradientAlignmentRecipe(**TINY, out=tmp_path_factory.mktemp("runs") / "smoke"), "kilter run dga")


def weights(out: Path, arm: str) -> list[dict[str, float]]:
    return [row["weights"] for row in read_json(out / "arms" / arm / "seed-0" / "mixture.json")["rows"]]


def test_every_arm_has_its_figures(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    for arm in TINY["arms"]:
        found = read_json(smoke / "arms" / arm / "seed-0" / "metrics.json")
        measured = {name for name in found if not name.startswith("cost_")}
        assert measured == {"perplexity_1x", "scarce_target_loss", "train_seconds"}
        rows = read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl")
        nats, tokens = (sum(row["totals"]["scarce_target_loss"][place] for row in rows) for place in (0, 1))
        assert found["scarce_target_loss"] == pytest.approx(nats / tokens)
    assert summary["baseline"] == "uniform"
    tried = {(one["metric"], one["baseline"], one["arm"]) for one in summary["verdicts"]}
    assert {("scarce_target_loss", "importance", "dga"), ("scarce_target_loss", "uniform", "dga")} <= tried
    assert any("every 2 of" in note for note in summary["notes"])
    assert any("passed through most" in note for note in summary["notes"])


def test_weights_are_drawn_where_they_move(smoke: Path) -> None:
    drawn = {Path(one["file"]).stem for one in read_json(smoke / "summary.json")["figures"]}
    assert {"weights-dga", "weights-dga+unaveraged", "epochs", "loss"} <= drawn
    assert not {"weights-uniform", "weights-proportional"} & drawn
    assert "near" in (smoke / "figures" / "weights-dga.svg").read_text(encoding="utf-8")


def test_fixed_weights_stay_and_importance_follows_the_target(smoke: Path) -> None:
    assert weights(smoke, "uniform")[0] == weights(smoke, "uniform")[-1] == {"near": 0.5, "far": 0.5}
    assert weights(smoke, "importance")[0]["near"] > 0.6
    assert weights(smoke, "dga")[0] != weights(smoke, "dga")[-1]
    for arm in TINY["arms"]:
        assert all(sum(row.values()) == pytest.approx(1, abs=1e-5) for row in weights(smoke, arm))


def test_weights_begin_where_the_draws_do(smoke: Path) -> None:
    for arm in TINY["arms"]:
        first = read_json(smoke / "arms" / arm / "seed-0" / "mixture.json")["rows"][0]
        assert (first["step"], first["epochs"]) == (0, {"near": 0, "far": 0})
    assert weights(smoke, "dga")[0] == weights(smoke, "doge")[0] == {"near": 0.5, "far": 0.5}


def test_proportional_weights_are_those_of_the_texts(smoke: Path) -> None:
    """Though as many blocks of each are taken."""
    near, far = (len(made_up([name], "").domains[name][0]) for name in ("near", "far"))
    found = weights(smoke, "proportional")[0]
    assert found["near"] == pytest.approx(near / (near + far), abs=0.01)
    assert abs(found["near"] - 0.5) > 0.1


def test_only_the_settings_of_few_texts_are_called_so(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    assert "scarce domains" in summary["metrics"]["scarce_target_loss"]["label"]
    assert any("of each there are 40 blocks" in note for note in summary["notes"])
    for preset, name in (("smoke", "loss"), ("full", "loss"), ("scarce", "scarce_target_loss")):
        recipe = GradientAlignmentRecipe(preset=preset, **GradientAlignmentRecipe.presets[preset])
        recipe.prepare()
        assert name in recipe.metrics


def test_averaged_weights_move_less(smoke: Path) -> None:
    slow, fast = (weights(smoke, arm)[-1]["near"] for arm in ("dga", "dga+unaveraged"))
    assert abs(slow - 0.5) < abs(fast - 0.5)


def test_the_model_is_an_ordinary_one_and_its_card_says_how_it_was_made(smoke: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = smoke / "arms" / "dga" / "seed-0" / "model"
    text = AutoTokenizer.from_pretrained(folder)("a file", return_tensors="pt")
    assert AutoModelForCausalLM.from_pretrained(folder)(**text).logits.shape == (1, 7, 259)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "`step_size` 5" in card
    assert "`step_size`" not in (smoke / "arms/uniform/seed-0/model/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arm", ["dga", pytest.param("dga+bases", marks=pytest.mark.slow)])
def test_a_killed_training_ends_with_the_same_bits(smoke: Path, tmp_path: Path, arm: str) -> None:
    from transformers import Trainer

    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 5:  # between a checkpoint and the next reweighting
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    given = {**TINY, "arms": (arm,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(GradientAlignmentRecipe(**given, out=tmp_path / "run"), "")
    run(GradientAlignmentRecipe(**given, out=tmp_path / "run"), "")
    for name in ("model/model.safetensors", "mixture.json"):
        file = f"arms/{arm}/seed-0/{name}"
        assert (tmp_path / "run" / file).read_bytes() == (smoke / file).read_bytes()


def own(folder: Path) -> list[str]:
    """Two domains in two formats, and a target."""
    (folder / "a.txt").write_text(PAGES.replace("files", "folders") * 20 + prose(20, 3), encoding="utf-8")
    rows = [json.dumps({"text": text}) for text in prose(80, 5).split("\n\n") if text.strip()]
    (folder / "b.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "t.txt").write_text("\n\n".join(f"{n}: {PAGES.strip()}" for n in range(60)), encoding="utf-8")
    return ["--domains", f"a={folder}/a.txt", f"b={folder}/b.jsonl", "--target", f"{folder}/t.txt"]


SIZES = ["--steps", "4", "--every", "2", "--batch-size", "2", "--block", "32", "--width", "16", "--layers", "1"]


def test_own_texts(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    command = ["run", "dga", *own(tmp_path), *SIZES, "--device", "cpu", "--judged-tokens", "500", "--out", str(out)]
    assert main(command) == 0
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    assert [*summary["arms"]] == ["uniform", "dga"]
    assert summary["data"]["title"].startswith("your texts: 2 domains")
    assert not summary["verdicts"]
    assert weights(out, "dga")[-1].keys() == {"a", "b"}
    assert "loss" in summary["metrics"]
    (tmp_path / "a.txt").write_text(prose(90, 4), encoding="utf-8")
    assert main(command) == 1
    assert "the data is another now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "bowl"], "there is no 'bowl'; there are uniform, dga"),
        (["--arms", "dga-0"], "the strength is μ, and must be above 0"),
        (["--step-size", "0"], "step_size must be above 0"),
        (["--ema", "1.5"], "ema is a share"),
        (["--every", "0"], "every must be at least 1"),
        (["--clusters", "1"], "clusters must be at least 2"),
        (["--domains", "a=no/such.txt", "--target", "no/such.txt"], "no/such.txt: no such file"),
        (["--domains", "a=a.txt"], "--target is missing"),
        (["--domains", "a.txt", "--target", "t.txt"], "say of which domain it is"),
        (["--domains", "a=a.txt", "a=b.txt", "--target", "t.txt"], "has a twice"),
        (["--target", "t.txt"], "need your texts to learn from"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, capsys: Any, options: list[str], message: str) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt: holds no text"),
        ("a.txt", b"Short.", "domain a: its texts are shorter than one block"),
        ("a.txt", b"\xff\xfe\x00\x00\xff", "a.txt"),
        ("b.jsonl", b'{"text": 3}\n', "column 'text' must hold a text, got 3"),
        ("t.txt", b"One line only.", "--target is one short text"),
    ],
)
def test_texts_that_will_not_do_are_named(tmp_path: Path, capsys: Any, name: str, content: bytes, message: str) -> None:
    given = own(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert main(["run", "dga", *given, *SIZES, "--device", "cpu", "--out", str(tmp_path / "run")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_target_of_one_example_is_warned_of(tmp_path: Path) -> None:
    given = {**TINY, "arms": ("dga",), "target_blocks": 1, "steps": 2}
    with pytest.warns(UserWarning, match="target has one example"):
        run(GradientAlignmentRecipe(**given, out=tmp_path / "run"), "")
