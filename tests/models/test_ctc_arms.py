"""Arms by name: what they train with, what they are called, and names that make no sense."""

import pytest

from kilter.models.ctc_arms import STRENGTHS, CTCArm


@pytest.mark.parametrize(
    ("name", "terms", "encoder", "constant"),
    [
        ("ctc", {}, None, False),
        ("awp", {"awp": 1.0}, None, False),
        ("awp-0.5+constant", {"awp": 0.5}, None, True),
        ("peak-first-0.003", {"peak-first": 0.003}, None, False),
        ("awp-2+trim-tail-30", {"awp": 2.0, "trim-tail": 30.0}, None, False),
        ("residual", {}, "residual", False),
        ("gru+bayes-risk-20", {"bayes-risk": 20.0}, "gru", False),
        ("trim-tail", {"trim-tail": 50.0}, None, False),
    ],
)
def test_names(name: str, terms: dict[str, float], encoder: str | None, constant: bool) -> None:
    assert CTCArm.parse(name, STRENGTHS) == CTCArm(terms, encoder, constant)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cts", "unknown part 'cts'"),
        ("awp-", "unknown part 'awp-'"),
        ("awp+ctc", "unknown part 'ctc'"),
        ("awp+awp-2", "unknown part 'awp-2'"),
        ("", "unknown part ''"),
        ("awp+peak-first", "2 losses"),
        ("trim-tail+constant", "could fall"),
        ("bayes-risk+constant", "could fall"),
        ("residual+gru", "unknown part 'gru'"),
        ("awp-0", "plain CTC"),
        ("trim-tail-20.5", "whole number"),
    ],
)
def test_names_that_make_no_sense(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CTCArm.parse(name, STRENGTHS)


def test_labels_and_series() -> None:
    def label(name: str) -> str:
        return CTCArm.parse(name, STRENGTHS).label(falling=True)

    assert label("ctc") == "CTC only"
    assert label("residual") == "CTC only, residual connections"
    assert label("awp-2") == "AWP 2 falling to 0"
    assert label("awp-2+constant") == "AWP 2"
    assert label("awp+trim-tail") == "AWP 1 falling to 0 + TrimTail 50"
    assert label("bayes-risk") == "Bayes risk 20"
    series = [CTCArm.parse(name, STRENGTHS).series(falling=True) for name in ("awp-2", "awp-2+constant", "residual")]
    assert series == [("awp, falling", "2"), ("awp", "2"), ("", "")]


@pytest.mark.parametrize("term", ["awp", "peak-first", "delay-penalty", "bayes-risk", "mwer"])
def test_every_loss_can_be_made(term: str) -> None:
    pytest.importorskip("transformers")
    from kilter.core.objective import Objective
    from kilter.models.recogniser import Recogniser
    from kilter.speech import AlignWithPurpose, LowLatency

    recogniser = Recogniser.small(("one", "two"), "conv", 8000)
    made = CTCArm.parse(term, STRENGTHS).objective(recogniser, AlignWithPurpose(LowLatency()))
    assert isinstance(made, Objective)
    nothing = CTCArm.parse(term, STRENGTHS | {term: 0.0})
    assert nothing.objective(recogniser, AlignWithPurpose(LowLatency())) is None
