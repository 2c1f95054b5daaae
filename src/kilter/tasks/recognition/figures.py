"""What the report of a recogniser shows: the trade-off, and when each arm emitted the words of a few utterances."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kilter.lab.recipe import RATE, SHARE, Metric, Picture

METRICS: Mapping[str, Metric] = {
    "wer": Metric("Word error rate", "%", "lower", 2, RATE),
    "delay_ms": Metric("Mean emission delay", "ms", "lower", 0),
    "shift_ms": Metric("Emission against the model as given", "ms", "lower", 0),
    "median_delay_ms": Metric("Median emission delay", "ms", "lower", 0),
    "onset_ms": Metric("Emission after word onset", "ms", "lower", 0),
    "early": Metric("Words emitted before their end", "%", "higher", 1, SHARE),
    "cer": Metric("Character error rate", "%", "lower", 2, RATE),
    "lm_wer": Metric("Word error rate with a letter n-gram", "%", "lower", 2, RATE),
    "dev_wer": Metric("Word error rate, development takes", "%", "lower", 2, RATE),
    "dev_delay_ms": Metric("Mean emission delay, development takes", "ms", "lower", 0),
}
"""What is measured, by name."""


def front(summary: Mapping[str, Any]) -> Iterator[Picture]:
    """Delay against word errors, where delays were measured."""
    from kilter.lab.plots import tradeoff

    delay = next((name for name in ("delay_ms", "shift_ms") if name in summary["metrics"]), None)
    if delay is not None:
        svg = tradeoff(summary, x=delay, y="wer")
        caption = "Further left is earlier, further down is fewer word errors; bars are the intervals of the table."
        yield Picture("tradeoff", "Delay against word errors", caption, svg)


def utterances(summary: Mapping[str, Any], run: Path, spoken: Any, count: int) -> Iterator[Picture]:
    """The first utterances, each with the emissions of every arm."""
    from kilter.lab.timeline import timeline

    for index in range(min(count, len(spoken))):
        row: Any = spoken[index]
        emissions = {
            found["label"]: [tuple(word) for word in _heard(run, arm, index)["emissions"]]
            for arm, found in summary["arms"].items()
        }
        svg = timeline(row["audio"], 8000, row["words"], emissions)
        caption = f"“{row['text']}”, spoken by {row['speaker']}. A bar runs from a word's true end to its emission."
        yield Picture(f"utterance-{index}", f"Utterance {index + 1}", caption, svg, _wav(row["audio"]))


def _heard(run: Path, arm: str, index: int) -> Mapping[str, Any]:
    """Row of one utterance as the first finished seed of an arm heard it."""
    from kilter.lab.files import read_rows

    return read_rows(next(iter(sorted((run / "arms" / arm).glob("seed-*/utterances.jsonl")))))[index]


def _wav(audio: Any) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, audio, 8000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
