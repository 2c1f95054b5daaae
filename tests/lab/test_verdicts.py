"""Verdicts as sentences: the arms by their labels, as short as tells them apart, and grammar."""

import pytest

from kilter.core.paper import Claim
from kilter.lab.metrics import Metric
from kilter.lab.verdicts import sentence

METRICS = {
    "oracle": Metric("Oracle@20", "BLEU", "higher", 2),
    "wer": Metric("Word error rate", "%", "lower", 2),
    "distinct": Metric("Distinct 4-grams", "%", "higher", 1),
}
LABELS = {
    "given": "The encoder as given (cosine), best of the samples",
    "both": "Ranker against both, best of the samples",
    "blocks": "Ranker against both, search in blocks",
    "nucleus": "Nucleus sampling, not ranked",
    "ctc": "CTC only, the same extra steps",
    "residual": "CTC only, residual connections",
    "awp": "AWP 1.5 falling to 0",
    "peak": "Peak-First 0.01",
    "bayes": "Bayes risk 20",
}


@pytest.mark.parametrize(
    ("arm", "baseline", "said"),
    [
        ("both", "given", "Ranker against both beats the encoder as given"),  # the same after the comma
        ("both", "nucleus", "Ranker against both, best of the samples, beats nucleus sampling"),
        ("blocks", "both", "Ranker against both, search in blocks, beats ranker against both, best of the samples,"),
        ("awp", "ctc", "AWP 1.5 falling to 0 beats CTC only, the same extra steps,"),  # there are two of CTC only
        ("awp", "peak", "AWP 1.5 falling to 0 beats Peak-First 0.01"),
        ("awp", "bayes", "AWP 1.5 falling to 0 beats Bayes risk 20"),
        ("peak", "awp", "Peak-First 0.01 beats AWP 1.5 falling to 0"),
    ],
)
def test_arms_are_called_by_their_labels(arm: str, baseline: str, said: str) -> None:
    assert sentence(Claim("oracle", "higher", baseline, arm), METRICS, LABELS) == f"{said} at oracle@20"


def test_a_label_is_cut_where_no_other_begins_so() -> None:
    few = {name: LABELS[name] for name in ("ctc", "awp")}
    assert sentence(Claim("wer", "lower", "ctc", "awp"), METRICS, few) == (
        "AWP 1.5 falling to 0 beats CTC only at word error rate"
    )


def test_what_both_have_in_common_is_said_where_others_have_it_not() -> None:
    stars = {"last": "Head last", "first": "Head first", "few-last": "Head last, few", "few-first": "Head first, few"}
    assert sentence(Claim("wer", "lower", "few-last", "few-first"), METRICS, stars) == (
        "Head first beats head last at word error rate (few)"
    )
    assert sentence(Claim("wer", "lower", "last", "first"), METRICS, stars) == (
        "Head first beats head last at word error rate"
    )


def test_sizes_and_guards_stand_in_the_sentence() -> None:
    claim = Claim("wer", "lower", "ctc", "awp", by=1.5, guard=("oracle", 0.25))
    assert sentence(claim, METRICS, LABELS) == (
        "AWP 1.5 falling to 0 beats CTC only, the same extra steps, by at least 1.5 points at word error rate, with a "
        "oracle@20 no more than 0.25 BLEU worse"
    )
    claim = Claim("distinct", "higher", "nucleus", "both", times=1.5)
    assert sentence(claim, METRICS, LABELS) == (
        "Ranker against both, best of the samples, has at least 1.5 times the distinct 4-grams of nucleus sampling"
    )


@pytest.mark.parametrize(("by", "said"), [(-1.0, "1 point"), (-0.5, "0.5 points")])
def test_what_is_to_be_equal_may_be_so_far_behind(by: float, said: str) -> None:
    found = sentence(Claim("distinct", "higher", "ctc", "awp", by=by), METRICS, LABELS)
    assert found == (
        f"AWP 1.5 falling to 0 is no more than {said} behind CTC only, the same extra steps, at distinct 4-grams"
    )
