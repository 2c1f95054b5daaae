"""A recording that is too long for one piece: windows that overlap, of which only the inner frames are kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilter.models.frames import Frames

_GRID = 8
"""Frames: windows begin at multiples, as a network may put neighbouring frames together and part them again."""


@dataclass(frozen=True)
class Windows:
    """How a long recording goes through a model.

    Attributes:
        seconds: of a window, and of the longest recording that goes through in one piece.
        margin: seconds at the inner edges of a window that are heard, and whose frames are another window's.
    """

    seconds: float = 300.0
    margin: float = 10.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"window_seconds must be above 0, got {self.seconds:g}")
        if not 0 <= 2 * self.margin < self.seconds:
            raise ValueError(
                f"margin_seconds must be at least 0 and less than half of the window's {self.seconds:g} seconds, got "
                f"{self.margin:g}"
            )

    def cut(self, entries: int, frames: "Frames", rate: int) -> Iterator[tuple[slice, slice]]:
        """For each window the entries of the model's input, and which of its frames are kept.

        Args:
            entries: of the whole input, along time.
            frames: how the model counts.
            rate: samples per second.

        Raises:
            ValueError: the model does not make a frame every so many samples, so that no window can be cut.

        Example:
            >>> from kilter.models.frames import Frames
            >>> frames = Frames(shift=100.0, first=100, least=100, step=100, span=100)
            >>> [(part.start, part.stop, kept) for part, kept in Windows(4.0, 0.8).cut(6000, frames, 1000)]
            [(0, 3300, slice(0, 24, None)), (1600, 5700, slice(8, 32, None)), (4000, 6000, slice(8, None, None))]
        """
        if not frames.foretold:
            raise ValueError("the model's frames are not evenly spaced; cut the recording into shorter ones")
        margin = -(-math.ceil(self.margin * rate / frames.shift) // _GRID) * _GRID
        kept = max(_GRID, (int(self.seconds * rate / frames.shift) - 2 * margin) // _GRID * _GRID)
        begin, stop = 0, 0
        while stop < entries:
            start = max(0, begin - margin)
            stop = min(entries, (begin + kept + margin) * frames.step + frames.span)
            inner = slice(begin - start, None if stop == entries else begin - start + kept)
            yield slice(start * frames.step, stop), inner
            begin += kept
