"""How many frames an MP3 really has, and the tag that says so, for a decoder that guesses where there is none.

libsndfile takes the length of an MP3 without a Xing, Info or VBRI tag from its size and its first bit rate, and stops
there. Frames are counted by their headers; what is no frame (ID3 in front, between and behind, garbage) is dropped.

References: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing tag as LAME writes it, ID3v2 (id3.org).
"""

import re
import struct
from functools import lru_cache
from typing import NamedTuple

from kilter.data.containers import Parts, UncountableError, lacks

_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""By the code of the version: MPEG-1, 2 and 2.5."""
_KILOBITS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By whether it is MPEG-1, and the code of the layer: 3 is layer I, 1 is layer III."""
_SLACK = 4
"""Frames by which counts may differ: some writers count the tag, all hide an encoder's delay."""
MPEG_MISSING = _SLACK * 1152
"""Samples that make up so many frames."""
_MARK = re.compile(rb"\xff[\xe0-\xff]|ID3")
_ID3 = re.compile(rb"ID3[^\xff]{2}.([\x00-\x7f]{4})", re.DOTALL)
_AFTER = (b"", b"TAG", b"ID3", b"APE", b"LYR")
"""How what follows the last frame begins."""


class _Frame(NamedTuple):
    """A frame's size in bytes, its samples, and what must stay the same in a stream."""

    size: int
    samples: int
    kind: tuple[int, int, int, bool]  # version, layer, rate, mono


@lru_cache(4096)
def _frame(head: bytes) -> _Frame | None:
    """What a frame's first four bytes say; None where they are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer, bits, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return None
    hertz, padding = _RATES[version][rate], head[2] >> 1 & 1
    samples = 384 if layer == 3 else 576 if layer == 1 and version != 3 else 1152
    unit = 4 if layer == 3 else 1
    size = (samples // 8 // unit * 1000 * _KILOBITS[version == 3, layer][bits - 1] // hertz + padding) * unit
    return _Frame(size, samples, (version, layer, hertz, head[3] >> 6 == 3))


def _starts(data: bytes, at: int) -> bool:
    """Whether three frames of one kind follow on each other, or as many as there are up to the end."""
    kind = None
    for _ in range(3):
        frame = _frame(data[at : at + 4])
        if frame is None or (kind and frame.kind != kind):
            return kind is not None and at <= len(data) and data[at : at + 3] in _AFTER
        kind, at = frame.kind, at + frame.size
    return at <= len(data)


class _Run(NamedTuple):
    """Frames of one kind that follow on each other: the first of them, where they lie, and how many they are."""

    first: _Frame
    start: int
    end: int
    frames: int


def _runs(data: bytes) -> list[_Run]:
    """All frames, without what stands before, between and behind them."""
    at, found = 0, []
    while at < len(data):
        if (first := _frame(data[at : at + 4])) and _starts(data, at):
            start, count, kind, frame = at, 0, first.kind, first
            while frame and frame[2] == kind and at + frame[0] <= len(data):  # by place, as it is the inner loop
                at += frame[0]
                count += 1
                frame = _frame(data[at : at + 4])
            found.append(_Run(first, start, at, count))
        elif (tag := _ID3.match(data, at)) and at + (size := _tag_size(tag[1])) < len(data):
            at += size
        else:
            mark = _MARK.search(data, at + 1)
            at = mark.start() if mark else len(data)
    return found


def _tag_size(size: bytes) -> int:
    """Of an ID3 tag with its head: four times seven bits."""
    return 10 + sum(byte << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))


def _side(head: bytes) -> int:
    """Where the tag lies in a frame of layer III."""
    mono = head[3] >> 6 == 3
    return 4 + ((17 if mono else 32) if head[1] >> 3 & 3 == 3 else (9 if mono else 17))


def _tags(data: bytes, runs: list[_Run]) -> dict[int, int]:
    """Where frames lie that are a tag and no sound, and the frames that each counts; 0 where it does not say."""
    found = {}
    for word in (b"Xing", b"Info", b"VBRI"):
        at = -1
        while (at := data.find(word, at + 1)) >= 0 and at + 18 <= len(data):
            for start in (at - 36,) if word == b"VBRI" else (at - 13, at - 21, at - 36):
                frame = _frame(data[start : start + 4]) if start >= 0 else None
                if frame and (word == b"VBRI" or start + _side(data[start : start + 4]) == at):
                    said = at + 14 if word == b"VBRI" else at + 8 if data[at + 7] & 1 else None
                    found[start] = int.from_bytes(data[said : said + 4]) if said else 0
    return {start: found[start] for start in sorted(found) if any(run.start <= start < run.end for run in runs)}


def mpeg(data: bytes, count: int) -> Parts | None:
    """MP3 and its elders: None where `count`, what the decoder believes, is about what there is.

    Raises:
        UncountableError: there is less than a tag promises, or the rate changes on the way.
    """
    runs = _runs(data)
    tags = _tags(data, runs)
    frames = sum(run.frames for run in runs) - len(tags)
    if frames <= 0:
        raise UncountableError("holds no frame of MPEG audio that can be counted")
    first = runs[0].first
    if len(kinds := dict.fromkeys(run.first.kind for run in runs)) > 1:
        told = " to ".join(f"{rate} Hz {'mono' if mono else 'stereo'}" for _, _, rate, mono in kinds)
        raise UncountableError(f"changes on its way from {told}")
    if len(tags) == 1 and (promised := max(tags.values())) > frames + _SLACK:
        seconds = first.samples / first.kind[2]
        raise lacks(frames * seconds, promised * seconds)
    hidden = MPEG_MISSING if tags else _SLACK * first.samples
    if abs(count - frames * first.samples) <= hidden and len(tags) < 2:
        return None
    return Parts([_counted(data, runs, [*tags], frames)])


def _counted(data: bytes, runs: list[_Run], tags: list[int], frames: int) -> bytes:
    """The frames of sound alone, behind a tag that counts them."""
    edges = [edge for run in runs for edge in (run.start, run.end)]
    edges += [edge for at in tags for edge in (at, at + _size(data, at))]
    edges.sort()  # where sound begins and ends in turn: a tag lies within a run, and ends what it begins
    sound = b"".join(data[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))
    first = runs[0].first
    if first.kind[1] != 1:  # only layer III has tags
        return sound
    head = data[runs[0].start : runs[0].start + 4]
    head = bytes((0xFF, head[1] | 1, head[2] & 0b1100 | 0xE0, head[3]))  # no check sum, and room for the tag
    size = _size(head, 0)
    tag = bytes(_side(head) - 4) + b"Xing" + struct.pack(">III", 3, frames, size + len(sound))
    return (head + tag).ljust(size, b"\0") + sound


def _size(data: bytes, at: int) -> int:
    frame = _frame(data[at : at + 4])
    return frame.size if frame else 0
