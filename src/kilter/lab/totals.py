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
