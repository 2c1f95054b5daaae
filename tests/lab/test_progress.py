"""Progress of a run: bars for a person, a line for each piece where a file reads along."""

import pytest

from kilter.lab.metrics import Metric
from kilter.lab.progress import TELL, bars, told

METRICS = {"wer": Metric("Word error rate", "%", digits=1), "delay": Metric("Delay", "ms", digits=1)}
PIECES = [("ctc", 0), ("ctc", 1)]


def finish() -> None:
    told("runs/ctc: reading the data")
    with bars(PIECES) as bar:
        for n, piece in enumerate(PIECES):
            bar[piece].advance(0, 10)
            bar[piece].advance(3, 10)
            bar[piece].done({"wer": 12.5 + n, "delay": 80.0}, METRICS)


def test_a_file_gets_a_line_for_each_piece(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TELL, raising=False)
    finish()
    assert capsys.readouterr().err.splitlines() == [
        "runs/ctc: reading the data",
        "ctc, seed 0, has begun, 10 steps",
        "ctc, seed 0, 1 of 2 done: wer 12.5 %, delay 80.0 ms",
        "ctc, seed 1, has begun, 10 steps",
        "ctc, seed 1, 2 of 2 done: wer 13.5 %, delay 80.0 ms",
    ]


def test_an_arm_is_called_as_its_recipe_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TELL, raising=False)
    with bars(PIECES[:1], {"ctc": "Plain CTC"}.__getitem__) as bar:
        bar[PIECES[0]].done({"wer": 12.5}, METRICS)
    assert capsys.readouterr().err == "Plain CTC, seed 0, 1 of 1 done: wer 12.5 %\n"


def test_a_piece_beside_others_tells_and_draws_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TELL, "1")
    finish()
    found = capsys.readouterr()
    assert found.out.splitlines() == [f"{TELL} 0 10 steps", f"{TELL} 3 10 steps"] * 2
    assert found.err == ""
