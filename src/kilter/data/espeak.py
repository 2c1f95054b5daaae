"""Spoken digits without a recording or a network: eSpeak NG through ctypes, files named as in `fsdd`.

Source: the library and voices in the `espeakng-loader` wheel. The departure from calling it plainly: each run works
on a private copy of the library. Its pitch flutter has a clock that nothing resets, so only a freshly loaded
library speaks the same samples again. The speech is synthetic; whoever uses it says so.
"""

import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from kilter.data.audio import Samples, resample
from kilter.data.fsdd import RATE, WORDS

VOICES = (
    "en-us",
    "en-us+f2",
    "en-us+m7",
    "en-us-nyc+f4",
    "en-gb-x-rp",
    "en-gb-x-rp+f3",
    "en-gb-scotland+m3",
    "en-gb-scotland+f5",
    "en-gb-x-gbcwmd+m1",
    "en-029+f1",
)
"""Accent and speaker variant, by eSpeak's names."""

TAKES = range(30)
WORDS_PER_MINUTE = (115, 215)
PITCH = (25, 75)
LOUDNESS = (50, 100)

# From eSpeak's speak_lib.h.
SYNCHRONOUS, DO_NOT_EXIT = 2, 0x8000
RATE_PARAMETER, VOLUME_PARAMETER, PITCH_PARAMETER = 1, 2, 3
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def spoken_digits(
    folder: str | os.PathLike[str],
    *,
    voices: Sequence[str] = VOICES,
    takes: Iterable[int] = TAKES,
    progress: bool = True,
) -> None:
    """Write `{digit}_{voice}_{take}.wav` at 8 kHz for every digit, voice and take; files already there stay.

    The same arguments give the same samples. Every take has a rate, pitch and loudness of its own, shared by the
    voices, so that the test takes are spoken as no training take is.

    Raises:
        ModuleNotFoundError: `espeakng_loader` or `soundfile` is not installed.
        ValueError: A voice is unknown.
    """
    import soundfile
    from rich.console import Console
    from rich.progress import track

    folder, takes = Path(folder), list(takes)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(take, voice, digit) for take in takes for voice in voices for digit in range(10)]
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as private:  # Windows holds on to a loaded library
        espeak = Espeak(Path(private))
        for take, voice, digit in track(jobs, "Speaking digits", console=console, transient=True, disable=not progress):
            samples = espeak.say(WORDS[digit], voice, *manner(take))
            path = folder / f"{digit}_{voice.replace('+', '-')}_{take}.wav"
            if not path.exists():
                partial = path.with_suffix(".partial")
                soundfile.write(partial, samples, RATE, subtype="PCM_16", format="WAV")
                partial.replace(path)


def manner(take: int) -> tuple[int, int, int]:
    """Words per minute, pitch and loudness of a take: a low-discrepancy sequence, so that no two are near."""
    steps = ((WORDS_PER_MINUTE, 0.8191725), (PITCH, 0.6710436), (LOUDNESS, 0.5497005))
    rate, pitch, loudness = (round(low + (high - low) * ((take + 0.5) * step % 1)) for (low, high), step in steps)
    return rate, pitch, loudness


class Espeak:
    """The library in its initial state, loaded from a copy in `folder`."""

    def __init__(self, folder: Path) -> None:
        import espeakng_loader

        library = shutil.copy(espeakng_loader.get_library_path(), folder)
        self._library = ctypes.CDLL(os.fspath(library))
        self._chunks: list[np.ndarray] = []
        self._callback = CALLBACK(self._receive)  # kept: the library holds a bare pointer
        data = os.fsencode(espeakng_loader.get_data_path())
        self._rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, DO_NOT_EXIT)
        if self._rate <= 0:
            raise OSError(f"eSpeak NG did not start on {data!r}; install espeakng-loader again")
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int, loudness: int) -> Samples:
        """Speak a text; mono at `RATE`."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"eSpeak has no voice called {voice!r}; choose among {', '.join(VOICES)}, …")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(0))
        self._library.espeak_SetParameter(RATE_PARAMETER, words_per_minute, 0)
        self._library.espeak_SetParameter(PITCH_PARAMETER, pitch, 0)
        self._library.espeak_SetParameter(VOLUME_PARAMETER, loudness, 0)
        self._chunks.clear()
        encoded = text.encode() + b"\0"
        self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, 1, None, None)
        return resample(np.concatenate(self._chunks).astype(np.float32) / np.float32(2**15), self._rate, RATE)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int | None) -> int:
        if count:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
