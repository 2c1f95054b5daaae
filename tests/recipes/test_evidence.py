"""Check 10 of Align With Purpose, on the recorded evidence: what the weight does, and that the control stays put."""

import json
from pathlib import Path

import pytest

from kilter.data.catalogue import ASSETS

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


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_verdicts_say_the_figures_that_are_kept(file: Path) -> None:
    """Each names the arms it compares and quotes their difference, or can be had from every seed's figures."""
    record = read(file.stem)
    tried = [found for found in record["verdicts"] if "metric" in found]
    for found in tried:
        metric, arm, baseline = record["metrics"][found["metric"]], found["arm"], found["baseline"]
        assert found["claim"].startswith(record["arms"][arm]["label"].split(",")[0])
        if "times" in found:
            continue  # of the inputs, which are not kept
        if baseline == record["baseline"]:
            change = record["differences"][arm][found["metric"]]["mean"]
            assert f" {change:+.{metric['digits']}f} ".replace("-", "−") in found["why"]
        elif "interval over the seeds" in found["why"]:
            ours, theirs = (record["per_seed"][one] for one in (arm, baseline))
            change = sum(ours[seed][found["metric"]] - theirs[seed][found["metric"]] for seed in ours) / len(ours)
            assert f" {change:+.{metric['digits']}f} ".replace("-", "−") in found["why"]
    assert tried


def test_data_are_those_that_the_assets_pin() -> None:
    """A digest that is kept is of the manifest of today, where there is one: the same data can be had again."""
    pinned = {asset.title: asset for asset in ASSETS.values()}
    records = [read(file.stem) for file in FOLDER.glob("*.json")]
    for record in records:
        asset = pinned[record["data"]["title"]]
        assert record["data"]["digest"] == asset.digest() or (record["data"]["digest"] and not asset.digest())
        assert record["data"]["subject"] == asset.subject
    assert any(record["data"]["digest"] for record in records)


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
