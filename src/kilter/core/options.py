"""Is an option what its name promises? Numbers, choices and texts; every failure names the argument.

Standard library only, so that what needs no tensor checks its options without torch; `kilter.core.checks` has them too.
"""

import difflib
import math
from collections.abc import Iterable, Sequence, Sized
from numbers import Integral, Real
from typing import Any, get_args


def one_of(name: str, value: Any, choices: Any) -> None:
    """Check that `value` is one of `choices`, a `Literal` or some strings.

    Example:
        >>> one_of("score", "prop", ("prob", "mean"))
        Traceback (most recent call last):
        ValueError: score must be one of prob, mean, got 'prop'; did you mean 'prob'?
    """
    known = get_args(choices) or tuple(choices)
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")


def whole(name: str, value: Any, low: int | None = None) -> None:
    """Check that `value` is a whole number, and at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if low is not None and value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def at_least(name: str, value: Any, low: float | int) -> None:
    """Check that `value` is a number from `low`, not NaN and not infinite."""
    _number(name, value)
    if not low <= value < math.inf:
        raise ValueError(f"{name} must be at least {low} and finite, got {value}")


def positive(name: str, value: Any) -> None:
    """Check that `value` is a number above 0, not NaN and not infinite."""
    _number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def finite(name: str, value: Any) -> None:
    """Check that `value` is a number, not NaN and not infinite."""
    _number(name, value)
    if not -math.inf < value < math.inf:
        raise ValueError(f"{name} must be finite, got {value}")


def share(name: str, value: Any) -> None:
    """Check that `value` is a number within 0..1."""
    _number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be within 0..1, got {value}")


def _number(name: str, value: Any) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")


def texts(name: str, values: Any, rows: int | None = None, row: str = "utterance") -> Sequence[str]:
    """The `values`, once it is sure that they are a list of strings, one for each of `rows` where that is said.

    Example:
        >>> texts("references", ["one"], 2)
        Traceback (most recent call last):
        ValueError: references must be a list of 2 texts, one per utterance, got 1
    """
    wanted = "a list of texts" if rows is None else f"a list of {rows} texts, one per {row}"
    if isinstance(values, str) or not (isinstance(values, Sized) and isinstance(values, Iterable)):
        raise ValueError(f"{name} must be {wanted}, got {'none' if values is None else repr(values)}")
    if rows is not None and len(values) != rows:
        raise ValueError(f"{name} must be {wanted}, got {len(values)}")
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"{row} {i}: {name} must hold texts, got {type(value).__name__}")
    return values  # type: ignore[return-value]
