"""From pieces of work to verdicts: pairing, intervals, and the four words a verdict may be."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kilter.core.paper import Claim
from kilter.lab.arms import Arm
from kilter.lab.metrics import RATE, SHARE, Metric
from kilter.lab.summary import Arms, summarise
from kilter.lab.verdicts import front, judge

METRICS = {"delay_ms": Metric("Delay", "ms", "lower", 0), "wer": Metric("Word error rate", "%", "lower", 2)}
CLAIM = Claim("delay_ms", "lower", baseline="ctc", arm="awp", by=150.0, guard=("wer", 0.5))


def arms(folder: Path, figures: dict[str, dict[str, list[float]]]) -> Arms:
    """Arms whose seeds have these figures; each seed's three utterances share them out unevenly."""
    pieces: dict[str, dict[int, Path]] = {}
    for arm, metrics in figures.items():
        for seed, values in enumerate(zip(*metrics.values(), strict=True)):
            piece = folder / arm / str(seed)
            piece.mkdir(parents=True)
            found = dict(zip(metrics, values, strict=True))
            (piece / "metrics.json").write_text(json.dumps(found))
            shares = [{"wer": [found["wer"] * k / 100, k], "delay_ms": [found["delay_ms"] * k, k]} for k in (1, 2, 3)]
            (piece / "utterances.jsonl").write_text("".join(json.dumps({"totals": row}) + "\n" for row in shares))
            pieces.setdefault(arm, {})[seed] = piece
    return Arms(pieces, METRICS, "ctc")


def two(folder: Path, delays: list[float], errors: list[float]) -> Arms:
    """A control at 380 ms and 1 %, and a method that differs by so much."""
    count = len(delays)
    noise = [0.0, 3.0, -2.0, 1.0, 2.0][:count]
    ctc = {"delay_ms": [380.0 + n for n in noise], "wer": [1.0] * count}
    awp = {"delay_ms": [380.0 + n + d for n, d in zip(noise, delays, strict=True)], "wer": [1.0 + e for e in errors]}
    return arms(folder, {"ctc": ctc, "awp": awp})


@pytest.mark.parametrize(
    ("delays", "errors", "verdict"),
    [
        ([-200, -210, -195, -205, -190], [0.1, 0.0, 0.1, 0.2, 0.1], "holds"),
        ([-200, -210, -195], [0.1, 0.0, 0.1], "holds in direction"),  # too few seeds
        ([-120, -130, -125, -118, -122], [0.1, 0.0, 0.1, 0.2, 0.1], "holds in direction"),  # too small
        ([-200, -210, -195, -205, -190], [0.9, 0.8, 1.0, 0.7, 0.9], "holds in direction"),  # the guard gives way
        ([-40, 60, 10, -30, 5], [0.0, 0.0, 0.1, 0.0, 0.0], "not seen here"),
        ([50, 60, 55, 52, 58], [0.0, 0.0, 0.1, 0.0, 0.0], "contradicted"),
    ],
)
def test_verdicts(delays: list[float], errors: list[float], verdict: str, tmp_path: Path) -> None:
    found = judge(CLAIM, two(tmp_path, delays, errors))
    assert found is not None
    assert found["verdict"] == verdict
    assert found["claim"] == (
        "awp beats ctc by at least 150 ms at delay, with a word error rate no more than 0.5 points worse"
    )
    assert found.items() >= CLAIM.key.items()


@pytest.mark.parametrize(
    ("delays", "verdict"),
    [
        ([10, 20, 15, 12, 18], "holds"),
        ([10, 20, 15], "holds in direction"),  # too few seeds
        ([-20, 320, 90, 10, 200], "not seen here"),  # it may be further behind
        ([250, 260, 255, 252, 258], "contradicted"),
    ],
)
def test_what_is_no_more_than_so_far_behind_counts_as_equal(delays: list[float], verdict: str, tmp_path: Path) -> None:
    found = judge(Claim("delay_ms", "lower", "ctc", "awp", by=-150.0), two(tmp_path, delays, [0.0] * len(delays)))
    assert found is not None
    assert (found["verdict"], found["claim"]) == (verdict, "awp is no more than 150 ms behind ctc at delay")


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    delays = [-200.0, -210.0, -190.0, -205.0, -195.0]
    found = two(tmp_path, delays, [0.0] * 5).difference("awp", "delay_ms")
    expected = stats.ttest_1samp(delays, 0).confidence_interval(0.95)
    assert found is not None
    np.testing.assert_allclose((found.mean, found.low, found.high), (-200.0, expected.low, expected.high))


def test_one_seed_is_judged_by_utterances_and_says_so(tmp_path: Path) -> None:
    one = two(tmp_path, [-200.0], [0.5])
    assert "bootstrap" in one.interval_name()
    found = one.difference("awp", "wer")
    assert found is not None
    assert found.mean == pytest.approx(0.5)


def test_seeds_only_one_arm_has_are_left_out_of_its_differences(tmp_path: Path) -> None:
    figures = {
        "ctc": {"delay_ms": [380.0, 380.0], "wer": [1.0, 1.0]},
        "awp": {"delay_ms": [200.0, 210.0, 900.0], "wer": [1.0, 1.0, 1.0]},
    }
    found = arms(tmp_path, figures).difference("awp", "delay_ms")
    assert found is not None
    assert found.mean == pytest.approx(-175.0)


def test_a_claim_the_run_cannot_speak_to_has_no_verdict(tmp_path: Path) -> None:
    found = arms(tmp_path, {"ctc": {"delay_ms": [380.0], "wer": [1.0]}})
    assert judge(CLAIM, found) is None
    described = {"ctc": Arm("CTC", "baseline")}
    summary = summarise(found, [CLAIM], described)
    assert summary["verdicts"] == []
    assert summary["differences"] == {}


def rivals(folder: Path, shift: list[float], errors: float) -> Arms:
    noise = [0.0, 3.0, -2.0, 1.0, 2.0]
    awp = {"delay_ms": [200.0 + n for n in noise], "wer": [1.0] * 5}
    rival = {"delay_ms": [200.0 + n + s for n, s in zip(noise, shift, strict=True)], "wer": [1.0 + errors] * 5}
    return arms(folder, {"ctc": {"delay_ms": [380.0] * 5, "wer": [0.5] * 5}, "awp": awp, "rival": rival})


@pytest.mark.parametrize(
    ("shift", "errors", "verdict"),
    [
        ([-50.0, -52.0, -49.0, -51.0, -48.0], 0.3, "holds in direction"),  # earlier, but more errors
        ([50.0, 52.0, 49.0, 51.0, 48.0], -0.3, "holds in direction"),  # fewer errors, but later
        ([-50.0, -52.0, -49.0, -51.0, -48.0], -0.1, "contradicted"),  # better in both, for sure
        ([-90.0, 80.0, -50.0, 50.0, -10.0], -0.1, "not seen here"),  # better in both, perhaps
    ],
)
def test_the_front_of_two_metrics(shift: list[float], errors: float, verdict: str, tmp_path: Path) -> None:
    found = front(rivals(tmp_path, shift, errors), "delay_ms", "wer", ["awp"], ["rival"], "AWP")
    assert found is not None
    assert found["verdict"] == verdict
    assert ("awp is behind rival" in found["why"]) == (verdict != "holds in direction")


def test_no_front_without_rivals(tmp_path: Path) -> None:
    assert front(two(tmp_path, [-1.0], [0.0]), "delay_ms", "wer", ["awp"], [], "AWP") is None


def test_intervals_may_be_over_examples_with_the_seeds_pooled(tmp_path: Path) -> None:
    """Three seeds that disagree widely, on examples that all say the same: the intervals tell which was asked for."""
    found = two(tmp_path, [-200.0, -100.0, -300.0], [0.5, 0.5, 0.5])
    pooled = Arms(found._folders, METRICS, "ctc", "examples")
    assert pooled.interval_name() == "95 % bootstrap over inputs, 3 seeds pooled"
    by_seeds, by_examples = (one.difference("awp", "delay_ms") for one in (found, pooled))
    assert by_seeds is not None
    assert by_examples is not None
    assert by_examples.mean == pytest.approx(by_seeds.mean) == pytest.approx(-200)
    assert by_examples.high == pytest.approx(-200)
    assert by_seeds.high is not None
    assert by_seeds.high > 0
    totals = pooled.pooled("ctc", "delay_ms", [0, 1, 2])
    assert totals is not None
    np.testing.assert_allclose(totals, [[k * 1141, 3 * k] for k in (1, 2, 3)])
    assert pooled.pooled("ctc", "no such metric", [0]) is None


def test_a_figure_without_totals_is_over_seeds_anyway(tmp_path: Path) -> None:
    found = two(tmp_path, [-200.0, -100.0, -300.0], [0.5, 0.5, 0.5])
    for file in tmp_path.rglob("utterances.jsonl"):
        file.write_text('{"totals": {}}\n')
    pooled = Arms(found._folders, METRICS, "ctc", "examples").difference("awp", "delay_ms")
    assert pooled == found.difference("awp", "delay_ms")


def judged(folder: Path, arms: dict[str, list[list[tuple[str, float]]]]) -> Arms:
    """Arms whose seeds were judged on these inputs, each with its error rate."""
    pieces: dict[str, dict[int, Path]] = {}
    for arm, seeds in arms.items():
        for seed, rows in enumerate(seeds):
            piece = folder / arm / str(seed)
            piece.mkdir(parents=True)
            (piece / "metrics.json").write_text(json.dumps({"wer": sum(v for _, v in rows) / len(rows)}))
            lines = [json.dumps({"input": name, "totals": {"wer": [value, 1]}}) for name, value in rows]
            (piece / "utterances.jsonl").write_text("\n".join(lines) + "\n")
            pieces.setdefault(arm, {})[seed] = piece
    return Arms(pieces, METRICS, "ctc", "examples")


SEEDS = [[("a", 1.0), ("b", 2.0), ("a", 4.0)], [("b", 8.0), ("c", 16.0)], [("d", 32.0)]]
"""An input twice in a seed, one in two seeds, and a seed with none of the others'."""


def test_the_rows_and_seeds_of_an_input_are_summed_up(tmp_path: Path) -> None:
    totals = judged(tmp_path, {"ctc": SEEDS}).pooled("ctc", "wer", [0, 1, 2])
    assert totals is not None
    np.testing.assert_array_equal(totals, [[5, 2], [10, 2], [16, 1], [32, 1]])


def test_arms_are_paired_by_input_whatever_the_order(tmp_path: Path) -> None:
    """The arm is one worse on every row: so is every resample, if and only if inputs meet their own."""
    worse = [[(name, value + 1) for name, value in reversed(rows)] for rows in SEEDS]
    found = judged(tmp_path, {"ctc": SEEDS, "awp": worse})
    pair = found.paired("awp", "ctc", "wer", [0, 1, 2])
    assert pair is not None
    np.testing.assert_array_equal(pair[0] - pair[1], [[2, 0], [2, 0], [1, 0], [1, 0]])
    change = found.difference("awp", "wer")
    assert change is not None
    assert (change.mean, change.low, change.high) == pytest.approx((100, 100, 100))


@pytest.mark.parametrize("other", [[("a", 1.0), ("e", 2.0)], [("a", 1.0)]])
def test_arms_judged_on_other_inputs_are_not_paired(other: list[tuple[str, float]], tmp_path: Path) -> None:
    found = judged(tmp_path, {"ctc": [[("a", 1.0), ("b", 2.0)]], "awp": [other]})
    with pytest.raises(ValueError, match=r"awp and ctc were judged on different inputs .* e\.g\. '[be]'"):
        found.difference("awp", "wer")
    assert found.value("awp", "wer") is not None


def test_an_interval_over_seeds_ends_where_its_metric_can(tmp_path: Path) -> None:
    """A share near the whole, an error rate near nought: of Student's interval only what can be is left."""
    metrics = {"early": Metric("Early", "%", "higher", 1, SHARE), "wer": Metric("Errors", "%", "lower", 2, RATE)}
    figures = {"ctc": {"early": [99.0, 90.0, 100.0], "wer": [0.0, 0.1, 3.0]}}
    pieces: dict[str, dict[int, Path]] = {"ctc": {}}
    for seed in range(3):
        (folder := tmp_path / str(seed)).mkdir()
        (folder / "metrics.json").write_text(json.dumps({name: row[seed] for name, row in figures["ctc"].items()}))
        pieces["ctc"][seed] = folder
    free = Arms(pieces, {name: Metric(found.label, found.unit) for name, found in metrics.items()}, "ctc")
    held = Arms(pieces, metrics, "ctc")
    for name, (low, high) in {"early": (None, 100.0), "wer": (0.0, None)}.items():
        before, after = free.value("ctc", name), held.value("ctc", name)
        assert before is not None
        assert after is not None
        assert after.mean == before.mean
        assert after.low == (before.low if low is None else low)
        assert after.high == (before.high if high is None else high)
        assert (before.low, before.high) != (after.low, after.high)
