"""Figures from the totals that rows of judged examples hold."""

from collections.abc import Mapping, Sequence
from typing import Any


def means(rows: Sequence[Mapping[str, Any]], percent: Sequence[str] = ()) -> dict[str, float]:
    """Every figure averaged over the examples that have it; those named in `percent` times 100.

    Example:
        >>> rows = [{"totals": {"bleu": [20.0, 1]}}, {"totals": {"bleu": [30.0, 1], "repeated": [0.5, 1]}}]
        >>> means(rows, ["repeated"])
        {'bleu': 25.0, 'repeated': 50.0}
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, (value, _) in row["totals"].items():
            found.setdefault(name, []).append(value)
    return {name: (100 if name in percent else 1) * sum(values) / len(values) for name, values in found.items()}


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Every figure as the ratio of its sums over all rows, times 100.

    Example:
        >>> ratios([{"totals": {"f1": [2.0, 2.0]}}, {"totals": {"f1": [0.0, 2.0], "hits": [1, 1]}}])
        {'f1': 50.0, 'hits': 100.0}
    """
    sums: dict[str, list[float]] = {}
    for row in rows:
        for name, (part, whole) in row["totals"].items():
            found = sums.setdefault(name, [0.0, 0.0])
            found[0], found[1] = found[0] + part, found[1] + whole
    return {name: 100 * part / whole for name, (part, whole) in sums.items()}
