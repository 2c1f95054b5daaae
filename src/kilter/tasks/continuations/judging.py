"""How a ranker is judged: by telling the true next passage, by people, and by the text it chooses."""

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kilter.evaluation.copying import overlap, repetition
from kilter.tasks.continuations.ranking import TextScorer, scores, suffix_identification, wins

if TYPE_CHECKING:
    from kilter.data.books import Pair
    from kilter.data.judgements import Preference
    from kilter.tasks.continuations.sources import Passages


def identify(
    scorer: TextScorer | None, passages: "Passages", seed: int, count: int, machine: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Suffix identification on `count` passages of the held-out documents; without a scorer the rows alone."""
    rng, rows = random.Random(f"others {seed}"), []
    for pair in passages.spread(passages.held(seed), 0, count):
        other = rng.choice([one for one in passages.documents[pair.document] if one.id != pair.id])
        row = {"input": pair.id, "prefix": pair.prefix, "true": pair.continuation, "inbook": other.continuation}
        rows.append(row | {"generative": machine.get(pair.id, "")})
    totals = suffix_identification(scorer, rows) if scorer is not None else [{} for _ in rows]
    return [{**row, "totals": total} for row, total in zip(rows, totals, strict=True)]


def agree(scorer: TextScorer | None, preferences: "Sequence[Preference]") -> list[dict[str, Any]]:
    """Whether the ranker prefers what people preferred; no texts are kept."""
    if scorer is None or not preferences:
        return [{"input": one.id, "totals": {}} for one in preferences]
    agreed = wins(scorer, [(one.prefix, one.preferred, one.other) for one in preferences])
    return [
        {"input": one.id, "totals": {"human_agreement": [won, 1.0], f"human_agreement_{one.source}": [won, 1.0]}}
        for one, won in zip(preferences, agreed, strict=True)
    ]


def copying(prefix: str, texts: Sequence[str]) -> dict[str, list[float]]:
    """How much the texts repeat, and take from their prefix; nothing where there is no text."""
    texts = [text for text in texts if text.strip()]
    if not texts:
        return {}
    repeated = statistics.fmean(repetition(text, prefix=prefix) for text in texts)
    return {"rep": [repeated, 1.0], "overlap": [statistics.fmean(overlap(prefix, text) for text in texts), 1.0]}


def preferred(
    judge: TextScorer, pair: "Pair", texts: Sequence[str], plain: Sequence[str], *, by_author: bool
) -> dict[str, list[float]]:
    """How often the judge prefers these texts to plain samples, and to the author's unless they are."""
    every = [*texts, *plain, pair.continuation]
    found = scores(judge, [pair.prefix] * len(every), every)
    ours, theirs, author = found[: len(texts)], found[len(texts) : -1], found[-1]

    def beats(others: Sequence[float]) -> float:
        return statistics.fmean((one > other) + 0.5 * (one == other) for one in ours for other in others)

    return {"preferred": [beats(theirs), 1.0]} | ({} if by_author else {"near_human": [beats([author]), 1.0]})
