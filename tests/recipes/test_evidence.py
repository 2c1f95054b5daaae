"""Check 10 of Align With Purpose, on the recorded evidence: what the weight does, and that the control stays put."""

import json
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "evidence" / "align-with-purpose.json"


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


def mean(record: dict, arm: str, metric: str) -> float:
    return record["arms"][arm]["metrics"][metric]["mean"]


def test_it_has_five_seeds_of_every_arm_on_recordings(record: dict) -> None:
    assert not record["data"]["synthetic"]
    assert all(len(arm["seeds"]) >= 5 for arm in record["arms"].values())
    assert record["command"].startswith("kilter run align-with-purpose")


def test_more_weight_means_earlier_words(record: dict) -> None:
    delays = [mean(record, arm, "delay_ms") for arm in ("ctc", "awp-1", "awp", "awp-2")]
    assert delays == sorted(delays, reverse=True)


def test_extra_steps_of_ctc_alone_do_not_move_the_words(record: dict) -> None:
    assert abs(mean(record, "ctc", "delay_ms") - mean(record, "warm-up", "delay_ms")) <= 20


def test_words_come_a_tenth_of_a_second_earlier_for_half_a_point_at_most(record: dict) -> None:
    difference = record["differences"]["awp"]
    assert difference["delay_ms"]["mean"] <= -100
    assert difference["wer"]["mean"] <= 0.5
