"""Digit strings: boundaries are exact, splits apart, items repeatable, and composing is quick."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kilter.data.fsdd import RATE, WORDS, DigitStrings, Take, load_takes, trim


def takes(speakers: int = 3, numbers: int = 14) -> list[Take]:
    """Takes that can be told apart by their (constant) samples."""
    return [
        Take(
            digit,
            f"speaker{speaker}",
            number,
            np.full(800 + 100 * number, 0.05 * (digit + 1), dtype=np.float32),
        )
        for digit in range(10)
        for speaker in range(speakers)
        for number in range(numbers)
    ]


@given(seed=st.integers(0, 2**40), index=st.integers(0, 999), split=st.sampled_from(["train", "dev", "test"]))
@settings(max_examples=60, deadline=None)
def test_boundaries_are_those_of_the_clips(seed, index, split):
    item = DigitStrings(takes(), count=1_000, seed=seed, split=split)[index]
    audio, words = item["audio"], item["words"]

    assert audio.dtype == np.float32
    assert 3 <= len(words) <= 6
    assert item["text"].split() == [word["word"] for word in words]
    bounds = [round(time * RATE) for word in words for time in (word["start"], word["end"])]
    for word, start, end in zip(words, bounds[::2], bounds[1::2], strict=True):
        np.testing.assert_allclose(audio[start:end], 0.05 * (WORDS.index(word["word"]) + 1))
    silences = np.diff([0, *bounds, len(audio)])[::2]
    assert sum(silences) == np.count_nonzero(audio == 0)
    assert 0.1 * RATE <= silences[0] <= 0.4 * RATE
    assert all(0.08 * RATE <= gap <= 0.35 * RATE for gap in silences[1:-1])
    assert 0.6 * RATE <= silences[-1] <= 0.9 * RATE


def test_an_item_depends_on_seed_split_and_index_only():
    few = DigitStrings(takes(), count=5, seed=1, split="train")
    many = DigitStrings(reversed(takes()), count=50, seed=1, split="train")
    assert many[3]["text"] == few[3]["text"]
    np.testing.assert_array_equal(many[3]["audio"], few[3]["audio"])
    assert few[3]["id"] == "train-1-3"

    others = [
        DigitStrings(takes(), count=5, seed=2, split="train"),
        DigitStrings(takes(), count=5, seed=1, split="dev"),
    ]
    for other in others:
        assert [item["text"] for item in other] != [item["text"] for item in few]


@pytest.mark.parametrize(("split", "numbers"), [("test", range(5)), ("dev", range(5, 10)), ("train", range(10, 14))])
def test_splits_share_no_take(split, numbers):
    lengths = {800 + 100 * number for number in numbers}
    strings = DigitStrings(takes(), count=100, seed=0, split=split)
    assert {round((word["end"] - word["start"]) * RATE) for item in strings for word in item["words"]} == lengths


def test_fixed_lengths_and_one_speaker_a_string():
    strings = DigitStrings(takes(), count=40, seed=0, split="dev", digits=(2, 2), gap_ms=(0, 0), tail_ms=(100, 100))
    assert {len(item["words"]) for item in strings} == {2}
    assert {item["speaker"] for item in strings} == {"speaker0", "speaker1", "speaker2"}
    assert strings[0]["words"][0]["end"] == strings[0]["words"][1]["start"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "valid"}, "split must be one of train, dev, test, not 'valid'"),
        ({"digits": (0, 3)}, r"digits must be a pair .* not \(0, 3\)"),
        ({"gap_ms": (90, 80)}, r"gap_ms must be a pair .* not \(90, 80\)"),
        ({"seed": -1}, "seed=-1"),
        ({"takes": takes(numbers=5)}, "takes: none belongs to train"),
    ],
)
def test_bad_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        DigitStrings(**({"takes": takes(), "count": 1, "seed": 0, "split": "train"} | wrong))


def test_an_index_outside_raises_index_error():
    strings = DigitStrings(takes(), count=2, seed=0, split="train")
    assert len(list(strings)) == len(strings) == 2
    for index in (2, -1):
        with pytest.raises(IndexError):
            strings[index]


def test_trimming_keeps_the_word_and_its_margin():
    word = np.full(800, 0.5, dtype=np.float32)
    hiss = np.full(1_600, 0.5 * 10 ** (-50 / 20), dtype=np.float32)
    assert len(trim(np.concatenate([hiss, word, hiss]))) == 800 + 2 * 160
    assert len(trim(word)) == 800


def test_takes_are_read_in_order_and_other_files_left_alone(tmp_path):
    for name in ("7_theo_12", "7_theo_3", "0_ann-b_0", "noise", "12_theo_1"):
        soundfile.write(tmp_path / f"{name}.wav", np.full(400, 0.2), RATE)
    found = [(take.digit, take.speaker, take.take) for take in load_takes(tmp_path)]
    assert found == [(0, "ann-b", 0), (7, "theo", 3), (7, "theo", 12)]


def test_a_folder_without_takes_and_a_silent_take_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no file named .* `kilter fetch fsdd`"):
        load_takes(tmp_path)
    soundfile.write(tmp_path / "1_theo_0.wav", np.zeros(400), RATE)
    with pytest.raises(ValueError, match=r"1_theo_0\.wav: is silent"):
        load_takes(tmp_path)


REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "fsdd"


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real recordings")
def test_the_real_recordings():
    real = load_takes(REAL)
    assert len(real) == 3_000
    assert len({take.speaker for take in real}) == 6
    assert 0.2 < np.median([len(take.samples) / RATE for take in real]) < 0.6

    strings = DigitStrings(real, count=300, seed=0, split="test")
    started = time.process_time()
    items = list(strings)
    assert (time.process_time() - started) / len(items) < 1e-3
    assert len({item["text"] for item in items}) > 250
