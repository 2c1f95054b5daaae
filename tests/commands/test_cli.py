"""The command line: help that teaches at once, exit codes that mean something, JSON for programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kilter.cli import commands, main
from kilter.core.paper import cards

EVERY = [[name, "--help"] for name in commands()] + [
    ["--help"],
    *(["run", method, "--help"] for method in ("align-with-purpose", "diverse-beam-search", "rankgen")),
]


def run_alone(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_help_answers_without_heavy_imports(arguments: list[str]) -> None:
    said = run_alone(
        "import sys, time\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from kilter.cli import main\n"
        "try: main(" + repr(arguments) + ")\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'datasets', 'numpy', 'scipy', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "print('heavy:', heavy, 'seconds:', time.process_time())\n"
    )
    *text, measured = said.strip().splitlines()
    assert "heavy: set()" in measured
    assert float(measured.rsplit(" ", 1)[1]) < 0.5
    assert len(text) > 3


def test_diversity_asks_for_one_file_or_more(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["diversity", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: )" not in said
    assert "FILE.jsonl [FILE.jsonl …]" in said


def test_list_and_show_speak_json(capsys: pytest.CaptureFixture) -> None:
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in rows} == set(cards())
    assert all({"lever", "paper", "verdict"} <= row.keys() for row in rows)
    assert main(["show", "align-with-purpose", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slug"] == "align-with-purpose"


def test_the_ledger_is_printed_and_speaks_json(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["list", "--claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in rows} == set(cards())
    assert {"claim", "published", "ours", "verdict", "reason", "where"} <= rows[0].keys()
    monkeypatch.setenv("COLUMNS", "700")
    assert main(["list", "--claims"]) == 0
    said = capsys.readouterr().out
    assert "not tried: needs 280,000 hours of speech" in said
    assert all(claim.text in said for card in cards().values() for claim in card.claims)


def test_show_reads_every_evidence_file(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "align-with-purpose"]) == 0
    said = capsys.readouterr().out
    for line in ("on digits: holds in direction", "on telephone prompts: not seen here", "digest   not recorded"):
        assert line in said
    assert said.count("  measured kilter run align-with-purpose --preset") == said.count("  commit   ") == 3
    assert main(["show", "align-with-purpose", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["evidence"]
    assert [*found] == ["align-with-purpose", "align-with-purpose-residual", "align-with-purpose-words"]
    assert all({"command", "commit", "data", "changed"} <= record.keys() for record in found.values())


def test_evidence_is_reported_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = Path(__file__).parents[1] / "evidence"
    assert main(["report", str(evidence / "rankgen.json"), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "which keeps numbers only" in page
    assert "Ranker against both beats the encoder as given" in page
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(evidence / "rankgen.json")]) == 0
    assert (tmp_path / "runs" / "rankgen-evidence" / "report.html").read_text(encoding="utf-8") == page
    capsys.readouterr()
    files = [str(evidence / f"align-with-purpose{name}.json") for name in ("", "-residual")]
    assert main(["compare", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differs"]["encoder"] == {"a": "conv", "b": "residual"}
    assert round(found["arms"]["ctc"]["delay_ms"]["change"]) == -555
    assert main(["report", "no-such.json"]) == 1
    assert "no-such.json: no such file" in capsys.readouterr().err


def test_show_prints_the_citation(capsys: pytest.CaptureFixture) -> None:
    assert main(["show", "align-with-purpose", "--bibtex"]) == 0
    assert capsys.readouterr().out.startswith("@inproceedings{segev2024align,")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["lsit"], 2, "did you mean 'list'"),
        (["show", "align-with-purpos"], 2, "did you mean 'align-with-purpose'"),
        (["run", "align-with-purpose", "--preset", "dmeo"], 2, "did you mean 'demo'"),
        (["fetch", "fsd"], 2, "did you mean 'fsdd'"),
        (["report", "no/such/run"], 1, "no/such/run"),
        ([], 2, ""),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_an_unknown_flag_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "align-with-purpose", "--wieght", "1"])
    assert stopped.value.code == 2


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="no method"):
        main(["show", "nothing", "--debug"])


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert "fsdd" in found["assets"]
    assert main(["doctor"]) == 0
    assert "fsdd" in capsys.readouterr().out
