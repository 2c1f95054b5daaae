"""Every script a user would copy runs."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

WITHOUT_KILTER = """
import importlib.abc, sys, warnings

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "kilter":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import numpy as np
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu")
np.save(sys.argv[2], model.encode(["the cat sat", "rain fell"]))
assert "kilter" not in sys.modules
"""


def test_own_properties_do_what_they_say(capsys: pytest.CaptureFixture) -> None:
    found = runpy.run_path(str(EXAMPLES / "own_property.py"), run_name="__main__")
    assert capsys.readouterr().out.count("before") == 2
    before, after = found["improve"](found["quiet_start"], steps=100)
    assert (1 - after[:, :5, 0]).mean() < 0.5 * (1 - before[:, :5, 0]).mean()
    before, after = found["improve"](found["prefer_s"], steps=100)
    assert after[0, :, found["Z"]].mean() < 0.5 * before[0, :, found["Z"]].mean()


def test_raw_loop(capsys: pytest.CaptureFixture) -> None:
    runpy.run_path(str(EXAMPLES / "raw_loop.py"), run_name="__main__")
    assert capsys.readouterr().out.count("awp") == 5


@pytest.mark.host
def test_domains_in_a_loop(capsys: pytest.CaptureFixture) -> None:
    found = runpy.run_path(str(EXAMPLES / "domain_loop.py"), run_name="__main__")
    assert capsys.readouterr().out.count("weights") == 5
    assert found["mixture"].weights.argmax() == 2


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_domains_in_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from tests.own_text import writing_model

    for name, line in (("low", "the cat sat"), ("high", "rain all day"), ("target", "rain all night")):
        (tmp_path / f"{name}.txt").write_text(f"{line}\n" * 300)
    given = [writing_model(tmp_path / "model"), tmp_path / "out", tmp_path / "target.txt"]
    files = [f"{name}={tmp_path}/{name}.txt" for name in ("low", "high")]
    monkeypatch.setattr(sys, "argv", ["domain_trainer.py", *map(str, given), *files])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runpy.run_path(str(EXAMPLES / "domain_trainer.py"), run_name="__main__")
    rows = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert rows["domains"] == ["low", "high"]
    assert "'high'" in capsys.readouterr().out


@pytest.mark.host
def test_own_scorer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from kilter.cli import main
    from tests.own_text import writing_model

    scorer = EXAMPLES / "own_scorer.py"
    score = runpy.run_path(str(scorer))["to_the_point"]
    (tmp_path / "prompts.txt").write_text("the steam train\nrain all day\n")
    given = ("--model", writing_model(tmp_path / "model"), "--prompts", tmp_path / "prompts.txt", "--device", "cpu")
    options = ("--decoder", "best-of", "--n", 8, "--keep", 8, "--scorer", f"{scorer}:to_the_point")
    assert main(["generate", *map(str, (*given, *options)), "--max-new-tokens", "8"]) == 0
    for row in map(json.loads, capsys.readouterr().out.splitlines()):
        found = [output["ranker_score"] for output in row["outputs"]]
        texts = [output["text"] for output in row["outputs"]]
        assert found == sorted(found, reverse=True) == pytest.approx(score([row["prompt"]] * 8, texts))
        assert len(set(found)) > 1


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile
    from transformers import AutoModelForCTC

    from kilter.models.recogniser import Recogniser

    Recogniser.small(("yes", "no"), "conv", 8000).save(tmp_path / "model")
    rows = []
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", np.random.default_rng(index).normal(0, 0.1, 12000), 8000)
        rows.append({"audio": f"{index}.wav", "text": "yes no"})
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = str(tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["trainer.py", str(tmp_path / "model"), str(tmp_path / "mine.jsonl"), out])
    runpy.run_path(str(EXAMPLES / "trainer.py"), run_name="__main__")
    assert AutoModelForCTC.from_pretrained(out).config.vocab_size == 4


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_an_encoder_that_is_an_ordinary_one_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from sentence_transformers import SentenceTransformer

    from tests.decoding.encoders import TEXTS, encoder, tokenizer
    from tests.hosts.small_encoder import normalize

    encoder("bert", size=256).save_pretrained(tmp_path / "plain")
    tokenizer("bert").save_pretrained(tmp_path / "plain")
    before = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    before.append(normalize())
    before.save_pretrained(str(tmp_path / "model"))
    (tmp_path / "texts.txt").write_text("".join(f"{text}{' the' * (i % 5)}\n" for i, text in enumerate(TEXTS * 64)))
    out = tmp_path / "out"
    given = [str(tmp_path / "model"), str(tmp_path / "texts.txt"), str(out)]
    monkeypatch.setattr(sys, "argv", ["sentence_encoder.py", *given])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runpy.run_path(str(EXAMPLES / "sentence_encoder.py"), run_name="__main__")

    after = SentenceTransformer(str(out), device="cpu")
    assert [type(one) for one in after] == [type(one) for one in before]
    vectors = after.encode(["the cat sat", "rain fell"])
    assert np.abs(vectors - before.encode(["the cat sat", "rain fell"])).max() > 1e-4
    there = {file.relative_to(out).as_posix() for file in out.rglob("*")}
    assert (
        there - {file.relative_to(tmp_path / "model").as_posix() for file in (tmp_path / "model").rglob("*")} == set()
    )
    assert [*(tmp_path / "out-checkpoints").glob("checkpoint-2/objective.safetensors")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KILTER, str(out), str(tmp_path / "vectors.npy")],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), vectors)


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_an_encoder_for_two_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from sentence_transformers import SentenceTransformer

    from kilter.hosts.sentence_transformers import load
    from tests.hosts.small_encoder import folder_of

    for domain in ("med", "law"):
        rows = "".join(f"the cat sat,the dog sat {word}\n" for word in ("rain", "night", "mat", "it"))
        (tmp_path / f"{domain}.csv").write_text("anchor,positive\n" + rows)
    given = [folder_of(tmp_path / "model"), tmp_path / "out", f"med={tmp_path}/med.csv", f"law={tmp_path}/law.csv"]
    monkeypatch.setattr(sys, "argv", ["domain_experts.py", *map(str, given)])
    runpy.run_path(str(EXAMPLES / "domain_experts.py"), run_name="__main__")
    assert "law (1, 16)" in capsys.readouterr().out
    vectors = load(tmp_path / "out", device="cpu").encode(["the cat"], domain="law")
    assert vectors.shape == SentenceTransformer(f"{tmp_path}/out-merged", device="cpu").encode(["the cat"]).shape


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_texts_longer_than_those_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from kilter.hosts.transformers import load

    (tmp_path / "text.txt").write_text("all work and no play makes a dull day\n" * 40)
    monkeypatch.setattr(sys, "argv", ["longer_texts.py", str(tmp_path / "text.txt"), str(tmp_path / "out"), "10"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runpy.run_path(str(EXAMPLES / "longer_texts.py"), run_name="__main__")
    assert "position_transfer" in capsys.readouterr().out
    assert load(tmp_path / "out").kilter_positions.max_position == 20_000


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_pairs_in_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from safetensors import safe_open

    from kilter.models.small_seq2seq import pair_tokenizer, small_seq2seq

    pairs = [("der rote Hut", "the red hat"), ("eine alte Katze", "an old cat"), ("der Hut", "the hat")] * 8
    (tmp_path / "pairs.csv").write_text("source,target\n" + "".join(f"{one},{other}\n" for one, other in pairs))
    tokenizer = pair_tokenizer([text for pair in pairs for text in pair], entries=60)
    small_seq2seq(tokenizer, hidden_size=16, layers=1).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    given = [tmp_path / "model", tmp_path / "pairs.csv", tmp_path / "out", 10]
    monkeypatch.setattr(sys, "argv", ["seq2seq_trainer.py", *map(str, given)])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    runpy.run_path(str(EXAMPLES / "seq2seq_trainer.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "'contrast'" in printed
    assert "'objective_weight': 1.0" in printed
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "objective" in name]  # noqa: SIM118


@pytest.mark.host
@pytest.mark.filterwarnings("ignore")
def test_rewards_for_a_decoder_in_the_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tests.hosts.trl_models import PROMPTS, writer

    model, tokenizer = writer(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    given = [tmp_path / "model", tmp_path / "prompts.txt", tmp_path / "out", 2]
    monkeypatch.setattr(sys, "argv", ["infalign_trainer.py", *map(str, given)])
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    runpy.run_path(str(EXAMPLES / "infalign_trainer.py"), run_name="__main__")
    assert capsys.readouterr().out.count("{'reward': ") == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1 + len(PROMPTS)
    assert type(model).from_pretrained(tmp_path / "out").num_parameters() == model.num_parameters()
