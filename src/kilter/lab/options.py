"""Bounds of options, beside the option and checked once, for flags and YAML alike.

`weight: Annotated[float, at_least(0)] = 1.5`. Standard library only.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Bound:
    """What a number may be, and how that is said: `must be at least 1`."""

    said: str
    fits: Callable[[Any], bool]


def at_least(least: int | float) -> Bound:
    """No smaller than that.

    Example:
        >>> at_least(1).said, at_least(1).fits(0)
        ('must be at least 1', False)
    """
    return Bound(f"must be at least {least:g}", lambda value: value >= least)


def above(floor: int | float, most: int | float | None = None) -> Bound:
    """Greater than that, and at most `most`."""
    end = "" if most is None else f" and at most {most:g}"
    return Bound(f"must be above {floor:g}{end}", lambda value: value > floor and (most is None or value <= most))


def share(*, whole: bool = True) -> Bound:
    """From 0 to 1, or, if it cannot be the whole, to below 1."""
    if whole:
        return Bound("is a share between 0 and 1", lambda value: 0 <= value <= 1)
    return Bound("is a share from 0 to below 1", lambda value: 0 <= value < 1)


NOT_NEGATIVE = Bound("must not be negative", lambda value: value >= 0)


def check_bounds(options: Any) -> None:
    """Check every option of a dataclass against the bounds that stand beside it; None is no number.

    Raises:
        ValueError: the first that does not fit, by name.

    Example:
        >>> from typing import Annotated
        >>> @dataclass
        ... class Options:
        ...     steps: Annotated[int, at_least(1)] = 10
        >>> check_bounds(Options(steps=0))
        Traceback (most recent call last):
        ValueError: steps must be at least 1, got 0
    """
    hints = get_type_hints(type(options), include_extras=True)
    for one in fields(options):
        value = getattr(options, one.name)
        for bound in getattr(hints[one.name], "__metadata__", ()):
            if isinstance(bound, Bound) and value is not None and not bound.fits(value):
                raise ValueError(f"{one.name} {bound.said}, got {value}")
