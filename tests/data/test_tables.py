"""scikit-learn's tables: what they hold, domains by rank, and a linear model that learns from one."""

import sys

import pytest
import torch

pytest.importorskip("sklearn")

from kilter.data.tables import TABLES, load_table, quantile_domains

SHAPES = {"breast_cancer": (569, 30), "diabetes": (442, 10), "digits": (1797, 64), "iris": (150, 4), "wine": (178, 13)}


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_standardised_and_named(name: str) -> None:
    features, targets, names = load_table(name)
    assert features.shape == SHAPES[name] == (len(targets), len(names))
    assert features.mean(0).abs().max() < 1e-5
    spread = features.std(0, correction=0)
    assert ((spread - 1).abs().lt(1e-4) | spread.eq(0)).all()  # digits have corners without ink
    assert features.dtype == targets.dtype == torch.float32


def test_domains_are_ranks_in_a_column() -> None:
    features, _, names = load_table("diabetes")
    column = features[:, names.index("bmi")]
    domains = quantile_domains(column, 4)
    assert sorted(domains.bincount().tolist()) == [110, 110, 111, 111]
    for low, high in ((0, 1), (1, 2), (2, 3)):
        assert column[domains == low].max() <= column[domains == high].min()


def test_a_linear_model_learns_from_a_table_and_best_from_the_domain_it_is_judged_on() -> None:
    features, targets, names = load_table("diabetes")
    domains = quantile_domains(features[:, names.index("bmi")], 2)
    inputs = torch.cat([features, torch.ones(len(features), 1)], 1)

    def error(learnt: torch.Tensor, judged: torch.Tensor) -> float:
        weights = torch.linalg.lstsq(inputs[learnt], targets[learnt, None], driver="gelsd").solution
        return float((inputs[judged] @ weights - targets[judged, None]).square().mean())

    everywhere = torch.ones_like(targets, dtype=torch.bool)
    assert error(everywhere, everywhere) == pytest.approx(2859.7, abs=0.5)  # what scikit-learn's own regression has
    assert error(domains == 0, domains == 0) < error(domains == 1, domains == 0)


def test_a_table_that_there_is_not_domains_that_do_not_fit_and_no_scikit_learn(monkeypatch) -> None:
    with pytest.raises(ValueError, match="no table 'boston' that is read here; there are: breast_cancer"):
        load_table("boston")
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count={count} must be from 1 to the number of rows, 2"):
            quantile_domains(torch.zeros(2), count)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"sklearn.* is missing: .*pretraining"):
        load_table("iris")
