"""What a CTC model makes of recordings, found by trying: how many frames, how far apart, and whether it hears padding.

Settings do not tell: convolutions, adapters, a feature extractor and its padding all have a part in it.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.models.devices import out_of_memory

Try = Callable[[int], tuple[int, int, bool]]
"""Of a recording of so many samples the frames, the entries of the model's input (samples, or features), and whether
what the model says is numbers."""

Hear = Callable[[Sequence[np.ndarray]], tuple[Tensor, Tensor]]
"""Of a padded batch of recordings the log-probabilities `(B, T, V)` and the valid frames `(B,)`."""

_LONGEST = 60
"""Seconds of a recording that every model is taken to make frames of."""


@dataclass(frozen=True)
class Frames:
    """How many frames a model makes: one of `first` samples, and one more of each `shift` more.

    Attributes:
        shift: samples from a frame to the next.
        first: samples of which the first frame is made; fewer than `shift` where a network pads them.
        least: samples of the shortest recording with a frame.
        step: entries of the model's input from a frame to the next.
        span: entries of the model's input of which the first frame is made.
        foretold: whether this is how the model counts; if not, `shift` is a mean.

    Example:
        >>> wav2vec2 = Frames(shift=320.0, first=400, least=400, step=320, span=400)
        >>> [wav2vec2.count(samples) for samples in (399, 400, 719, 720, 16000)]
        [0, 1, 1, 2, 49]
    """

    shift: float
    first: int
    least: int
    step: int
    span: int
    foretold: bool = True

    def count(self, samples: int) -> int:
        """Frames of a recording of so many samples."""
        return max(0, int((samples - self.first) // self.shift) + 1) if samples >= self.least else 0


def find_frames(tried: Try, rate: int) -> Frames:
    """Find how a model counts from some twenty recordings of a quarter of a second, and two of a second and a half.

    Args:
        tried: what the model makes of a recording.
        rate: samples per second.

    Raises:
        ValueError: the number of frames does not depend on the length.

    Example:
        >>> find_frames(lambda samples: ((samples - 400) // 320 + 1, samples, True), 16000)
        Frames(shift=320.0, first=400, least=400, step=320, span=400, foretold=True)
    """
    near = rate // 4
    while (few := tried(near)[0]) < 2:
        near *= 2
        if near > _LONGEST * rate:
            raise ValueError(f"the model makes {few} frames of {near // 2} samples at {rate} Hz; is this its rate?")
    widest = 2 * (near // few + 1)
    here = _least(lambda samples: tried(samples)[0], few, max(0, near - widest), near)
    further = _least(lambda samples: tried(samples)[0], few + 1, here, here + widest)
    shift, entries = further - here, tried(here)[1]
    step = tried(further)[1] - entries
    first = here - (few - 1) * shift
    found = Frames(float(shift), first, _shortest(tried, first, here), step, entries - (few - 1) * step)
    far = here + shift * (5 * rate // (4 * shift) + 1)
    counts = [tried(samples)[0] for samples in (far - 1, far)]
    if counts == [found.count(far - 1), found.count(far)]:
        return found
    if counts[1] <= few:
        raise ValueError(f"the model makes {few} frames of {here} and {counts[1]} of {far} samples at {rate} Hz")
    return Frames((far - here) / (counts[1] - few), first, found.least, step, found.span, foretold=False)


def hears_padding(hear: Hear, frames: Frames, rate: int) -> bool:
    """Whether recordings of unlike lengths in a batch come out otherwise than alone, by more than rounding does.

    Args:
        hear: what the model says of a batch.
        frames: how it counts.
        rate: samples per second.
    """
    most = max(frames.least, rate // 2)
    lengths = [2 * most, *(int(most + (k + 0.5) * frames.shift) for k in range(4))]  # odd and even numbers of frames
    recordings = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    together, counts = hear(recordings)
    alone = [hear([recording]) for recording in recordings]
    twice, _ = hear([recordings[0], recordings[0]])
    rounding = float((twice[0] - alone[0][0][0]).abs().max())
    for found, count, (single, (own,)) in zip(together, counts, alone, strict=True):
        if count != own:
            return True
        single = single[0, :own]
        spread = float((single - single.mean(0)).abs().max())
        eps = torch.finfo(single.dtype).eps
        allowed = max(1000 * eps * spread, 50 * eps * float(single.abs().max()), 8 * rounding)
        if not float((found[:own] - single).abs().max()) <= allowed:
            return True
    return False


def until(time: float, seconds: float) -> float:
    """The time, or the recording's end where it lies beyond: a network that pads what it reads has frames there.

    Example:
        >>> until(1.04, 1.0), until(0.98, 1.0)
        (1.0, 0.98)
    """
    return seconds if time > seconds + 1e-6 else time


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """A recording to try a model with."""
    return np.random.default_rng(seed).normal(0.0, 0.1, samples).astype(np.float32)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, and afterwards every part in the mode it was in."""
    before: list[tuple[Any, bool]] = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _least(count: Callable[[int], int], frames: int, below: int, above: int) -> int:
    """The fewest samples of which so many frames are made; too few are `below`, enough `above`."""
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if count(middle) >= frames else (middle, above)
    return above


def _shortest(tried: Try, first: int, enough: int) -> int:
    """The fewest samples that make a frame: more than `first` where the model cannot read so short a recording."""

    def count(samples: int) -> int:
        try:
            with warnings.catch_warnings(action="ignore"):
                frames, _, sound = tried(samples)
                return frames if sound else 0
        except (RuntimeError, ValueError, IndexError, TypeError) as error:  # as a network says that it is too short
            if out_of_memory(error):
                raise
            return 0

    first = max(first, 1)
    return first if count(first) or not count(enough) else _least(count, 1, first, enough)
