"""Progress of a run: bars for a person, a line for each piece where a file reads along."""

import pytest

from kilter.lab.metrics import Metric
from kilter.lab.progress import TELL, bars

METRICS = {"wer": Metric("Word error rate", "%", digits=1), "delay": Metric("Delay", "ms", digits=1)}
PIECES = [("ctc", 0), ("ctc", 1)]


def finish() -> None:
    with bars(PIECES) as bar:
        for n, piece in enumerate(PIECES):
            bar[piece].advance(3, 10)
            bar[piece].done({"wer": 12.5 + n, "delay": 80.0}, METRICS)


def test_a_file_gets_a_line_for_each_piece(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TELL, raising=False)
    finish()
    assert capsys.readouterr().err.splitlines() == [
        "ctc, seed 0, 1 of 2 done: 12.5 %, 80.0 ms",
        "ctc, seed 1, 2 of 2 done: 13.5 %, 80.0 ms",
    ]


def test_a_piece_beside_others_tells_and_draws_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TELL, "1")
    finish()
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"{TELL} 3 10 steps"] * 2
    assert told.err == ""
