"""Which files are recordings that can be read here, by their suffix: one list, from what libsndfile reads."""

from functools import cache

from kilter.core.names import OTHER, READ

_COMMON = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "au", "caf")


@cache
def readable() -> frozenset[str]:
    """Suffixes, with their dots and in lower case, of what the installed libsndfile reads.

    Example:
        >>> {".wav", ".flac", ".opus", ".aif"} <= readable(), ".m4a" in readable()
        (True, False)
    """
    import soundfile

    formats = soundfile.available_formats()
    return frozenset(f".{suffix}" for suffix, name in READ.items() if (name or suffix.upper()) in formats)


def unreadable() -> frozenset[str]:
    """Suffixes of what is sound as well, and has to be converted first."""
    return frozenset(f".{suffix}" for suffix in {*READ, *OTHER}) - readable()


def common() -> str:
    """The readable ones that people have, for messages."""
    known = [name for name in _COMMON if f".{name}" in readable()]
    return f"{', '.join(known[:-1])} or {known[-1]}"
