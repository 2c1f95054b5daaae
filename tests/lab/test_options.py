"""Bounds stand beside the option, and every message names the option and what it got."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from kilter.lab.options import NOT_NEGATIVE, above, at_least, check_bounds, share
from kilter.recipes import every


@dataclass
class Options:
    steps: Annotated[int, at_least(1)] = 1
    rate: Annotated[float | None, above(0)] = None
    top_p: Annotated[float, above(0, 1)] = 0.9
    start: Annotated[float | None, share()] = None
    dropout: Annotated[float, share(whole=False)] = 0.0
    pairs: Annotated[int, NOT_NEGATIVE] = 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"rate": 0.0}, "rate must be above 0, got 0.0"),
        ({"rate": float("nan")}, "rate must be above 0, got nan"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
        ({"start": 1.1}, "start is a share between 0 and 1, got 1.1"),
        ({"dropout": 1.0}, "dropout is a share from 0 to below 1, got 1.0"),
        ({"pairs": -1}, "pairs must not be negative, got -1"),
    ],
)
def test_what_does_not_fit_is_named(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_bounds(Options(**given))


def test_what_fits_passes() -> None:
    check_bounds(Options())
    check_bounds(Options(steps=1, rate=1e-9, top_p=1.0, start=0.0, dropout=0.99, pairs=0))


@pytest.mark.parametrize("recipe", every(), ids=lambda recipe: recipe.__name__)
def test_every_preset_is_within_bounds(recipe: type) -> None:
    for settings in recipe.presets.values():
        check_bounds(recipe(**settings))
