"""The recipe from end to end on a few restaurants: what a run leaves, kills, one's own model and pairs, bad options."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, Trainer

from kilter.cli import main
from kilter.data.catalogue import Asset
from kilter.lab.files import read_json, read_rows
from kilter.lab.run import run
from kilter.recipes.claps import ContrastivePerturbationRecipe
from tests.made_restaurants import write_restaurants

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "claps", "--preset", "smoke"]
LOOKED_AT = {"claps_cosine", "claps_imposter_cosine", "claps_distant_cosine", "claps_kl_moved", "claps_kl_corrected"}


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


def own_pairs(folder: Path, rows: int = 40) -> list[str]:
    """Options for pairs of one's own, with several references to judge on."""
    pairs = [(f"number {row}", f"this is {row} of {rows}") for row in range(rows)]
    (folder / "pairs.csv").write_text("source,target\n" + "\n".join(map(",".join, pairs)) + "\n")
    judged = [{"source": f"number {row}", "references": [f"this is {row}", f"it is {row}"]} for row in range(100, 104)]
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, judged)) + "\n")
    return ["--train", str(folder / "pairs.csv"), "--eval", str(folder / "dev.jsonl")]


def test_every_arm_has_its_figures_and_an_objective_is_looked_at(smoke: Path) -> None:
    found = {
        arm: read_json(smoke / f"arms/{arm}/seed-0/metrics.json") for arm in ("mle", "batch", "claps", "claps-ramp")
    }
    for arm, figures in found.items():
        assert {"bleu", "chrf", "nll", "step_ratio"} <= figures.keys()
        assert (figures.keys() >= LOOKED_AT) == arm.startswith("claps")
    assert found["mle"]["step_ratio"] == 1
    assert found["claps"]["step_ratio"] > 1
    assert "claps_imposter_cosine" not in found["batch"]
    losses = [figures["nll"] for figures in found.values()]
    assert len({*losses}) == len(losses), "each arm is another training"


def test_the_report_shows_outputs_beside_what_people_wrote(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    assert [Path(one["file"]).stem for one in summary["figures"]] == ["outputs-0"]
    svg = (smoke / "figures" / "outputs-0.svg").read_text(encoding="utf-8")
    assert "References" in svg
    row = read_rows(smoke / "arms/claps/seed-0/utterances.jsonl")[0]
    assert row["input"].startswith("name[Zizzi]")
    assert len(row["references"]) == 2


def test_scores_of_one_seed_have_intervals_over_inputs(smoke: Path) -> None:
    found = read_json(smoke / "summary.json")
    for name in ("bleu", "chrf", "nll"):
        figure, change = found["arms"]["claps"]["metrics"][name], found["differences"]["claps"][name]
        assert figure["mean"] == pytest.approx(read_json(smoke / "arms/claps/seed-0/metrics.json")[name])
        assert None not in (figure["low"], figure["high"], change["low"], change["high"])


def test_the_saved_model_is_a_plain_one(smoke: Path) -> None:
    folder = smoke / "arms/claps/seed-0/model"
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("name[NAME], area[north]", return_tensors="pt").input_ids
    assert model.generate(ids, max_new_tokens=3).shape[0] == 1
    assert not any("kilter" in name or "projection" in name for name in model.state_dict())


@pytest.mark.parametrize("arm", ["mle", "claps"])
def test_a_killed_training_ends_with_the_same_bits(smoke: Path, tmp_path: Path, arm: str) -> None:
    step = Trainer.training_step

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    given: Any = {**ContrastivePerturbationRecipe.presets["smoke"], "arms": (arm,), "preset": "smoke"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "training_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(ContrastivePerturbationRecipe(**given, out=tmp_path / "run"), "")
    run(ContrastivePerturbationRecipe(**given, out=tmp_path / "run"), "")
    file = f"arms/{arm}/seed-0/model/model.safetensors"
    assert (tmp_path / "run" / file).read_bytes() == (smoke / file).read_bytes()


def test_ones_own_model_goes_on_from_ones_own_pairs(smoke: Path, tmp_path: Path) -> None:
    model = smoke / "arms/mle/seed-0/model"
    sizes = ["--steps", "3", "--batch-size", "4", "--max-new-tokens", "6", "--beams", "1"]
    given = ["--model", str(model), *own_pairs(tmp_path), "--arms", "claps", *sizes]
    assert main(["run", "claps", *given, "--out", str(tmp_path / "run")]) == 0
    summary = read_json(tmp_path / "run" / "summary.json")
    assert "40 to learn from, 4 to judge on" in summary["data"]["title"]
    made = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run/arms/claps/seed-0/model").state_dict()
    before = AutoModelForSeq2SeqLM.from_pretrained(model).state_dict()
    assert made.keys() == before.keys()
    assert not all(torch.equal(made[name], before[name]) for name in made)
    assert [len(row["references"]) for row in read_rows(tmp_path / "run/arms/claps/seed-0/utterances.jsonl")] == [2] * 4


def test_without_pairs_to_judge_on_each_tenth_is_held_out(tmp_path: Path) -> None:
    given = own_pairs(tmp_path)[:2]
    assert main([*RUN, *given, "--arms", "mle", "--steps", "2", "--out", str(tmp_path / "run")]) == 0
    assert "36 to learn from, 4 to judge on" in read_json(tmp_path / "run" / "summary.json")["data"]["title"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "some/model"], "--model needs --train"),
        (["--eval", "dev.csv"], "--eval needs --train"),
        (["--train", "a.csv", "--eval", "a.csv"], "--eval and --train are both a.csv"),
        (["--hidden-size", "30"], "hidden_size=30 cannot be divided into 4 heads"),
        (["--arms", "clapps"], "there is no 'clapps'"),
        (["--train", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_options(options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, *options, "--out", str(tmp_path / "run")]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("source,text2\na,b\n", "column 'target'"),
        ("source,target\na,b\nc,\n", "line 3"),
        ("source,references\na,b\nc,[]\n", "line 3"),
        ("source,target\na,b\n", "are too few to hold some out"),
        ("source,target\n" + "a,b\n" * 10, "its sources are too few to hold some out, 1"),
    ],
)
def test_bad_pairs(rows: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.csv").write_text(rows)
    assert main([*RUN, "--train", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err


def test_a_causal_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"a": 0, "<unk>": 1, "</s>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(tmp_path / "model")
    sizes: Any = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=3, **sizes)).save_pretrained(tmp_path / "model")
    given = ["--model", str(tmp_path / "model"), *own_pairs(tmp_path), "--out", str(tmp_path / "run")]
    assert main(["run", "claps", *given]) == 1
    assert "is a causal model, without an encoder" in capsys.readouterr().err
