"""Recorded sentences for recognisers of letters: telephone prompts, spelled, in folds that share no sentence.

Source: the Asterisk core sounds (June Wallack, Allison Smith and others, for Digium), one speaker a language.
The departure: prompts whose text leaves open how they are spoken (abbreviations, longer numbers, signs) are left
out, single digits are written as words, and accents are dropped. A set of some hundred recordings is too small for
one test split: fold k is held out by seed k, so that all of them are judged.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kilter.data.audio import Samples, Utterance, read_audio, resample
from kilter.data.fsdd import trim

RATE = 8000
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
FOLDS = 5

DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
}
"""The digits of each language that is written with these letters."""

_UNSURE = re.compile(r"\d[\d.A-Z]|[#*/@&]|www|\b[A-Z]{2}|\b[A-Z][ .-]*\b[A-Z]\b|\b[A-Z]\.|[^\W\d]\d")
"""What may be spoken in more than one way: 500, 3D, #, IAX, U S B, H.323, MP3."""

SPEEDS = (18, 19, 20, 21, 22)
"""Lengths of a recording that is played slower or faster, in twentieths of its own."""
LEAD, GAP, TAIL = (400, 2400), (800, 3200), 3200
"""Samples of silence before, between and after prompts; the last gives a causal recogniser time for the end."""
GAIN_DB, NOISE_DB = 6.0, (-80.0, -46.0)
"""Louder or softer by up to so much; white noise, of an RMS between these, under each string."""


@dataclass(frozen=True, order=True)
class Prompt:
    """One recording, trimmed to the speech, and what is said, in letters; prompts are ordered by file name."""

    name: str
    text: str
    samples: Samples = field(compare=False, repr=False)

    @property
    def fold(self) -> int:
        """0 to `FOLDS` - 1, by the text alone: prompts that say the same are in the same fold."""
        return hashlib.sha256(self.text.encode()).digest()[0] % FOLDS


def spelled(text: str, language: str) -> str | None:
    """The text in letters, apostrophes and single spaces; None if it leaves open what is said.

    Example:
        >>> spelled("Press 1 -- it's quick!", "en"), spelled("¿Qué número?", "es"), spelled("Dial 500", "en")
        ("press one it's quick", 'que numero', None)
    """
    if _UNSURE.search(text):
        return None
    text = re.sub(r"\d", lambda digit: f" {DIGITS[language][int(digit.group())]} ", text)
    text = unicodedata.normalize("NFD", text.lower().replace("\u2019", "'"))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return " ".join(re.sub(f"[^{LETTERS}]", " ", text).split()) or None


def load_prompts(folder: str | Path, language: str = "en", *, longest: float = 16.0) -> list[Prompt]:
    """Read the prompts of a language from a folder that `fetch_prompts` filled, in order.

    Left out: those that `spelled` refuses, single letters (their name is no spelling) and those of more than
    `longest` seconds, which would fill a batch with padding.

    Raises:
        ValueError: A language without `DIGITS`, or none of its prompts is there.
    """
    folder = Path(folder)
    if language not in DIGITS:
        raise ValueError(f"prompts are spelled in {', '.join(DIGITS)}, not in {language!r}")
    prompts = []
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        text = spelled(row["text"], language) if row["language"] == language else None
        if text and len(text) > 1:
            samples = trim(read_audio(folder / row["audio"], RATE))
            if len(samples) <= longest * RATE:
                prompts.append(Prompt(row["audio"], text, samples))
    if not prompts:
        raise ValueError(f"{folder}: has no prompts in {language!r}; try `kilter fetch asterisk-prompts`")
    return sorted(prompts)


class Prompts(Sequence[Utterance]):
    """A map-style dataset of the prompts as they were recorded, with a little silence around them.

    Args:
        prompts: What `load_prompts` returns.
        fold: The fold to keep.

    Example:
        >>> prompts = [Prompt("en/hello.wav", "hello", np.ones(800, dtype=np.float32))]
        >>> Prompts(prompts, fold=prompts[0].fold)[0]["text"]
        'hello'
    """

    def __init__(self, prompts: Sequence[Prompt], *, fold: int) -> None:
        self._prompts = [prompt for prompt in prompts if prompt.fold == _fold(fold)]

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, index: int) -> Utterance:  # pyright: ignore[reportIncompatibleMethodOverride]: no slices
        prompt = self._prompts[index]
        return {"id": prompt.name, "audio": np.pad(prompt.samples, (LEAD[0], TAIL)), "text": prompt.text}


class PromptStrings:
    """A map-style dataset of prompts in a row, composed when asked for, slower or faster, in a little noise.

    Short prompts fill a batch badly and show few pairs of words; strings of at least `seconds` do not. Item `i`
    depends on `(seed, fold, i)` and the prompts only, not on `count`, the order of access or the process:
    data-loader workers and resumed runs see the same strings.

    Args:
        prompts: What `load_prompts` returns.
        count: Number of strings.
        seed: Any non-negative integer.
        fold: The fold that is held out.
        seconds: Prompts are added until there is so much speech.

    Example:
        >>> prompts = [Prompt(f"en/{word}.wav", word, np.ones(4000, dtype=np.float32)) for word in ("one", "two")]
        >>> PromptStrings(prompts, count=1, seed=0, fold=0, seconds=1.0)[0]["text"]
        'two one'
    """

    def __init__(self, prompts: Sequence[Prompt], *, count: int, seed: int, fold: int, seconds: float = 2.5) -> None:
        if count < 0 or seed < 0:
            raise ValueError(f"count and seed must not be negative: count={count}, seed={seed}")
        self.count, self.seed, self.fold, self.seconds = count, seed, _fold(fold), seconds
        self._prompts = [prompt for prompt in prompts if prompt.fold != fold]
        if not self._prompts:
            raise ValueError(f"prompts: none is outside fold {fold}")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Utterance:
        if not 0 <= index < self.count:
            raise IndexError(f"string {index} of {self.count}")
        rng = np.random.default_rng((self.seed, self.fold, index))
        length = SPEEDS[rng.integers(len(SPEEDS))]
        audio, texts = [np.zeros(rng.integers(*LEAD), dtype=np.float32)], []
        spoken = 0
        while spoken < self.seconds * RATE:
            prompt = self._prompts[rng.integers(len(self._prompts))]
            samples = resample(prompt.samples, 20, length)
            audio += [samples, np.zeros(rng.integers(*GAP), dtype=np.float32)]
            texts.append(prompt.text)
            spoken += len(samples)
        audio[-1] = np.zeros(TAIL, dtype=np.float32)
        string = np.concatenate(audio) * _ratio(rng.uniform(-GAIN_DB, GAIN_DB))
        string += _ratio(rng.uniform(*NOISE_DB)) * rng.standard_normal(len(string), dtype=np.float32)
        return {"id": f"{self.seed}-{self.fold}-{index}", "audio": string, "text": " ".join(texts)}


def _ratio(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def _fold(fold: int) -> int:
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must be between 0 and {FOLDS - 1}, got {fold}")
    return fold
