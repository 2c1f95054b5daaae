"""Pearson's correlation beside Spearman's: as scipy has it, and what each pair brings to it."""

import pytest
import torch
from scipy import stats

from kilter.evaluation.correlation import pearson, pearson_rows


def both(count: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.randn(2, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, 0.6 * x + 0.8 * y


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_pearson_is_scipys(scale: float) -> None:
    x, y = both()
    assert pearson(scale * x - 7 * scale, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-9)


def test_values_that_are_all_the_same_say_nothing() -> None:
    assert pearson([0.1] * 3, [1.0, 2.0, 3.0]) == 0
    with pytest.raises(ValueError, match="scores are all 2"):
        pearson([0.1, 0.2, 0.3], [2.0, 2.0, 2.0])


def test_the_rows_have_the_correlation_as_mean_and_its_error_as_spread() -> None:
    x, y = both(4000)
    rows, rho = pearson_rows(x, y), stats.pearsonr(x, y)[0]
    assert float(rows.mean()) == pytest.approx(rho, abs=1e-9)
    assert float(rows.std()) == pytest.approx(1 - rho**2, rel=0.1)  # of a bivariate normal
