"""Judge a recogniser on utterances: word errors, and when its words come."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kilter.evaluation.latency import Span, drift_between, drift_to_reference
from kilter.evaluation.word_errors import character_error_counts, word_error_counts
from kilter.models.recogniser import Recogniser, Rows
from kilter.speech.ctc_search import Fuse


def judge(
    recogniser: Recogniser, rows: Rows, before: Recogniser | None = None, fuse: Fuse | None = None
) -> list[dict[str, Any]]:
    """One row per utterance: what was heard and when, and `totals`, `[numerator, denominator]` of each figure.

    Delays are measured where `rows` have the true spans of their words; with `before`, the shift against it too.
    With `fuse`, a language model, the words are those of a beam search. What was said and what was heard are compared
    as the vocabulary spells them, see `kilter.core.normalise`.
    """
    spelt, keep = recogniser.spelling.normalise, recogniser.keep

    def alike(words: Sequence[Any]) -> list[Any]:
        return [word._replace(token=spelt(word.token)) for word in words]

    given = list(before.hear(rows)) if before is not None else []
    judged = []
    for index, heard in enumerate(recogniser.hear(rows, fuse=fuse)):
        row = rows[index]
        texts = [spelt(row["text"])], [spelt(heard.text)]
        totals: dict[str, list[float]] = {
            "wer": list(word_error_counts(*texts, keep=keep)),
            "cer": list(character_error_counts(*texts, keep=keep)),
        }
        found = {"id": row["id"], "text": row["text"], "heard": heard.text, "emissions": heard.words}
        if row.get("words"):
            spans = [Span(word["word"], word["start"], word["end"]) for word in row["words"]]
            drift = drift_to_reference([alike(heard.words)], [alike(spans)])
            delays, count = drift.delays[0], drift.matched
            totals |= {
                "delay_ms": [sum(delays), count],
                "onset_ms": [drift.start_mean * count if count else 0.0, count],
                "early": [sum(delay < 0 for delay in delays), count],
            }
            found["delays_ms"] = delays
        if given:
            shift = drift_between([alike(heard.words)], [alike(given[index].words)])
            totals["shift_ms"] = [sum(shift.delays[0]), shift.matched]
        judged.append({**found, "totals": totals})
    return judged


def ratios(rows: Sequence[Mapping[str, Any]], percent: Collection[str]) -> dict[str, float]:
    """Figures of all utterances: ratios of the sums of their totals (those in `percent` times 100), median delay."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row["totals"]):
        over, under = (sum(row["totals"].get(name, (0, 0))[k] for row in rows) for k in (0, 1))
        if under:  # nothing heard, no delay: the figure is left out rather than made up
            found[name] = (100 if name in percent else 1) * over / under
    delays = [delay for row in rows for delay in row.get("delays_ms", ())]
    return found | ({"median_delay_ms": statistics.median(delays)} if delays else {})
