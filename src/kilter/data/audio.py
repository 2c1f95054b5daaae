"""Audio files as mono float32 at the rate a model wants.

Decoding is libsndfile's (wav, flac, ogg, mp3, …), resampling is SciPy's polyphase filter. The departures: a header is
not believed without a look (`kilter.data.containers`), and a channel with nothing on it is left out of the mean, so
that half-empty stereo keeps its level.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from kilter.core.names import READ, printable
from kilter.data.containers import (
    FLAC_TAIL,
    MISSING,
    UNKNOWN,
    Parts,
    UncountableError,
    chunks,
    endless,
    flac,
    flac_counts,
    flac_header,
    lacks,
    ogg,
    sphere,
)
from kilter.data.mpeg import MPEG_MISSING, mpeg
from kilter.data.recordings import common, conversion

if TYPE_CHECKING:
    from soundfile import SoundFile

Samples = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | bytes

SILENT_CHANNEL = 1e-3
"""A channel whose RMS is below this share of the loudest one's (−60 dB) carries no speech."""
BLOCK = 1 << 24
"""Numbers decoded at once, whatever a header says."""
ENDLESS = 1 << 48
"""Frames that no recording has."""
RATES = 1_000, 1_000_000
"""Samples per second that a recording can have."""


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
    """Decode one recording to its true end, whatever its header says.

    Args:
        source: A path, or the bytes of an encoded file.
        rate: Samples per second of the result.
        name: What errors call the recording; by default its path.

    Returns:
        Mono samples in [−1, 1], shape `(samples,)`.

    Raises:
        ValueError: The recording cannot be read, is empty, is cut short or holds NaN or infinity.
    """
    if rate <= 0:
        raise ValueError(f"rate must be a positive number of samples per second, not {rate}")
    name = name or _name(source)
    parts = []
    with _named(source, name):
        for file, mended in _files(source):
            one_go = file.format == "MP3"  # the seek after each block would be heard
            blocks = [*_blocks(file, mended, file.frames if one_go else BLOCK // file.channels)]
            samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
            if not np.isfinite(samples).all():
                raise ValueError(f"{name}: holds NaN or infinite samples; export it again, or leave it out")
            if len(samples):
                parts.append(resample(mix(samples), file.samplerate, rate))
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.float32)])
    if not len(whole):
        raise ValueError(_empty(name))
    return np.clip(whole, -1.0, 1.0)


def check_audio(source: Source, *, name: str | None = None) -> float:
    """The duration in seconds, or an error as of `read_audio`.

    The header is read and held against what there is; only where it does not count is the recording decoded.
    """
    name = name or _name(source)
    seconds = 0.0
    with _named(source, name):
        for file, mended in _files(source):
            frames = sum(map(len, _blocks(file, mended, BLOCK // file.channels))) if mended else file.frames
            seconds += frames / file.samplerate
    if not seconds:
        raise ValueError(_empty(name))
    return seconds


@contextmanager
def _named(source: Source, name: str) -> Iterator[None]:
    """Errors with the recording's name and what to do."""
    import soundfile

    try:
        yield
    except UncountableError as error:
        raise ValueError(f"{name}: {error}; copy it again, or convert it: {conversion(_path(source))}") from error
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(_unreadable(source, name, error)) from error


def _files(source: Source) -> "Iterator[tuple[SoundFile, Parts | None]]":
    """What to decode, one after the other, and what it is a part of where the file as it is would not do."""
    import soundfile

    if not isinstance(source, bytes) and not os.path.isfile(source):
        raise OSError("no file")  # a pipe would be waited for
    try:
        file = soundfile.SoundFile(_open(source))
    except soundfile.SoundFileError as error:
        mended = _found(source, error)
    else:
        with file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise UncountableError(f"says that it has {file.samplerate} samples per second")
            mended = _mended(source, file)
            if mended is None and file.frames > ENDLESS:
                raise UncountableError("does not say how long it is")
            if mended is None:
                yield file, None
    for part in mended.files if mended else ():
        with soundfile.SoundFile(io.BytesIO(part)) as file:
            yield file, mended


def _found(source: Source, error: Exception) -> Parts | None:
    """The frames of an MP3 that libsndfile does not find, as much stands before them."""
    if isinstance(source, bytes) or READ.get(Path(source).suffix.lower().removeprefix(".")) == "MP3":
        with suppress(UncountableError):
            return mpeg(_bytes(source), -UNKNOWN)
    raise error


def _mended(source: Source, file: "SoundFile") -> Parts | None:
    """None where the header can be trusted."""
    match file.format:
        case "MP3":
            return mpeg(_bytes(source), file.frames)
        case "OGG":
            return ogg(_bytes(source))
        case "FLAC":
            header = flac_header(_bytes(source, 0, 256)) or flac_header(_bytes(source))  # behind a tag
            counts = header is None or flac_counts(_bytes(source, -FLAC_TAIL), header)
            return None if header is None or counts else flac(_bytes(source), header)
        case "NIST":
            sphere(_bytes(source, 0, 1024), file.frames, file.samplerate)
        case "WAV" | "WAVEX" if not file.frames:
            return endless(_bytes(source))
        case _:
            chunks(file.extra_info, file.frames, file.samplerate)


def _blocks(file: "SoundFile", mended: Parts | None, size: int) -> Iterator[Samples]:
    """Samples `(frames, channels)` up to the end, at least one block."""
    there = 0
    while True:
        block = np.asarray(file.read(min(size, file.frames - there), dtype="float32", always_2d=True), dtype=np.float32)
        there += len(block)
        yield block
        if there >= file.frames or not len(block):
            break
    if there < file.frames and (mended is None or mended.counted):
        missing = MPEG_MISSING if "MPEG" in file.subtype else MISSING * file.samplerate
        if file.frames - there > missing:
            raise lacks(there / file.samplerate, file.frames / file.samplerate)


def _bytes(source: Source, start: int = 0, stop: int | None = None) -> bytes:
    """A slice of the file."""
    if isinstance(source, bytes):
        return source[start:stop]
    with open(source, "rb") as file:
        if start < 0:
            start = max(0, file.seek(0, os.SEEK_END) + start)
        file.seek(start)
        return file.read(-1 if stop is None else stop - start)


def mix(samples: Samples) -> Samples:
    """Mean over channels, `(samples, channels)` to `(samples,)`, without the channels that are silent."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    level = np.sqrt(np.square(samples, dtype=np.float64).mean(axis=0))
    return samples[:, level >= SILENT_CHANNEL * level.max()].mean(axis=1)


def resample(samples: Samples, rate: int, to: int) -> Samples:
    """Change the rate by a rational factor, with the anti-aliasing filter that it needs."""
    if rate == to:
        return samples
    from scipy.signal import resample_poly

    shared = gcd(rate, to)
    return resample_poly(samples, to // shared, rate // shared).astype(np.float32)


def _open(source: Source) -> Any:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return os.fspath(source) if os.name == "nt" else os.fsencode(source)  # a name need not be UTF-8


def _name(source: Source) -> str:
    return "audio given as bytes" if isinstance(source, bytes) else printable(os.fspath(source))


def _path(source: Source) -> str | os.PathLike[str]:
    return "a.mp3" if isinstance(source, bytes) else source


def _empty(name: str) -> str:
    return f"{name}: holds no samples; record it again, or leave it out"


def _unreadable(source: Source, name: str, error: Exception) -> str:
    if not isinstance(source, bytes):
        if not os.path.exists(source):
            lost = "points to no file" if os.path.islink(source) else "no such file"
            return f"{name}: {lost}; correct the path in the manifest, or leave the row out"
        if os.path.isdir(source):
            return f"{name}: is a folder and no recording; name the recordings in it, or leave it out"
    if not (len(source) if isinstance(source, bytes) else os.path.getsize(source)):
        return _empty(name)
    why = getattr(error, "error_string", error)
    return f"{name}: cannot be read as audio ({why}); expected {common()}; convert it: {conversion(_path(source))}"
