"""Reading recordings: formats, rates, channels, and files that are not what they say."""

import io

import numpy as np
import pytest
import soundfile

from kilter.data.audio import check_audio, mix, read_audio

RATE = 16_000


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def pitch(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_rate_and_channel_count_gives_the_same_tone(tmp_path, suffix, rate, channels):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.stack([tone(1.0, rate)] * channels, axis=1), rate)

    samples = read_audio(path, RATE)

    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(RATE, rel=0.12 if suffix == "mp3" else 0.001)  # mp3 pads its frames
    assert pitch(samples, RATE) == pytest.approx(440, abs=2)
    assert np.sqrt(np.square(samples[2_000:-2_000]).mean()) == pytest.approx(0.5 / 2**0.5, rel=0.05)
    assert check_audio(path) == pytest.approx(1.0, rel=0.12)


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("noise", [0.0, 1e-5])
def test_a_channel_with_nothing_on_it_does_not_halve_the_level(tmp_path, silent, noise):
    channels = np.stack([tone(0.5, RATE)] * 2, axis=1)
    channels[:, silent] = noise * np.random.default_rng(0).standard_normal(len(channels))
    soundfile.write(tmp_path / "half.wav", channels, RATE, subtype="FLOAT")

    samples = read_audio(tmp_path / "half.wav", RATE)

    np.testing.assert_allclose(samples, channels[:, 1 - silent])


def test_two_real_channels_are_averaged():
    left, right = tone(0.1, RATE), tone(0.1, RATE, hertz=1_000, level=0.05)
    np.testing.assert_allclose(mix(np.stack([left, right], axis=1)), (left + right) / 2, atol=1e-7)


def test_silence_is_silence_and_overshoot_is_clipped(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros((800, 2)), 8_000)
    assert not read_audio(tmp_path / "silence.wav", RATE).any()

    square = np.sign(tone(0.2, 8_000))
    soundfile.write(tmp_path / "square.wav", square, 8_000)
    assert np.abs(read_audio(tmp_path / "square.wav", RATE)).max() == 1.0


def test_bytes_are_read_like_a_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    content = (tmp_path / "a.wav").read_bytes()
    np.testing.assert_array_equal(read_audio(content, RATE), read_audio(tmp_path / "a.wav", RATE))
    with pytest.raises(ValueError, match="row 7: cannot be read as audio"):
        read_audio(content[:10], RATE, name="row 7")


@pytest.mark.parametrize("read", [check_audio, lambda path: read_audio(path, RATE)])
def test_bad_files_are_named(tmp_path, read):
    text, empty = tmp_path / "text.wav", tmp_path / "empty.wav"
    text.write_text("not audio")
    soundfile.write(empty, np.zeros(0), RATE)

    with pytest.raises(ValueError, match=r"text\.wav: cannot be read as audio"):
        read(text)
    with pytest.raises(ValueError, match=r"empty\.wav: holds no samples"):
        read(empty)
    with pytest.raises(ValueError, match=r"gone\.wav: no such file"):
        read(tmp_path / "gone.wav")


def test_nan_and_a_bad_rate_are_refused():
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.0, np.nan], dtype=np.float32), RATE, subtype="FLOAT", format="WAV")
    with pytest.raises(ValueError, match="NaN"):
        read_audio(buffer.getvalue(), RATE)
    with pytest.raises(ValueError, match="rate must be"):
        read_audio(buffer.getvalue(), 0)
