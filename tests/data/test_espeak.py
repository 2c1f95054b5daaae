"""Synthetic digits: repeatable, resumable, and spoken differently by each voice and in each take."""

import numpy as np
import pytest
import soundfile

from kilter.data.audio import read_audio
from kilter.data.espeak import TAKES, VOICES, manner, spoken_digits
from kilter.data.fsdd import RATE, DigitStrings, load_takes

pytest.importorskip("espeakng_loader", reason="the wheel with the synthesiser is not installed")
FEW = {"voices": ("en-us", "en-gb-x-rp+f3"), "takes": (0, 5, 10), "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    spoken_digits(folder, **FEW)
    return folder


def test_files_are_named_and_written_like_recordings(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        f"{digit}_{voice}_{take}.wav"
        for digit in range(10)
        for voice in ("en-us", "en-gb-x-rp-f3")
        for take in (0, 5, 10)
    }
    info = soundfile.info(folder / "3_en-us_0.wav")
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")


def test_they_sound_like_words(folder):
    for take in load_takes(folder):
        assert 0.15 < len(take.samples) / RATE < 1.2, take
        assert 0.1 < np.abs(take.samples).max() < 1.0, take
    for split in ("train", "dev", "test"):
        assert len(DigitStrings(load_takes(folder), count=3, seed=0, split=split)[2]["words"]) >= 3


def test_every_voice_and_take_differs(folder):
    takes = load_takes(folder)
    assert len({take.samples.tobytes() for take in takes}) == len(takes)

    def pitch(speaker: str) -> float:
        """Median over the takes of the strongest period between 60 and 300 Hz."""
        shifts = np.arange(RATE // 300, RATE // 60)
        clips = [take.samples.astype(float) for take in takes if take.speaker == speaker]
        correlations = [[clip[:-shift] @ clip[shift:] for shift in shifts] for clip in clips]
        return float(np.median([RATE / shifts[np.argmax(row)] for row in correlations]))

    assert pitch("en-gb-x-rp-f3") > 1.3 * pitch("en-us")


def test_the_same_call_writes_the_same_bytes_and_keeps_what_is_there(folder, tmp_path):
    (tmp_path / "3_en-us_5.wav").write_bytes(b"mine")
    spoken_digits(tmp_path, **FEW)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert written == expected | {"3_en-us_5.wav": b"mine"}


def test_no_two_takes_share_a_manner():
    assert len({manner(take)[:2] for take in TAKES}) == len(TAKES)
    tested = [manner(take) for take in TAKES if take < 5]
    trained = [manner(take) for take in TAKES if take >= 10]
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) >= 2 for a in tested for b in trained)


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_exists(tmp_path, voice):
    spoken_digits(tmp_path, voices=[voice], takes=[0], progress=False)
    assert read_audio(tmp_path / f"9_{voice.replace('+', '-')}_0.wav", RATE).any()


def test_an_unknown_voice_is_named(tmp_path):
    with pytest.raises(ValueError, match="no voice called 'martian'; choose among en-us,"):
        spoken_digits(tmp_path, voices=["martian"], takes=[0], progress=False)
