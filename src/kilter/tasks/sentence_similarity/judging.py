"""How an encoder's vectors follow what people say of pairs, set by set, and how they fill their space.

Source: the STS tasks as SimCSE and its successors report them (Spearman, all pairs of a year together); alignment and
uniformity of Wang and Isola (2020). The departure: alignment takes the pairs in the upper fifth of any scale.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from kilter.evaluation import embeddings
from kilter.evaluation.correlation import spearman, spearman_rows
from kilter.lab.vectors import by_length, spread

if TYPE_CHECKING:
    from kilter.data.similarity import ScoredPairs

ALIKE, UNLIKE = 0.8, 0.2
"""Where on the scale, from lowest to highest score, pairs mean the same, and where another thing: 4 and 1 of 0 to 5."""


class Verdict(NamedTuple):
    """What was found of one encoder: figures, a row for each pair, and what the pictures of the report show."""

    figures: dict[str, float]
    rows: list[dict[str, Any]]
    space: dict[str, Any]


def judge(
    encode: Callable[[Sequence[str]], Tensor],
    sets: "Mapping[str, ScoredPairs]",
    averaged: Sequence[str],
    plain: Sequence[str] = (),
) -> Verdict:
    """Judge an encoder.

    Args:
        encode: texts to vectors, `(n, d)`; each text is encoded once.
        sets: scored pairs, by the metric that they are judged by; the space is judged on the texts of one of them.
        averaged: sets of which `sts_average` is the mean; none of it unless there are two.
        plain: texts to judge the space on where there are no pairs.
    """
    of = _space_of(sets)
    spaced = [*dict.fromkeys((*sets[of].first, *sets[of].second))] if of else [*plain]
    others = (text for pairs in sets.values() for side in (pairs.first, pairs.second) for text in side)
    texts = [*dict.fromkeys((*spaced, *others))]
    vectors, place = encode(texts), {text: row for row, text in enumerate(texts)}
    figures, space = _space(spaced, vectors[: len(spaced)])
    found = Verdict(figures, [], {**space, "set": of})
    averaged = [name for name in averaged if name in sets] if len(averaged) > 1 else []
    for name, pairs in sets.items():
        cosines = embeddings.cosines(*(vectors[[place[text] for text in side]] for side in (pairs.first, pairs.second)))
        rows = _rows(name, pairs.scores, cosines, 1 / len(pairs.scores) if name in averaged else 0.0)
        found.figures[name] = 100 * spearman(cosines, pairs.scores)
        found.figures.update(_alignment(rows) if name == of else {})
        found.rows.extend(rows)
    if averaged:
        found.figures["sts_average"] = sum(found.figures[name] for name in averaged) / len(averaged)
    return found


def _space_of(sets: Mapping[str, Any]) -> str:
    """The set on whose texts the space is judged: STS-B, else the first; empty where there is none."""
    return "stsb" if "stsb" in sets else next(iter(sets), "")


def _rows(name: str, scores: Sequence[float], cosines: Tensor, weight: float) -> list[dict[str, Any]]:
    """A row for each pair: no text, since some are not ours to keep; `totals` of which Spearman's is the mean."""
    lowest, highest = min(scores), max(scores)
    rows = []
    shares = spearman_rows(cosines, scores).tolist()
    for number, (share, cosine, score) in enumerate(zip(shares, cosines.tolist(), scores, strict=True)):
        totals = {name: [share, 1.0]} | ({"sts_average": [share * weight, weight]} if weight else {})
        at = (score - lowest) / (highest - lowest)
        kind = "alike" if at >= ALIKE else "unlike" if at <= UNLIKE else ""
        row = {"input": f"{name}/{number}", "score": score, "cosine": round(cosine, 6), "kind": kind}
        rows.append({**row, "totals": totals})
    return rows


def _alignment(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean squared distance of pairs that mean the same, kept in their rows too."""
    distances = []
    for row in rows:
        if row["kind"] == "alike":
            distances.append(2 - 2 * row["cosine"])
            row["totals"]["alignment"] = [distances[-1], 1.0]
    return {"alignment": sum(distances) / len(distances)}


def _space(texts: Sequence[str], vectors: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """How vectors fill their space, and what pictures of it need: the spectrum, and a map in two dimensions."""
    unit = embeddings.unit(vectors)
    figures = {
        "uniformity": embeddings.uniformity(unit),
        "effective_rank": embeddings.effective_rank(vectors),
        "isotropy": embeddings.isotropy(unit),
    }
    shown = spread(len(texts))
    points = embeddings.principal_plane(unit[shown]).tolist()
    return figures, {
        "spectrum": [round(share, 8) for share in embeddings.spectrum(vectors).tolist()],
        "map": [[round(value, 5) for value in point] for point in points],
        "groups": by_length([texts[row] for row in shown]),
    }
