"""`kilter diversity`: figures as the functions give them, several files side by side, and lines that are wrong."""

import io
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilter.cli import main
from kilter.commands.diversity import _labels, read_outputs
from kilter.evaluation.diversity import (
    distinct_n,
    ngram_vendi_score,
    oracle_at_k,
    overlap,
    repetition,
    self_bleu,
    sentence_bleu,
)

pytestmark = pytest.mark.host

PROMPTS = ["The steam train", "Two dogs", "On the hill", "A red bus"]
SAME = [
    ["leaves the old station", "leaves the old station now", "leaves the old town"],
    ["run after a ball", "run after the ball", "run after two balls"],
    ["stands an old house", "stands a house", "stands an old oak house"],
    ["turns at the corner", "turns at the next corner", "turns at a corner"],
]
APART = [
    ["leaves the old station", "whistles once and stops", "burns coal"],
    ["sleep in the sun", "run after a ball", "bark at every cat they see"],
    ["nothing grows", "stands an old house", "we saw the whole town"],
    ["has two floors", "is late again", "turns at the corner"],
]
REFERENCES = [
    ["burns coal and water", "whistles once"],
    ["run after a ball"],
    ["nothing grows there"],
    ["is late again", "is late"],
]


def write(path: Path, texts: list[list[str]], *, prompts: list[str] = PROMPTS, references: bool = True) -> Path:
    """Lines as `kilter generate` writes them."""
    rows = [
        {
            "index": index,
            "prompt": prompt,
            "outputs": [
                {"text": text, "score": -1.0, "log_prob": -2.0 - index - place, "group": place, "ranker_score": None}
                for place, text in enumerate(row)
            ],
            **({"references": REFERENCES[index]} if references else {}),
        }
        for index, (prompt, row) in enumerate(zip(prompts, texts, strict=True))
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def measured(capsys: pytest.CaptureFixture, *arguments: object) -> list[dict[str, Any]]:
    assert main(["diversity", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["files"]


def test_figures_are_those_of_the_functions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (found,) = measured(capsys, write(tmp_path / "apart.jsonl", APART))
    assert (found["label"], found["inputs"], found["outputs"], found["empty"]) == ("apart", 4, 3, 0)
    mean = {name: figure["mean"] for name, figure in found["figures"].items()}
    for n in (1, 2, 3, 4):
        assert mean[f"distinct_{n}"] == pytest.approx(distinct_n(APART, n))
    assert mean["self_bleu"] == pytest.approx(self_bleu(APART))
    assert mean["vendi_score"] == pytest.approx(ngram_vendi_score(APART))
    scores = [[sentence_bleu(text, said) for text in row] for row, said in zip(APART, REFERENCES, strict=True)]
    assert {k: mean[f"oracle_{k}"] for k in (1, 3)} == pytest.approx(oracle_at_k(scores, [1, 3]))
    assert mean["log_prob_first"] == statistics.fmean([-2, -3, -4, -5])
    pairs = [(prompt, text) for prompt, row in zip(PROMPTS, APART, strict=True) for text in row]
    assert mean["repetition"] == pytest.approx(statistics.fmean(repetition(b, prefix=a) for a, b in pairs))
    assert mean["overlap"] == pytest.approx(statistics.fmean(overlap(a, b) for a, b in pairs))
    assert mean["words"] == pytest.approx(statistics.fmean(len(text.split()) for _, text in pairs))
    for figure in found["figures"].values():
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert figure["inputs"] == 4
        assert figure["difference"] is None


def test_differences_are_paired(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """On the same prompts only: there, the interval of the difference; and none of a file from itself."""
    same, apart = write(tmp_path / "same.jsonl", SAME), write(tmp_path / "apart.jsonl", APART)
    first, second = measured(capsys, same, apart)
    for name, figure in second["figures"].items():
        difference = figure["difference"]
        assert difference["mean"] == pytest.approx(figure["mean"] - first["figures"][name]["mean"], abs=1e-9)
        assert difference["low"] <= difference["mean"] <= difference["high"]
    assert second["figures"]["distinct_2"]["difference"]["low"] > 0
    assert second["figures"]["self_bleu"]["difference"]["high"] < 0
    assert second["figures"]["log_prob_first"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    other = write(tmp_path / "other.jsonl", APART, prompts=PROMPTS[::-1])
    assert all(figure["difference"] is None for figure in measured(capsys, same, other)[1]["figures"].values())


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    same, apart = write(tmp_path / "same.jsonl", SAME), write(tmp_path / "apart.jsonl", APART)
    assert main(["diversity", str(same), str(apart)]) == 0
    said = capsys.readouterr()
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in said.out.splitlines() if "  " in line.strip())
    assert rows["inputs"].split() == ["4", "4"]
    assert "*1.000 (1.000 to 1.000)" in rows["distinct-1"]
    assert rows["log p, first"].count("−3.50 (−4.50 to −2.50)") == 2
    assert "BLEU oracle@1" in rows
    assert "BLEU oracle@3" in rows
    assert "* differs from same on the same inputs: 95 % interval of the difference without 0\n" in said.out
    assert not said.err
    assert main(["diversity", str(same)]) == 0
    assert "*" not in capsys.readouterr().out


@pytest.mark.parametrize("files", ["abcd", "abcde"])
def test_many_files_fit_a_terminal(files: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Whole numbers in 80 columns: intervals below the means, or none."""
    assert main(["diversity", *(str(write(tmp_path / f"{name}.jsonl", APART)) for name in files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    row = lines.index(next(line for line in lines if line.startswith("log p, first")))
    assert lines[row].split()[-1] == "−3.50"
    assert lines[row + 1].count("−4.50 to −2.50") == (4 if len(files) == 4 else 0)


def test_the_oracle_looks_at_as_many_in_every_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    few = write(tmp_path / "few.jsonl", [row[:2] for row in APART])
    many = write(tmp_path / "many.jsonl", [row * 3 for row in APART])
    for found in measured(capsys, few, many):
        assert [name for name in found["figures"] if name.startswith("oracle")] == ["oracle_1", "oracle_2"]
    (found,) = measured(capsys, many)
    assert [name for name in found["figures"] if name.startswith("oracle")] == ["oracle_1", "oracle_5", "oracle_9"]


def test_bare_texts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing to compare with: no oracle, no overlap, no log-probability; one input: no interval."""
    file = tmp_path / "bare.jsonl"
    file.write_text('\n{"texts": ["a\u2028bus", "a red bus"]}\n\n', encoding="utf-8")
    (found,) = measured(capsys, file)
    names = {*(f"distinct_{n}" for n in (1, 2, 3, 4)), "vendi_score", "self_bleu", "repetition", "words"}
    assert set(found["figures"]) == names
    assert {figure["low"] for figure in found["figures"].values()} == {None}
    assert found["figures"]["distinct_1"]["mean"] == 0.6


def test_empty_outputs_are_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """They count for the oracle only, and an input of nothing else has no other figure."""
    file = write(tmp_path / "gaps.jsonl", [["", *APART[0]], ["", " "], *APART[2:]])
    assert main(["diversity", str(file), "--json"]) == 0
    said = capsys.readouterr()
    (found,) = json.loads(said.out)["files"]
    assert found["empty"] == 3
    assert found["figures"]["distinct_1"]["inputs"] == 3
    assert found["figures"]["distinct_1"]["mean"] == pytest.approx(distinct_n([APART[0], *APART[2:]], 1))
    assert found["figures"]["oracle_1"]["inputs"] == 4
    assert "3 empty outputs, left out of all but the oracle" in said.err
    assert "of 4 inputs, not all have each figure: distinct_1 3" in said.err


def test_marks_alone_are_no_words(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (found,) = measured(capsys, write(tmp_path / "marks.jsonl", [["...", "?"]] * 4))
    assert found["figures"]["repetition"]["mean"] == found["figures"]["overlap"]["mean"] == 0.0


def test_characters_are_words_where_there_are_no_spaces(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "zh.jsonl"
    row = {"prompt": "红色", "texts": ["红色的车", "白色的船"], "references": ["红色的汽车"]}
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (found,) = measured(capsys, file, "--characters")
    mean = {name: figure["mean"] for name, figure in found["figures"].items()}
    assert mean["words"] == 4
    assert mean["distinct_1"] == 6 / 8
    assert mean["overlap"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert mean["repetition"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert mean["oracle_1"] == pytest.approx(sentence_bleu("红色的车", ["红色的汽车"], tokenize=list))
    assert measured(capsys, file)[0]["figures"]["words"]["mean"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"texts": ["a"', "line 2: not JSON"),
        ("[1]", "line 2: expected an object with outputs (as kilter generate writes them) or texts"),
        ('{"prompt": "a"}', "line 2: expected an object with outputs"),
        ('{"outputs": ["a"]}', "line 2: outputs must be a list of objects with a text each"),
        ('{"outputs": [{"score": 1}]}', "line 2: each output must have a text"),
        ('{"outputs": []}', "line 2: each output must have a text; at least one is needed"),
        ('{"texts": "a"}', "line 2: each output must have a text"),
        ('{"texts": ["a", 1]}', "line 2: each output must have a text"),
        ('{"texts": ["a"], "prompt": 1}', "line 2: prompt must be a text, got int"),
        ('{"texts": ["a"], "references": "a"}', "line 2: references must be a list of texts"),
        ('{"texts": ["a"], "references": [" "]}', "line 2: references must be a list of texts, none of them empty"),
        ('{"texts": ["a"], "references": 0}', "line 2: references must be a list of texts"),
        ('{"texts": ["a"], "prompt": []}', "line 2: prompt must be a text, got list"),
        ('{"texts": {"a": 1}}', "line 2: each output must have a text"),
        ('{"texts": ["a"], "texts": ["b"]}', "line 2: 'texts' stands twice in one object"),
        ('{"texts": ["\\udc00"]}', "line 2: '\\udc00' holds a NUL or half of a letter"),
        ('{"outputs": [{"text": "a", "log_prob": "-1"}]}', "line 2: log_prob must be a number, got '-1'"),
        ('{"outputs": [{"text": "a", "log_prob": true}]}', "line 2: log_prob must be a number, got True"),
        ("3", "line 2: expected an object with outputs"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text('{"texts": ["a bus"]}\n' + line + "\n")
    assert main(["diversity", str(file)]) == 1
    assert f"{file}, {said}" in capsys.readouterr().err


def test_a_wrong_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def said(*files: object, code: int = 1) -> str:
        assert main(["diversity", *map(str, files)]) == code
        return capsys.readouterr().err

    assert f"{tmp_path / 'none.jsonl'}: no such file; kilter generate writes one" in said(tmp_path / "none.jsonl")
    (empty := tmp_path / "empty.jsonl").write_text("\n")
    assert "holds no lines" in said(empty)
    (old := tmp_path / "old.jsonl").write_bytes('{"texts": ["Zoë"]}'.encode("latin-1"))
    assert "is neither UTF-8 nor UTF-16" in said(old)
    same = write(tmp_path / "same.jsonl", SAME)
    assert "files: one stands twice in" in said(same, tmp_path / "." / "same.jsonl")
    assert "which outputs? kilter diversity FILE.jsonl" in said(code=2)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "texts", "beam.out"])
def test_rows_of_every_format(name: str, tmp_path: Path) -> None:
    """A csv has lists as JSON; kilter generate writes lines under any name."""
    rows = [{"prompt": "a", "texts": ["a, b", "c"], "references": ["d"]}, {"prompt": "b", "texts": ["e"]}]
    match name.rpartition(".")[2]:
        case "json":
            text = json.dumps(rows)
        case "csv":
            text = 'prompt,texts,references\na,"[""a, b"", ""c""]","[""d""]"\nb,"[""e""]",[]\n'
        case _:
            text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / name).write_text(text)
    assert [(one.prompt, one.texts, one.references) for one in read_outputs(tmp_path / name)] == [
        ("a", ("a, b", "c"), ("d",)),
        ("b", ("e",), ()),
    ]


def test_outputs_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    file = write(tmp_path / "same.jsonl", SAME)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    (piped,) = measured(capsys, "-")
    assert piped["figures"] == measured(capsys, file)[0]["figures"]


@given(st.data())
def test_anything_is_outputs_or_an_error_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    text = '{"prompt": "a", "outputs": [{"text": "b", "log_prob": -1}]}\n{"texts": ["a"], "references": ["b"]}\n'
    pieces = st.sampled_from(
        ["null", "NaN", "[]", "{}", '"', "1", "[" * 2000, "9" * 5000, "1e999", "\\ud800", "\0", "true"]
    )
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 6)))
        text = text[:start] + data.draw(pieces | st.text(max_size=3) | st.just(text[start:end] * 2)) + text[end:]
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found, said = [], str(file)
    try:
        found = read_outputs(file)
    except ValueError as error:
        said = str(error)
    assert said.startswith(str(file))
    assert all(one.texts and (one.log_prob is None or abs(one.log_prob) < float("inf")) for one in found)


def test_a_log_probability_may_be_unknown(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    file.write_text('{"outputs": [{"text": "a", "log_prob": null}]}\n{"outputs": [{"text": "a", "log_prob": NaN}]}\n')
    assert [one.log_prob for one in read_outputs(file)] == [None, None]


def test_labels_tell_files_apart() -> None:
    assert _labels([Path("a/beam.jsonl"), Path("b/diverse.jsonl")]) == ["beam", "diverse"]
    assert _labels([Path("a/out.jsonl"), Path("b/out.jsonl")]) == [str(Path("a/out.jsonl")), str(Path("b/out.jsonl"))]
