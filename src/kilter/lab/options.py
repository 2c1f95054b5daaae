"""Bounds of options, beside the option and checked once, for flags and YAML alike; and what a file gives for them.

`weight: Annotated[float, at_least(0)] = 1.5`. Standard library only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from kilter.core.options import one_of


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


FINITE = Bound("must be finite", math.isfinite)
NOT_NEGATIVE = Bound("must not be negative", lambda value: value >= 0)


def check_bounds(options: Any) -> None:
    """Check every option of a dataclass against the bounds beside it; None is no number, and none admits infinity.

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
            if not isinstance(bound, Bound) or value is None:
                continue
            for each in (bound, FINITE):
                if not each.fits(value):
                    raise ValueError(f"{one.name} {each.said}, got {value}")


def from_file(name: str, value: Any, hint: Any) -> Any:
    """An option as its annotation has it, from a YAML file, which has lists for tuples and reads 1e-3 as a text.

    Raises:
        ValueError: it is of another kind.

    Example:
        >>> from_file("rate", "1e-3", float | None), from_file("arms", ["ctc"], tuple[str, ...])
        (0.001, ('ctc',))
        >>> from_file("steps", "ten", int)
        Traceback (most recent call last):
        ValueError: steps must be a whole number, got 'ten'
    """
    kinds = [one for one in get_args(hint) if one is not NoneType]
    if value is None and NoneType in get_args(hint):
        return None
    kind = kinds[0] if NoneType in get_args(hint) and len(kinds) == 1 else hint
    if get_origin(kind) is Literal:
        one_of(name, value, kind)
        return value
    said, read = _KINDS.get(kind, ("", lambda value: tuple(value) if isinstance(value, list) else value))
    try:
        return read(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be {said}, got {value!r}") from None


def _only(*kinds: type) -> Callable[[Any], Any]:
    """Takes values of these types alone."""

    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError
        return value

    return read


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_only(str)(value) for value in _only(list, tuple)(values))


_KINDS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    bool: ("true or false", _only(bool)),
    int: ("a whole number", _only(int)),
    float: ("a number", lambda value: float(_only(int, float, str)(value))),
    str: ("a text", _only(str)),
    Path: ("a path", lambda value: Path(str(_only(int, float, str)(value)))),
    tuple[str, ...]: ("a list of texts", _texts),
    dict[str, dict[str, Any]]: (
        "options by method",
        lambda value: {name: {**one} for name, one in dict(value).items()},
    ),
}
