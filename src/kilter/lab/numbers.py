"""Numbers as people read them: one minus sign everywhere, and intervals that end where a figure can.

Standard library only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

Bounds = Sequence[float | int | None]
"""The least and the most that a figure can be by nature; None where it has no end."""


def fixed(value: float | int, digits: int, *, signed: bool = False) -> str:
    """A number with so many digits after the point; what rounds to nought has no minus.

    Example:
        >>> fixed(-161.2, 0), fixed(-0.001, 2), fixed(3.14159, 2, signed=True)
        ('−161', '0.00', '+3.14')
    """
    return f"{value:{'+' if signed else ''}z.{digits}f}".replace("-", MINUS)


def short(value: float | int) -> str:
    """A number as short as its first six digits allow.

    Example:
        >>> short(-161.245201), short(0.5), short(1e-9)
        ('−161.245', '0.5', '1e−09')
    """
    return f"{value:g}".replace("-", MINUS)


def possible(
    low: float | int | None, high: float | int | None, bounds: Bounds | None, *, change: bool = False
) -> tuple[float | int | None, float | int | None]:
    """The part of an interval that can be: a share is never above 100 %, an error rate never below nought.

    Cutting off what cannot be leaves out no value the interval is for, so it covers the truth as often as before.

    Args:
        low: lower end, None where there is none.
        high: upper end, None where there is none.
        bounds: of the figure; None for one without.
        change: the interval is of a difference of two such figures.

    Example:
        >>> possible(88.7, 100.4, (0, 100)), possible(-0.02, 1.2, (0, None)), possible(-120, 4, (0, 100), change=True)
        ((88.7, 100), (0, 1.2), (-100, 4))
    """
    least, most = bounds or (None, None)
    if change:
        span = None if least is None or most is None else most - least
        least, most = None if span is None else -span, span
    if low is not None and least is not None:
        low = max(low, least)
    if high is not None and most is not None:
        high = min(high, most)
    return low, high


def estimate(
    found: Mapping[str, Any], metric: Mapping[str, Any], *, change: bool = False
) -> tuple[float | int | None, ...]:
    """Mean and both ends of an estimate in a summary, None for what it lacks; the ends where they can be."""
    low, high = possible(found.get("low"), found.get("high"), metric.get("bounds"), change=change)
    return found.get("mean"), low, high


def bracketed(found: Mapping[str, Any], metric: Mapping[str, Any], *, change: bool = False) -> str:
    """An estimate as text has it: the mean, and its interval in brackets where there is one.

    Example:
        >>> bracketed({"mean": 94.6, "low": 88.7, "high": 100.4}, {"digits": 1, "bounds": [0, 100]})
        '94.6 [88.7, 100.0]'
        >>> bracketed({"mean": None}, {"digits": 1})
        '–'
    """
    mean, *ends = (
        None if end is None else fixed(end, metric["digits"], signed=change)
        for end in estimate(found, metric, change=change)
    )
    if mean is None:
        return NOTHING
    return mean if None in ends else f"{mean} [{', '.join(map(str, ends))}]"
