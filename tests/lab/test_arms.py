"""Arms by name: parts, strengths, variants, words, and names that make no sense."""

import pytest

from kilter.lab.arms import Levers, Mixture, Term, UnknownPart


def loss(weight: float, *, compat: bool = False) -> Levers:
    return Levers(objective=lambda model: "compat" if compat else "loss", weight=weight)


TERMS = {
    "awp": Term("AWP {:g}", loss, usual=1.0, variants={"compat": ", as published"}),
    "peak-first": Term("Peak-First {:g}", lambda weight: Levers(objective=lambda model: "peak", weight=weight), 0.01),
    "trim": Term("Trim {:g}", lambda frames: Levers(rows=lambda rows, *_: rows), usual=50.0),
    "dbs": Term("DBS", lambda strength: Levers(decoder=("dbs", strength)), grid=(0.1, 0.2), at=", λ {:g}"),
    "wide": Term("wide network", lambda strength: Levers(options={"encoder": "wide"}), after=True),
    "gru": Term("GRU", lambda strength: Levers(options={"encoder": "gru"}), after=True),
}


def parse(name: str) -> Mixture:
    return Mixture.parse(name, TERMS, plain="ctc", words={"constant"})


@pytest.mark.parametrize(
    ("name", "label", "pulled"),
    [
        ("ctc", "CTC only", ()),
        ("awp", "AWP 1", ("objective",)),
        ("awp-0.5+constant", "AWP 0.5", ("objective",)),
        ("awp-2+compat", "AWP 2, as published", ("objective",)),
        ("awp+trim-30", "AWP 1 + Trim 30", ("objective", "rows")),
        ("wide", "CTC only, wide network", ("options",)),
        ("gru+peak-first-0.003", "Peak-First 0.003, GRU", ("objective", "options")),
        ("dbs", "DBS", ("decoder",)),
        ("dbs-0.5", "DBS, λ 0.5", ("decoder",)),
    ],
)
def test_names(name: str, label: str, pulled: tuple[str, ...]) -> None:
    found = parse(name)
    assert found.label("CTC only") == label
    assert set(found.levers().pulled()) == set(pulled)


def test_what_is_said_of_a_term_stands_before_its_variants() -> None:
    label = parse("awp+compat+trim").label("", lambda part: " falling")
    assert label == "AWP 1 falling, as published + Trim 50 falling"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cts", "unknown part 'cts'"),
        ("awp-", "unknown part 'awp-'"),
        ("awp--1", "unknown part 'awp--1'"),
        ("awp+ctc", "ctc is the arm with nothing joined to it"),
        ("awp+awp-2", "has awp twice"),
        ("awp\n", "unknown part"),
        ("awp+compat+compat", "unknown part 'compat'"),
        ("trim+compat", "unknown part 'compat'"),
        ("constant+constant", "unknown part 'constant'"),
        ("", "unknown part ''"),
        ("wide-2", "unknown part 'wide-2'"),
        ("awp+peak-first", "2 losses \\(awp, peak-first\\)"),
        ("wide+gru", "2 networks"),
    ],
)
def test_names_that_make_no_sense(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(name)


def test_options_join_where_they_are_of_different_settings() -> None:
    terms = {
        "wide": Term("wide", lambda strength: Levers(options={"hidden_size": 512})),
        "slow": Term("slow", lambda strength: Levers(options={"learning_rate": 1e-5})),
    }
    found = Mixture.parse("wide+slow", terms, plain="ctc")
    assert found.levers().options == {"hidden_size": 512, "learning_rate": 1e-5}


def test_an_unknown_part_can_be_asked_of_others() -> None:
    with pytest.raises(UnknownPart) as caught:
        parse("awp+fast-emit-0.1")
    assert caught.value.part == "fast-emit-0.1"


def test_the_weight_is_that_of_the_loss_wherever_it_stands() -> None:
    for name in ("awp-3+trim", "trim+awp-3"):
        levers = parse(name).levers()
        assert levers.weight == 3
        assert levers.beside
        assert levers.objective
        assert levers.objective(None) == "loss"


def test_a_variant_reaches_the_maker() -> None:
    objective = parse("trim+awp+compat").levers().objective
    assert objective
    assert objective(None) == "compat"


def test_a_strength_that_was_chosen_is_for_what_has_a_grid() -> None:
    assert parse("dbs").levers(0.2).decoder == ("dbs", 0.2)
    assert parse("dbs-0.5").levers().decoder == ("dbs", 0.5)
    assert parse("awp").levers(0.2).weight == 1.0


def test_only_one_part_with_a_strength_is_a_series() -> None:
    assert [part and (part.full_name, part.strength) for name in ("awp-2", "awp+compat", "awp+trim", "wide", "ctc")
            for part in [parse(name).single()]] == [("awp", 2.0), ("awp+compat", 1.0), None, None, None]  # fmt: skip
