"""Bounds stand beside the option, and every message names the option and what it got."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from kilter.lab.options import FINITE, NOT_NEGATIVE, above, at_least, check_bounds, from_file, share
from kilter.recipes import every


@dataclass
class Options:
    steps: Annotated[int, at_least(1)] = 1
    rate: Annotated[float | None, above(0)] = None
    top_p: Annotated[float, above(0, 1)] = 0.9
    start: Annotated[float | None, share()] = None
    dropout: Annotated[float, share(whole=False)] = 0.0
    pairs: Annotated[int, NOT_NEGATIVE] = 0
    penalty: Annotated[float, FINITE] = 0.0


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
        ({"rate": float("inf")}, "rate must be finite, got inf"),
        ({"penalty": float("nan")}, "penalty must be finite, got nan"),
    ],
)
def test_what_does_not_fit_is_named(given: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_bounds(Options(**given))


def test_what_fits_passes() -> None:
    check_bounds(Options())
    check_bounds(Options(steps=1, rate=1e-9, top_p=1.0, start=0.0, dropout=0.99, pairs=0))


@pytest.mark.parametrize("recipe", list(every()), ids=lambda recipe: recipe.__name__)
def test_every_preset_is_within_bounds(recipe: type) -> None:
    for settings in recipe.presets.values():
        check_bounds(recipe(**settings))


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float | None, "1e-3", 1e-3),
        (float | None, None, None),
        (Path | None, "here", Path("here")),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (Literal["a", "b"], "b", "b"),
        (dict[str, dict[str, Any]], {"other": {"weight": 1}}, {"other": {"weight": 1}}),
    ],
)
def test_a_file_gives_what_a_flag_would(hint: Any, value: Any, made: Any) -> None:
    found = from_file("option", value, hint)
    assert (found, type(found)) == (made, type(made))


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (int, "3", "a whole number, got '3'"),
        (int, 1.0, "a whole number, got 1.0"),
        (int, True, "a whole number, got True"),
        (int, None, "a whole number, got None"),
        (float | None, [1], "a number, got \\[1\\]"),
        (bool, 1, "true or false, got 1"),
        (str | None, 3, "a text, got 3"),
        (tuple[str, ...], "ctc", "a list of texts, got 'ctc'"),
        (tuple[str, ...], ["ctc", 3], "a list of texts"),
        (Literal["a", "b"], None, "one of a, b, got None"),
        (dict[str, dict[str, Any]], 3, "options by method, got 3"),
    ],
)
def test_what_a_file_gives_of_another_kind_is_named(hint: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"option must be {said}"):
        from_file("option", value, hint)
