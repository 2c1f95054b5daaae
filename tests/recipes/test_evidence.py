"""Check 10 of Align With Purpose, on the recorded evidence: what the weight does, and that the control stays put."""

import json
from pathlib import Path

import pytest

from kilter.data.assets import ASSETS, Located, credit_of
from kilter.data.catalogue import BETWEEN
from kilter.data.tables import TABLES
from kilter.tasks.language_modelling.sources import LOOK_UPS
from kilter.tasks.ordering.sources import NUMBERS
from kilter.tasks.set_likelihood.stars import STARS

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
    records = [read(file.stem) for file in FOLDER.glob("*.json")]
    for record in records:
        check_pinned(record["data"])
    assert any(record["data"]["digest"] for record in records)


def check_pinned(data: dict) -> None:
    """Data of one asset, or of several whose titles stand in a row."""
    if data["title"] in {one.title for one in (LOOK_UPS, NUMBERS, STARS)}:
        return  # what a seed makes
    if data["title"].startswith(tuple(f"{name}, a table of scikit-learn" for name in TABLES)):
        return  # of the library that is installed
    titled = {asset.title: asset for asset in ASSETS.values()}
    unknown = [title for title in data["title"].split(BETWEEN) if title not in titled]
    assert not unknown, f"no asset is called {unknown}; there are {[*titled]}"
    assets = [titled[title] for title in data["title"].split(BETWEEN)]
    today = credit_of(Located(asset, Path(), "") for asset in assets)
    assert data["subject"] == today["subject"]
    if all(asset.manifest for asset in assets):
        assert data["digest"] == today["digest"]
    else:  # what is fetched has the digest of its day, and what is fetched without one has none
        assert data["digest"] or not today["digest"]


def test_data_of_several_assets_are_checked_each() -> None:
    located = [Located(ASSETS[name], Path(), "the cache") for name in ("books", "wikitext2")]
    data = credit_of(located)
    check_pinned(data)
    with pytest.raises(AssertionError):
        check_pinned({**data, "digest": ASSETS["books"].digest()})
    with pytest.raises(AssertionError, match="somebody's texts"):
        check_pinned({**data, "title": f"{data['title']}; somebody's texts"})
    unpinned = Located(ASSETS["debian-documentation"], Path(), "the cache", digest="of a day")
    check_pinned(credit_of([unpinned, *located]))


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
