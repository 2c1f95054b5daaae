"""How long a recording is where libsndfile believes a header that says too little, nothing, or more than there is.

It stops where the header says: of chained Ogg it reads the first link, a FLAC from a pipe it takes for endless. Here
pages and frames are counted, and the decoder is given a header that is right. MP3 is in `kilter.data.mpeg`.

References: RFC 9639 (FLAC), RFC 3533 (Ogg), the log that libsndfile writes of the others.
"""

import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

UNKNOWN = 0x7FFF0000
"""A size from which on it is a mark for "not known yet", as those leave it who write into a pipe."""
MISSING = 0.02
"""Seconds that may lack at the end: writers miscount by some bytes."""


class UncountableError(ValueError):
    """What a header says and what there is differ, and a part would be lost in silence."""


class Parts(NamedTuple):
    """What the decoder is given instead of the file, in turn; `counted` says that their own headers are right."""

    files: list[bytes]
    counted: bool = True


def lacks(there: float, promised: float) -> UncountableError:
    """Less than promised."""
    return UncountableError(f"holds {there:.2f} of the {promised:.2f} s that its header promises")


# Ogg --------------------------------------------------------------------------------------------------------------


def ogg(data: bytes) -> Parts | None:
    """Ogg, whatever is in it: None where it is one stream that is whole from its beginning; else its links."""
    links, follows = [0], True
    numbers: dict[bytes, int] = {}
    ends: list[int] = []
    at, begun = data.find(b"OggS"), False
    while at >= 0 and len(data) >= at + 27:
        first, serial, number = (
            data[at + 5] & 2,
            data[at + 14 : at + 18],
            int.from_bytes(data[at + 18 : at + 22], "little"),
        )
        if first and begun:
            links.append(at)
            numbers.clear()
        begun = not first
        follows &= number == numbers.get(serial, -1) + 1
        numbers[serial] = number
        if (end := int.from_bytes(data[at + 6 : at + 14], "little", signed=True)) > 0 and len(ends) < 2:
            ends.append(end)
        body = at + 27 + data[at + 26]
        at = data.find(b"OggS", body + sum(data[at + 27 : body]))
    late = len(ends) == 2 and ends[0] > 8 * (ends[1] - ends[0])  # cut out of a broadcast that ran before
    if len(links) == 1 and follows and not late:
        return None
    return Parts([data[start:end] for start, end in zip(links, [*links[1:], None], strict=True)], counted=False)


# FLAC -------------------------------------------------------------------------------------------------------------

_BLOCKS = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
FLAC_TAIL = 1 << 17
"""Bytes in which the last frame mostly begins."""
_LONGEST = 1 << 20


@cache
def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for value in range(256):
        value <<= bits - 8
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


def _crc8(data: bytes) -> int:
    table, value = _crc_table(8, 0x07), 0
    for byte in data:
        value = table[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    table, value = _crc_table(16, 0x8005), 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ table[value >> 8 ^ byte]
    return value


def _flac_end(data: bytes, at: int, block: int) -> tuple[int, int] | None:
    """The first sample of the frame that begins here and the one after its last; None where none begins."""
    head = data[at : at + 16]
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or not head[2] >> 4 or head[3] & 1:
        return None
    more = (head[4] ^ 0xFF).bit_length()  # of the number, coded as UTF-8 does: 8 less the ones in front
    length = 1 if more == 8 else 8 - more
    if length > 7 or more == 7 or any(byte & 0xC0 != 0x80 for byte in head[5 : 4 + length]):
        return None
    number = head[4] & (0x7F if length == 1 else (1 << max(more - 1, 0)) - 1)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    at, code = 4 + length, head[2] >> 4
    wide = {6: 1, 7: 2}.get(code, 0)
    samples = int.from_bytes(head[at : at + wide]) + 1 if wide else _BLOCKS[code]
    at += wide + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    start = number if head[1] & 1 else number * block
    return start, start + samples


def _syncs(data: bytes) -> Iterator[int]:
    """Where frames may begin, from the end."""
    at = len(data)
    while (at := data.rfind(b"\xff", 0, at)) >= 0:
        if data[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            yield at


class FlacHeader(NamedTuple):
    """Where the count of samples stands, and what it says; samples in a block, where they are the same in all."""

    at: int
    samples: int
    block: int
    rate: int


def flac_header(head: bytes) -> FlacHeader | None:
    """Of the file's first bytes."""
    at = head.find(b"fLaC")
    if at < 0 or len(head) < at + 26:
        return None
    rest = int.from_bytes(head[at + 18 : at + 26])
    return FlacHeader(at + 18, rest & (1 << 36) - 1, int.from_bytes(head[at + 8 : at + 10]), rest >> 44)


def flac_counts(tail: bytes, header: FlacHeader) -> bool:
    """Whether the last frame ends where the header says."""
    return any((end := _flac_end(tail, at, header.block)) and end[1] == header.samples for at in _syncs(tail))


def flac(data: bytes, header: FlacHeader) -> Parts | None:
    """A FLAC whose header does not count its samples rightly, with the true count in it; None where it does.

    Raises:
        UncountableError: there is less than it promises, or no frame can be found.
    """
    ends = [len(data)]
    for at in _syncs(data):
        if len(ends) > 64:
            break
        if not (span := _flac_end(data, at, header.block)):
            continue
        if span[1] == header.samples:  # and a long tag behind it
            return None
        for end in ends:
            if end - at < _LONGEST and _crc16(data[at : end - 2]) == int.from_bytes(data[end - 2 : end]):
                if span[1] < header.samples < UNKNOWN:
                    raise lacks(span[1] / header.rate, header.samples / header.rate)
                place = int.from_bytes(data[header.at : header.at + 8])
                count = (place >> 36 << 36 | span[1]).to_bytes(8)
                return Parts([data[: header.at] + count + data[header.at + 8 : end]])
        ends.append(at)
    raise UncountableError("holds no whole frame of FLAC")


# RIFF, AIFF, AU, W64 ----------------------------------------------------------------------------------------------

_SHOULD_BE = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Data Size|Data length)(?: *:)? (\d+) \(?should be (\d+)", re.MULTILINE
)
_FRAMES = re.compile(r"^\s*Frames\s*: (\d+)$", re.MULTILINE)
_BEHIND = re.compile(r"^Length : (\d+)$.*^data : (\d+)$.*Unknown chunk marker \(\w+\) at position (\d+)", re.M | re.S)
_MUCH = 1.0
"""Seconds of what is no chunk behind the samples that are more than a forgotten byte or a strange tag."""


def chunks(log: str, frames: int, rate: int) -> None:
    """Compare what the header of a format in chunks says with what libsndfile found, which stands in its log.

    Raises:
        UncountableError: samples lack, or more than a second of what is no chunk stands behind them.
    """
    if not any(mark in log for mark in ("should be", "Frames", "Unknown")):
        return
    seconds = frames / rate
    for promised, there in ((int(found[1]), int(found[2])) for found in _SHOULD_BE.finditer(log)):
        lacking = (promised / there - 1) * seconds if there else 0.0
        if promised < UNKNOWN and lacking > MISSING:
            raise lacks(seconds, seconds + lacking)
    if (found := _FRAMES.search(log)) and frames + MISSING * rate < int(found[1]) < UNKNOWN:
        raise lacks(seconds, int(found[1]) / rate)
    if (found := _BEHIND.search(log)) and int(found[2]):
        behind = (int(found[1]) - int(found[3])) / int(found[2]) * seconds
        if behind > _MUCH:
            raise UncountableError(
                f"says that it is {seconds:.2f} s long, and as much as {behind:.2f} s stand behind (if that is sound, "
                "ffmpeg reads it with -ignore_length 1)"
            )


def sphere(head: bytes, frames: int, rate: int) -> None:
    """As `chunks`, for NIST's format, by the first bytes of the file.

    Raises:
        UncountableError: samples lack.
    """
    if (found := re.search(rb"^sample_count -i (\d+)", head, re.MULTILINE)) and int(found[1]) > frames + MISSING * rate:
        raise lacks(frames / rate, int(found[1]) / rate)


def endless(data: bytes) -> Parts | None:
    """A WAV whose writer was stopped before it could write the sizes, with sizes that say "to the end"; else None."""
    at = 12
    while data[:4] in (b"RIFF", b"RIFX") and at + 8 < len(data):
        (size,) = struct.unpack_from(">I" if data[:4] == b"RIFX" else "<I", data, at + 4)
        if data[at : at + 4] == b"data":
            return None if size else Parts([data[: at + 4] + b"\xff\xff\xff\xff" + data[at + 8 :]])
        at += 8 + size + size % 2
    return None
