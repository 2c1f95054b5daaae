"""Recordings whose header says another length than they have: all of them is read, or they are refused by name."""

import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilter.data.audio import check_audio, read_audio

RATE = 16_000
LOUD, SOFT = 1, 5
"""Seconds of noise, which takes many bytes, before a soft tone, which takes few."""


def sound(rate: int = RATE, channels: int = 1) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, LOUD * rate)
    tone = 0.05 * np.sin(2 * np.pi * 440 * np.arange(SOFT * rate) / rate)
    return np.stack([np.concatenate([noise, tone])] * channels, axis=1)


def encoded(format: str, rate: int = RATE, channels: int = 1, samples: np.ndarray | None = None, **how: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(rate, channels) if samples is None else samples, rate, format=format, **how)
    return buffer.getvalue()


def whole(data: bytes, seconds: float = LOUD + SOFT, within: float = 0.15) -> np.ndarray:
    """All of it is there, up to the tone at its end."""
    samples = read_audio(data, RATE)
    assert len(samples) / RATE == pytest.approx(seconds, abs=within)
    assert check_audio(data) == pytest.approx(len(samples) / RATE, abs=within)
    end = samples[-RATE - RATE // 4 : -RATE // 4]
    assert np.abs(np.fft.rfft(end)).argmax() == pytest.approx(440, abs=1)
    return samples


def refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^row 7: .*{why}.*ffmpeg -i a.mp3 a.wav"):
        read_audio(data, RATE, name="row 7")


# MP3 --------------------------------------------------------------------------------------------------------------


def mp3(
    rate: int = RATE, channels: int = 1, samples: np.ndarray | None = None, mode: str = "VARIABLE"
) -> tuple[bytes, bytes]:
    """The frame with the tag that counts, and the frames of sound."""
    data = encoded("MP3", rate, channels, samples, bitrate_mode=mode, compression_level=0.5)
    start = data.find(data[:2], 4)
    assert b"Xing" in data[:start] or b"Info" in data[:start]
    return data[:start], data[start:]


def id3(size: int) -> bytes:
    return b"ID3\x04\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + b"\xff\xfb\x90\x64" * (size // 4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_mp3_without_a_count_is_read_to_its_end(rate: int, channels: int, mode: str) -> None:
    _, frames = mp3(rate, channels, mode=mode)
    whole(frames, within=0.25 if rate == 8_000 else 0.15)  # 72 ms a frame


DRESSES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a long ID3 tag": lambda _, frames: id3(200_000) + frames,
    "two of them": lambda _, frames: id3(400) + id3(4_000) + frames,
    "the end of another broadcast": lambda _, frames: bytes(range(200)) * 9 + frames,
    "a tag at the end": lambda _, frames: frames + b"TAG" + bytes(125),
    "garbage in the middle": lambda _, frames: (
        frames[: len(frames) // 2] + b"\xff\x00?" * 700 + frames[len(frames) // 2 :]
    ),
    "half a frame at the end": lambda _, frames: frames + frames[:40],
}


@pytest.mark.parametrize("dress", DRESSES)
def test_mp3_in_whatever_it_is_dressed(dress: str) -> None:
    whole(DRESSES[dress](*mp3()), within=0.2)


def test_what_macos_leaves_beside_a_recording_does_not_change_it(tmp_path: Path) -> None:
    """libsndfile looks for `._NAME`, and takes what it does not know at once for a Sound Designer file."""
    for name, data in (("a.mp3", b"".join(mp3())), ("b.mp3", mp3()[1]), ("c.wav", encoded("WAV"))):
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        \0\2" + bytes(4_000))
        assert len(read_audio(tmp_path / name, RATE)) / RATE == pytest.approx(LOUD + SOFT, abs=0.2)
        assert check_audio(tmp_path / name) == pytest.approx(LOUD + SOFT, abs=0.2)


@pytest.mark.parametrize("first", ["with its count", "without"])
@pytest.mark.parametrize("second", ["with its count", "without"])
@pytest.mark.parametrize("between", [b"", id3(300)])
def test_two_mp3_in_one_file_are_both_read(first: str, second: str, between: bytes) -> None:
    tag, frames = mp3()
    parts = [tag * (one == "with its count") + frames for one in (first, second)]
    whole(between.join(parts), seconds=2 * (LOUD + SOFT), within=0.3)


def test_a_count_that_is_right_is_believed_and_a_vbri_as_well() -> None:
    tag, frames = mp3()
    assert len(read_audio(tag + frames, RATE)) == (LOUD + SOFT) * RATE  # to the sample, as the tag has the padding
    count = len(frames.split(frames[:2])) - 1
    vbri = frames[:4] + bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 0, len(frames), count)
    whole(vbri.ljust(frames.find(frames[:2], 4), b"\0") + frames, within=0.3)


@pytest.mark.parametrize("left", [0.2, 0.5, 0.9])
def test_mp3_that_is_cut_short_is_refused(left: float) -> None:
    data = b"".join(mp3())
    refused(data[: int(left * len(data))], "holds .* of the 6.* s that its header promises")


def test_mp3_that_changes_on_its_way_is_refused() -> None:
    for other in (mp3(44_100)[1], mp3(channels=2)[1]):
        refused(mp3()[1] + other, "changes on its way from 16000 Hz mono to ")


# FLAC -------------------------------------------------------------------------------------------------------------


def counting(data: bytes, count: int) -> bytes:
    """A FLAC that says it has so many samples."""
    at = data.index(b"fLaC") + 18
    place = int.from_bytes(data[at : at + 8]) >> 36 << 36 | count
    return data[:at] + place.to_bytes(8) + data[at + 8 :]


@pytest.mark.parametrize("count", [0, 1, 1_000, 95_999, (1 << 31) + 5, (1 << 36) - 1])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("front", [b"", id3(600), id3(150_000)], ids=["bare", "tag", "picture"])
def test_flac_from_a_pipe_is_read_to_its_end(count: int, channels: int, front: bytes) -> None:
    data = encoded("FLAC", channels=channels)
    tracemalloc.start()
    samples = whole(front + counting(data, count), within=0)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    np.testing.assert_array_equal(samples, read_audio(data, RATE))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 96_000])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 20.0])
def test_flac_of_any_kind_and_length(subtype: str, rate: int, seconds: float) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, int(seconds * rate)) * (np.arange(int(seconds * rate)) % 7 > 2)
    data = encoded("FLAC", rate, samples=samples, subtype=subtype)
    piped = counting(data, 0)
    assert check_audio(piped) == check_audio(data)
    np.testing.assert_array_equal(read_audio(piped, rate), read_audio(data, rate))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(left=st.floats(0.01, 0.999))
def test_flac_cut_anywhere(left: float) -> None:
    data = encoded("FLAC")
    cut = data[: int(left * len(data))]
    with pytest.raises(ValueError, match=r"of the 6\.00 s that its header|holds no whole frame|cannot be read"):
        _ = check_audio(cut), read_audio(cut, RATE)  # what lacks less than a frame only shows in reading
    try:
        samples = read_audio(counting(cut, 0), RATE)
    except ValueError:
        assert left < 0.3
        return
    np.testing.assert_array_equal(samples, read_audio(data, RATE)[: len(samples)])
    assert check_audio(counting(cut, 0)) == len(samples) / RATE
    assert len(samples) > (LOUD + SOFT) * RATE * left / 8  # the loud part takes most of the bytes


# Ogg --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("links", [2, 3])
def test_chained_ogg_is_read_to_its_end(subtype: str, links: int) -> None:
    one = encoded("OGG", subtype=subtype)
    whole(b"".join(encoded("OGG", subtype=subtype) for _ in range(links)), links * (LOUD + SOFT), within=0.01)
    whole(encoded("OGG", rate=8_000, channels=2, subtype=subtype) + one, 2 * (LOUD + SOFT), within=0.01)


def pages(data: bytes) -> list[bytes]:
    return [b"OggS" + page for page in data.split(b"OggS")[1:]]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_that_is_not_whole_has_the_length_that_is_there(subtype: str) -> None:
    found = pages(encoded("OGG", subtype=subtype))
    for some in (found[:-1], found[:2] + found[4:]):
        data = b"".join(some)
        samples = read_audio(data, RATE)
        assert 0.5 < len(samples) / RATE < LOUD + SOFT
        assert check_audio(data) == pytest.approx(len(samples) / RATE, abs=0.01)


# WAV and its like -------------------------------------------------------------------------------------------------


def sized(size: int, riff: int = 0xFFFFFFFF) -> bytes:
    """A WAV that says it has so many bytes of samples."""
    data = encoded("WAV")
    at = data.index(b"data") + 4
    return data[:4] + struct.pack("<I", riff) + data[8:at] + struct.pack("<I", size) + data[at + 4 :]


TRUE = 2 * (LOUD + SOFT) * RATE


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36, TRUE + 36])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_wav_from_a_pipe_is_read_to_its_end(size: int, riff: int) -> None:
    samples = whole(sized(size, riff), within=0)
    np.testing.assert_array_equal(samples, read_audio(encoded("WAV"), RATE))


@pytest.mark.parametrize("behind", [b"LIST\x04\0\0\0INFO", b"\0", b"LIST\x1a\0\0\0INFO"[1:], bytes(3_000)])
def test_what_stands_behind_the_samples_is_no_sound(behind: bytes) -> None:
    whole(sized(TRUE, TRUE + 36) + behind, within=0)


def test_wav_that_says_too_much_or_too_little_is_refused() -> None:
    refused(sized(2 * TRUE), "holds 6.00 of the 12.00 s that its header promises")
    refused(sized(TRUE)[: TRUE // 2], "of the 6.00 s that its header promises")
    refused(sized(TRUE // 6), "says that it is 1.00 s long, and as much as 5.00 s stand behind")


@pytest.mark.parametrize("format", ["AIFF", "AU", "W64", "RF64", "CAF", "NIST", "WAVEX", "SVX", "AVR"])
def test_other_formats_that_are_cut_short_are_refused(format: str) -> None:
    data = encoded(format)
    whole(data, within=0)
    refused(data[: len(data) // 2], "promises|cannot be read")


def test_a_rate_that_cannot_be_is_refused() -> None:
    for rate in (1, 999, 1 << 30):
        refused(encoded("WAV", rate, samples=np.zeros(10)), f"says that it has {rate} samples per second")


# All --------------------------------------------------------------------------------------------------------------

KINDS = [
    (format, subtype)
    for format in sorted(set(soundfile.available_formats()) - {"RAW", "MAT4", "MAT5", "MPC2K", "SD2", "XI"})
    for subtype in soundfile.available_subtypes(format)
]


@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_what_is_whole_is_read_whole_whatever_its_kind(format: str, subtype: str) -> None:
    rate = 8_000 if (format, subtype) == ("WVE", "ALAW") else RATE
    try:
        data = encoded(format, rate, samples=sound(rate)[: 2 * rate], subtype=subtype)
        soundfile.read(io.BytesIO(data))
    except (soundfile.SoundFileError, ValueError):
        pytest.skip("the library does not write, or does not read, what it writes")
    assert check_audio(data) == pytest.approx(2.0, abs=0.1)
    assert len(read_audio(data, rate)) / rate == pytest.approx(2.0, abs=0.1)
    cut = data[: len(data) // 2]
    try:
        samples = read_audio(cut, rate)
    except ValueError:
        return
    assert len(samples) / rate < 1.5


EXAMPLES = {
    "wav": encoded("WAV"),
    "flac": encoded("FLAC"),
    "vorbis": encoded("OGG", subtype="VORBIS"),
    "opus": encoded("OGG", subtype="OPUS"),
    "mp3": b"".join(mp3()),
    "mp3 without its count": mp3()[1],
    "aiff": encoded("AIFF"),
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from([*EXAMPLES]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4),
    early=st.booleans(),
    left=st.floats(0, 1),
)
def test_whatever_is_broken_is_read_or_named(
    kind: str, changes: list[tuple[float, bytes]], early: bool, left: float
) -> None:
    data = bytearray(EXAMPLES[kind])
    for place, new in changes:
        at = int(place * (100 if early else len(data) - 8))
        data[at : at + len(new)] = new
    for broken in (bytes(data), bytes(data[: int(left * len(data))])):
        for read in (check_audio, lambda data, name: read_audio(data, RATE, name=name)):
            try:
                read(broken, name="row 7")
            except ValueError as error:
                said = str(error)
            else:
                continue
            assert said.startswith("row 7: ")
