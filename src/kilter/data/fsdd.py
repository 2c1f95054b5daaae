"""Strings of spoken digits whose word boundaries are exact, because we set them.

Source: the Free Spoken Digit Dataset (Zohar Jackson and contributors), files named `{digit}_{speaker}_{take}.wav`.
The departure: the takes are trimmed and joined with random pauses, one speaker a string. A word then starts
and ends at a known sample, so that measuring a recogniser's emission delay needs no forced aligner.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kilter.data.audio import Samples, Utterance, Word, read_audio

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000

SPLITS = ("train", "dev", "test")
FLOOR_DB = -35
FRAME = RATE // 100
MARGIN = RATE // 50


@dataclass(frozen=True, order=True)
class Take:
    """One recording of one digit, trimmed to the word; takes are ordered by digit, speaker and number."""

    digit: int
    speaker: str
    take: int
    samples: Samples = field(compare=False, repr=False)


def split_of(take: int) -> str:
    """The split of a take by its number; the first five are the dataset's own test split."""
    return "test" if take < 5 else "dev" if take < 10 else "train"


def load_takes(folder: str | Path) -> list[Take]:
    """Read and trim every `{digit}_{speaker}_{take}.wav` of a folder, in order.

    Raises:
        ValueError: The folder has no such file, or one of them is unreadable, empty or silent (it is named).
    """
    folder = Path(folder)
    takes = []
    for path in folder.glob("*.wav"):
        if name := re.fullmatch(r"(\d)_([^_]+)_(\d+)", path.stem):
            samples = read_audio(path, RATE)
            if not samples.any():
                raise ValueError(f"{path}: is silent from start to end; fetch the data again, or leave it out")
            takes.append(Take(int(name[1]), name[2], int(name[3]), trim(samples)))
    if not takes:
        raise ValueError(f"{folder}: has no file named {{digit}}_{{speaker}}_{{take}}.wav; try `kilter fetch fsdd`")
    return sorted(takes)


def trim(samples: Samples) -> Samples:
    """Cut what lies more than 20 ms outside the frames (10 ms) within 35 dB of the loudest one."""
    frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
    level = np.sqrt(np.square(frames).mean(axis=1))
    loud = np.flatnonzero(level >= level.max() * 10 ** (FLOOR_DB / 20))
    return samples[max(loud[0] * FRAME - MARGIN, 0) : (loud[-1] + 1) * FRAME + MARGIN]


class DigitStrings:
    """A map-style dataset of digit strings, composed when asked for.

    Item `i` depends on `(seed, split, i)` and the takes only, not on `count`, the order of access or the
    process: data-loader workers and resumed runs see the same strings. Levels are those of the recordings and
    pauses are digital silence: noise and gain are the recipe's to add.

    Args:
        takes: What `load_takes` returns; those outside `split` are left out.
        count: Number of strings.
        seed: Any non-negative integer.
        split: "test" draws on takes 0–4, "dev" on 5–9, "train" on the rest.
        digits: Fewest and most words in a string.
        gap_ms: Shortest and longest pause between two words.
        lead_ms: Shortest and longest silence before the first word.
        tail_ms: Shortest and longest silence after the last one, room for late emissions.

    Example:
        >>> clip = np.ones(800, dtype=np.float32)
        >>> takes = [Take(digit, "ann", 10, clip) for digit in range(10)]
        >>> item = DigitStrings(takes, count=1, seed=0, split="train", digits=(2, 2))[0]
        >>> item["text"], item["words"][0]
        ('eight six', {'word': 'eight', 'start': 0.253375, 'end': 0.353375})
    """

    def __init__(
        self,
        takes: Iterable[Take],
        *,
        count: int,
        seed: int,
        split: str,
        digits: tuple[int, int] = (3, 6),
        gap_ms: tuple[int, int] = (80, 350),
        lead_ms: tuple[int, int] = (100, 400),
        tail_ms: tuple[int, int] = (600, 900),
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if count < 0 or seed < 0:
            raise ValueError(f"count and seed must not be negative: count={count}, seed={seed}")
        ranges = {
            "digits": (1, digits),
            "gap_ms": (0, gap_ms),
            "lead_ms": (0, lead_ms),
            "tail_ms": (0, tail_ms),
        }
        for name, (least, (low, high)) in ranges.items():
            if not least <= low <= high:
                raise ValueError(f"{name} must be a pair (low, high) with {least} <= low <= high, not {(low, high)}")

        self.count, self.seed, self.split = count, seed, split
        self.digits, self.gap_ms, self.lead_ms, self.tail_ms = digits, gap_ms, lead_ms, tail_ms
        self._takes: dict[str, list[Take]] = defaultdict(list)
        for take in sorted(takes):
            if split_of(take.take) == split:
                self._takes[take.speaker].append(take)
        if not self._takes:
            raise ValueError(f"takes: none belongs to {split} (0–4 are test, 5–9 dev, the rest train)")
        self._speakers = sorted(self._takes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Utterance:
        if not 0 <= index < self.count:
            raise IndexError(f"string {index} of {self.count}")
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        speaker = self._speakers[rng.integers(len(self._speakers))]
        takes = self._takes[speaker]
        chosen = [takes[i] for i in rng.integers(len(takes), size=_draw(rng, self.digits))]

        gaps = [_pause(rng, self.lead_ms), *(_pause(rng, self.gap_ms) for _ in chosen[1:])]
        starts = np.cumsum(gaps) + np.cumsum([0, *(len(take.samples) for take in chosen[:-1])])
        ends = starts + [len(take.samples) for take in chosen]
        audio = np.zeros(ends[-1] + _pause(rng, self.tail_ms), dtype=np.float32)
        words: list[Word] = []
        for take, start, end in zip(chosen, starts.tolist(), ends.tolist(), strict=True):
            audio[start:end] = take.samples
            words.append({"word": WORDS[take.digit], "start": start / RATE, "end": end / RATE})
        return {
            "id": f"{self.split}-{self.seed}-{index}",
            "audio": audio,
            "text": " ".join(word["word"] for word in words),
            "words": words,
            "speaker": speaker,
        }


def _draw(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(*bounds, endpoint=True))


def _pause(rng: np.random.Generator, bounds_ms: tuple[int, int]) -> int:
    return _draw(rng, (bounds_ms[0] * RATE // 1000, bounds_ms[1] * RATE // 1000))
