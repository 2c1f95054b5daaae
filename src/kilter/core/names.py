"""Names of recordings: which suffixes are sound, and how a name that is no UTF-8 is written down.

What is read is asked of libsndfile (`kilter.data.recordings`); here stands only how people call its formats.
"""

import re

READ = {
    **dict.fromkeys(("wav", "wave"), "WAV"),
    "flac": "FLAC",
    **dict.fromkeys(("mp3", "mp2", "mp1", "mpga"), "MP3"),
    **dict.fromkeys(("ogg", "opus", "oga"), "OGG"),
    **dict.fromkeys(("aiff", "aif", "aifc"), "AIFF"),
    **dict.fromkeys(("au", "snd"), "AU"),
    "caf": "CAF",
    "w64": "W64",
    "rf64": "RF64",
    **dict.fromkeys(("sph", "nist"), "NIST"),
    **dict.fromkeys(("8svx", "iff", "svx"), "SVX"),
    **dict.fromkeys(("avr", "htk", "paf", "pvf", "sds", "voc", "wve"), ""),
    **dict.fromkeys(("sf", "ircam"), "IRCAM"),
}
"""Suffixes of what libsndfile may read, and its name of the format where that is another one."""

_OTHER = """
    m4a m4b m4r mp4 m4v aac adts wma asf wmv webm weba mkv mka mov qt avi flv mpg mpeg 3gp 3g2 3ga amr awb ac3 eac3
    dts ape wv tta tak mpc spx ra rm ram dsf dff shn gsm g722 dss ds2 vox qcp alac pcm sln sd2 xi
"""
OTHER = frozenset(_OTHER.split())
"""Suffixes of sound, alone or with pictures, that libsndfile does not read."""

AUDIO_SUFFIX = re.compile(rf"(?<=[^/])(?:\.(?:{'|'.join(sorted({*READ, *OTHER}))}))+$", re.IGNORECASE)


def printable(name: str) -> str:
    r"""A name as JSON, CTM and a terminal can hold it: bytes that are no UTF-8 as in a URL, all else as it is.

    Example:
        >>> printable("caf\udce9 1"), printable("café 1")
        ('caf%E9 1', 'café 1')
    """
    return re.sub(r"[\ud800-\udfff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", name)
