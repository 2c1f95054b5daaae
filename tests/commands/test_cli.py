"""The command line: help that teaches at once, exit codes that mean something, JSON for programs."""

import importlib
import json
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import kilter.commands
from kilter.cli import commands, main
from kilter.core.paper import cards
from kilter.lab.evidence import claims_of

EVERY = [[name, "--help"] for name in commands()] + [
    ["--help"],
    *(["run", method, "--help"] for method in ("align-with-purpose", "diverse-beam-search", "rankgen")),
]


def run_alone(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_of_all_commands_costs_nothing() -> None:
    """0.15 s of CPU on a quiet machine; the best of three and twice that where others work too."""
    code = (
        f"import sys, time\nsys.path[:0] = {sys.path!r}\nfrom kilter.cli import main\nmain(['--help'])\n"
        "print([name for name in sys.modules if name.startswith(('tyro', 'rich', 'yaml', 'kilter.commands.'))])\n"
        "print(time.process_time())\n"
    )
    said = [run_alone(code).splitlines() for _ in range(3)]
    assert said[0][-2] == "[]"
    assert min(float(lines[-1]) for lines in said) < 0.3
    assert all(f"\n  {name:<10} " in "\n".join(said[0]) for name in commands())


def test_every_file_is_a_command() -> None:
    files = [file for file in Path(kilter.commands.__file__).parent.glob("*.py") if file.stem != "__init__"]
    assert {file.stem for file in files} == commands().keys()
    places = []
    for name, what in commands().items():
        module = importlib.import_module(f"kilter.commands.{name}")
        assert (module.__doc__ or "").startswith(f"kilter {name}: {what}.\n") or module.__doc__ == (
            f"kilter {name}: {what}."
        )
        assert hasattr(module, "main") or is_dataclass(module.COMMAND)
        places.append(module.PLACE)
    assert places == sorted({*places})


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_help_answers_without_heavy_imports(arguments: list[str]) -> None:
    code = (
        "import sys, time\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from kilter.cli import main\n"
        "try: main(" + repr(arguments) + ")\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'datasets', 'numpy', 'scipy', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "print('heavy:', heavy, 'seconds:', time.process_time())\n"
    )
    seconds = []
    while len(seconds) < 5 and min(seconds, default=1) >= 0.5:  # a heavy import is slow each time
        *text, measured = run_alone(code).strip().splitlines()
        assert "heavy: set()" in measured
        assert len(text) > 3
        seconds.append(float(measured.rsplit(" ", 1)[1]))
    assert min(seconds) < 0.5


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


def test_list_is_as_wide_as_the_terminal_and_not_tall(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 6 * len(cards())
    assert all(any(line.startswith(f"{card.slug} · {card.lever} · ") for line in lines) for card in cards().values())


def test_show_has_the_claims_of_the_paper_and_counts_our_own(capsys: pytest.CaptureFixture) -> None:
    card = cards()["seqpe"]
    assert main(["show", card.slug]) == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("  claim")] == [
        f"  claim    {claim.text}" for claim in card.claims
    ]
    ours = [line for line in claims_of(card) if line.claim not in {claim.text for claim in card.claims}]
    assert f"  beside   {len(ours)} comparisons that only our runs make: " in told


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
        (["align", "a.wav", "--model", "m", "--batch-size", "0"], 1, "batch_size must be at least 1, got 0"),
        (["__init__"], 2, "there is no command '__init__'"),
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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 17.1 MiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out_is_no_bug(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Where no batch is halved, as while a model is loaded."""
    import torch  # noqa: F401 (which says some of it)

    import kilter.cli

    def short(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(kilter.cli, "_dispatch", short)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == f"kilter: out of memory ({error}); free some, or choose another --device\n"
    error = RuntimeError("no kernel for this")
    assert main(["doctor"]) == 3
    assert "looks like a bug of ours" in capsys.readouterr().err


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
