"""Check 10 of Align With Purpose, on the recorded evidence: what the weight does, and that the control stays put."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "evidence"
WEIGHTS = ["awp-0.5+constant", "awp-1+constant", "awp-1.5+constant", "awp-2+constant", "awp-3+constant"]
RIVALS = ["peak-first", "trim-tail", "awp+trim-tail", "delay-penalty", "bayes-risk"]


def read(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def record() -> dict:
    return read("align-with-purpose")


def mean(record: dict, arm: str, metric: str) -> float:
    return record["arms"][arm]["metrics"][metric]["mean"]


@pytest.mark.parametrize("file", sorted(FOLDER.glob("align-with-purpose*.json")), ids=lambda file: file.stem)
def test_it_has_five_seeds_of_every_arm_on_recordings(file: Path) -> None:
    record = read(file.stem)
    assert not record["data"]["synthetic"]
    assert all(len(arm["seeds"]) >= 5 for arm in record["arms"].values())
    assert record["command"].startswith("kilter run align-with-purpose")
    assert record["verdicts"]


@pytest.mark.parametrize("name", ["align-with-purpose", "align-with-purpose-residual"])
def test_every_rival_was_run_beside_five_weights_and_one_that_falls(name: str) -> None:
    assert {"ctc", "awp", *WEIGHTS, *RIVALS} <= read(name)["arms"].keys()


def test_more_weight_means_earlier_words(record: dict) -> None:
    delays = [mean(record, arm, "delay_ms") for arm in ("ctc", *WEIGHTS)]
    assert delays == sorted(delays, reverse=True)


def test_errors_rise_slowly_with_the_weight(record: dict) -> None:
    errors = [mean(record, arm, "wer") for arm in ("ctc", *WEIGHTS)]
    assert errors[0] < errors[-1] < errors[0] + 3


def test_extra_steps_of_ctc_alone_do_not_move_the_words(record: dict) -> None:
    assert abs(mean(record, "ctc", "delay_ms") - mean(record, "warm-up", "delay_ms")) <= 20


def test_words_come_a_tenth_of_a_second_earlier_for_half_a_point_at_most(record: dict) -> None:
    difference = record["differences"]["awp"]
    assert difference["delay_ms"]["mean"] <= -100
    assert difference["wer"]["mean"] <= 0.5
