"""The recipe from end to end on a tiny random encoder: made-up packages, and a user's own pairs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kilter.cli import main
from kilter.lab.files import read_json, read_rows
from tests.made_domains import made_domains, made_pairs_of

pytestmark = [pytest.mark.recipe, pytest.mark.host]

RUN = ["run", "moe-embeddings", "--preset", "smoke"]


@pytest.fixture(scope="module", autouse=True)
def debian() -> Iterator[None]:
    """Made-up packages."""
    with pytest.MonkeyPatch.context() as patch:
        made_domains(patch)
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run, with one arm more."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    assert main([*RUN, "--out", str(out), "--arms", *ARMS]) == 0
    return out


ARMS = ("untrained", "separate", "dense", "experts", "experts+untold", "experts+lora")


def test_every_arm_has_its_figures(smoke: Path) -> None:
    summary = read_json(smoke / "summary.json")
    every = {"f1", "retrieval", "mrr", "f1_max", "auc"}
    every |= {f"{name}_{domain}" for name in ("f1", "retrieval") for domain in ("python", "games")}
    for arm in ARMS:
        found = read_json(smoke / "arms" / arm / "seed-0" / "metrics.json")
        assert {name for name in found if not name.startswith("cost_")} == every
        rows = read_rows(smoke / "arms" / arm / "seed-0" / "utterances.jsonl")
        part, whole = (sum(row["totals"]["f1"][place] for row in rows) for place in (0, 1))
        assert found["f1"] == pytest.approx(100 * part / whole)
    assert summary["arms"]["experts"]["role"] == "method"
    assert [Path(found["file"]).stem for found in summary["figures"]] == ["gains", "similarity"]
    tried = {(found["metric"], found["baseline"], found["arm"]) for found in summary["verdicts"]}
    assert {("f1", "dense", "experts"), ("retrieval", "separate", "experts")} <= tried
    assert any("from the same batches" in note for note in summary["notes"])
    equal = next(one for one in summary["verdicts"] if one["by"] < 0)
    assert "behind dense model for each domain" in equal["claim"]


def test_what_each_domain_gains_is_drawn(smoke: Path) -> None:
    svg = (smoke / "figures" / "gains.svg").read_text(encoding="utf-8")
    for word in ("python", "games", "Model with experts", "One dense model", "Dense model for each domain"):
        assert word in svg


def test_there_is_a_model_of_each_domain_and_one_with_experts(smoke: Path) -> None:
    from sentence_transformers import SentenceTransformer

    apart = smoke / "arms" / "separate" / "seed-0" / "model"
    assert {one.name for one in apart.iterdir()} == {"python", "games"}
    vectors = [SentenceTransformer(str(apart / one), device="cpu").encode(["a map"]) for one in ("python", "games")]
    assert (vectors[0] != vectors[1]).any()
    assert not (smoke / "arms" / "experts+untold" / "seed-0" / "model").exists()


def test_the_card_says_how_to_load_a_model_with_experts(smoke: Path) -> None:
    folder = smoke / "arms" / "experts" / "seed-0" / "model"
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = card.partition("```python\n")[2].partition("```")[0]
    assert 'of one of "python", "games"' in code
    names: dict[str, Any] = {}
    exec(code.replace('"."', repr(str(folder))), names)
    told = [torch.tensor(names["model"].encode(["a castle"], domain=one)) for one in ("python", "games")]
    assert (told[0] - told[1]).abs().max() > 1e-6
    with pytest.raises(ValueError, match="python, games"):
        names["model"].encode(["a castle"], domain="law")
    assert "`lora_rank`" not in card
    assert "`lora_rank` 2" in (smoke / "arms" / "experts+lora" / "seed-0" / "model" / "README.md").read_text()
    assert "F1max, games" in card


def test_what_was_made_of_the_packages_is_kept(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kilter.data import domains

    monkeypatch.setattr(domains, "debian_domains", lambda *_: pytest.fail("it is kept"))
    assert main([*RUN, "--out", str(smoke), "--arms", "untrained"]) == 0


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(smoke: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from kilter.lab import encoders

    class Killed(Exception):
        pass

    def until(advance: Any) -> Any:
        def told(done: int, *rest: Any) -> None:
            if done == 2:
                raise Killed
            advance(done, *rest)

        return told

    whole, out = encoders.fit, tmp_path / "run"
    monkeypatch.setattr(encoders, "fit", lambda trainer, advance, **how: whole(trainer, until(advance), **how))
    for arm in ("experts", "separate"):
        with pytest.raises(Killed):
            _once(out, arm, save_steps=1)
    monkeypatch.setattr(encoders, "fit", whole)
    for arm in ("experts", "separate"):
        _once(out, arm, save_steps=1)
        files = sorted(file.relative_to(out) for file in (out / "arms" / arm).rglob("model.safetensors"))
        assert files
        assert all((out / file).read_bytes() == (smoke / file).read_bytes() for file in files)
        assert not [*(out / "arms" / arm).rglob("*checkpoints*")]


def _once(out: Path, arm: str, **options: Any) -> None:
    from kilter.lab.run import run
    from kilter.recipes.moe_embeddings import ExpertsRecipe

    given: dict[str, Any] = {**ExpertsRecipe.presets["smoke"], "preset": "smoke", "arms": (arm,), **options}
    run(ExpertsRecipe(**given, out=out, device="cpu"), "kilter run moe-embeddings")


def own(folder: Path) -> list[str]:
    """Pairs of two domains in two formats."""
    found = made_pairs_of(["python", "sound"], pairs=50, seed=2)
    rows = [f"{first},{second}" for first, second in found["python"]]
    (folder / "med.csv").write_text("\n".join(["text1,text2", *rows]) + "\n", encoding="utf-8")
    rows = [json.dumps({"anchor": first, "positive": second}) for first, second in found["sound"]]
    (folder / "law.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return ["--train", f"med={folder}/med.csv", f"law={folder}/law.jsonl"]


@pytest.mark.slow
def test_own_pairs_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from kilter.data import domains
    from kilter.hosts.sentence_transformers import load
    from kilter.models.tiny_text import tiny_sentence_encoder

    monkeypatch.setattr(domains, "debian_domains", lambda *_: pytest.fail("one's own needs no packages"))
    tiny_sentence_encoder(["a map of the town", "a road"]).save_pretrained(str(tmp_path / "mine"))
    train, out = own(tmp_path), tmp_path / "run"
    sizes = ["--steps", "4", "--batch-size", "8"]
    command = ["run", "moe-embeddings", *train, "--model", str(tmp_path / "mine"), *sizes, "--out", str(out)]
    assert main(command) == 0
    assert 'encode(texts, domain="med")' in " ".join(capsys.readouterr().out.split())
    summary = read_json(out / "summary.json")
    assert summary["preset"] == "own"
    each = "30 to learn from and 10 to judge on"
    assert summary["data"]["title"] == f"your pairs: of med {each}; of law {each}"
    assert not summary["verdicts"]
    assert {"f1_med", "retrieval_law"} <= summary["arms"]["experts"]["metrics"].keys()
    assert load(out / "arms" / "experts" / "seed-0" / "model").encode(["a map"], domain="law").shape == (1, 32)
    assert main([*command[:-1], str(tmp_path / "two"), "--arms", "dense", "experts"]) == 0
    two = read_json(tmp_path / "two" / "summary.json")  # of those that were asked for the first is compared with
    assert two["baseline"] == "dense"
    assert two["differences"].keys() == {"experts"}
    (tmp_path / "med.csv").write_text("text1,text2\n" + "".join(f"{n} is,{n} was\n" for n in range(40)))
    assert main(command) == 1
    assert "the data is another now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--eval", "med=x.csv"], "--eval needs --train"),
        (["--train", "med.csv"], "--train med.csv: say of which domain it is, as in --train med=med.csv"),
        (["--train", "med=a", "med=b"], "--train has med twice, a and b"),
        (["--train", "med=a", "Med=b"], "med and Med are one name"),
        (["--train", "med=a", "--eval", "law=c"], "--train has no pairs of law"),
        (["--train", "med=no/such"], "no/such"),
        (["--train", "med=-"], "--train -: a run reads its pairs more than once"),
        (["--sections", "games", "games"], "sections: games and games are one name"),
        (["--steps", "1"], "steps=1 are too few for 2 domains"),
        (["--batch-size", "64"], "domain python has 60 different pairs"),
        (["--lora-rank", "0"], "lora_rank must be at least 1"),
        (["--temperature", "0"], "temperature must be above 0"),
        (["--model", "no/such/model/here"], "no/such/model/here"),
        (["--arms", "bowl"], "there is no 'bowl'; there are untrained, experts"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, capsys: Any, options: list[str], message: str) -> None:
    assert main([*RUN, "--out", str(tmp_path / "run"), *options]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())
