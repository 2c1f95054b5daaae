"""Audio files as mono float32 at the rate a model wants.

Decoding is libsndfile's (wav, flac, ogg, mp3, …), resampling is SciPy's polyphase filter. The one departure
from a plain mean of channels: one with nothing on it is left out, so that half-empty stereo keeps its level.
"""

import io
import os
from math import gcd
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | bytes

SILENT_CHANNEL = 1e-3
"""A channel whose RMS is below this share of the loudest one's (−60 dB) carries no speech."""


class Word(TypedDict):
    """One word and its span, in seconds from the start of the utterance."""

    word: str
    start: float
    end: float


class Utterance(TypedDict):
    """What every reader of this package yields."""

    id: str
    audio: Samples
    text: str
    words: NotRequired[list[Word]]
    speaker: NotRequired[str]


def read_audio(source: Source, rate: int, *, name: str | None = None) -> Samples:
    """Decode one recording.

    Args:
        source: A path, or the bytes of an encoded file.
        rate: Samples per second of the result.
        name: What errors call the recording; by default its path.

    Returns:
        Mono samples in [−1, 1], shape `(samples,)`.

    Raises:
        ValueError: The recording cannot be read, is empty or holds NaN or infinity.
    """
    import soundfile

    if rate <= 0:
        raise ValueError(f"rate must be a positive number of samples per second, not {rate}")
    name = name or _name(source)
    try:
        samples, own_rate = soundfile.read(_open(source), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(_unreadable(source, name, error)) from error
    if not len(samples):
        raise ValueError(_empty(name))
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: holds NaN or infinite samples; export it again, or leave it out")
    return np.clip(resample(mix(np.asarray(samples, dtype=np.float32)), own_rate, rate), -1.0, 1.0)


def check_audio(source: Source, *, name: str | None = None) -> float:
    """Read only the header; return the duration in seconds, or raise as `read_audio` does."""
    import soundfile

    name = name or _name(source)
    try:
        info = soundfile.info(_open(source))
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(_unreadable(source, name, error)) from error
    if not info.frames:
        raise ValueError(_empty(name))
    return info.frames / info.samplerate


def mix(samples: Samples) -> Samples:
    """Mean over channels, `(samples, channels)` to `(samples,)`, without the channels that are silent."""
    level = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=0))
    return samples[:, level >= SILENT_CHANNEL * level.max()].mean(axis=1)


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """Change the rate by a rational factor, with the anti-aliasing filter that it needs."""
    if rate == to:
        return samples
    from scipy.signal import resample_poly

    shared = gcd(rate, to)
    return resample_poly(samples, to // shared, rate // shared).astype(np.float32)


def _open(source: Source) -> str | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)


def _name(source: Source) -> str:
    return "audio given as bytes" if isinstance(source, bytes) else os.fspath(source)


def _empty(name: str) -> str:
    return f"{name}: holds no samples; record it again, or leave it out"


def _unreadable(source: Source, name: str, error: Exception) -> str:
    if not isinstance(source, bytes) and not os.path.exists(source):
        return f"{name}: no such file; correct the path in the manifest, or leave the row out"
    return f"{name}: cannot be read as audio ({error}); expected wav, flac, ogg or mp3"
