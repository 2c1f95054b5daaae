"""Work that several processes share is done once: the first does it, the others wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilter.lab.files import MAIN_PROCESS


@contextmanager
def one_at_a_time(place: Path) -> Iterator[None]:
    """Hold `<place>.lock`; under torchrun the processes of one run wait for each other elsewhere."""
    if not MAIN_PROCESS:
        yield
        return
    from filelock import FileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        yield


def in_any_order(places: list[Path]) -> Iterator[Path]:
    """Hold one place after the other, those first that nobody else is at.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [place.name for place in in_any_order([Path(folder, "a"), Path(folder, "b")])]
        ['a', 'b']
    """
    from filelock import FileLock, Timeout

    for wait in (0, -1):
        for place in list(places):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(f"{place}.lock", timeout=wait):
                    yield place
            except Timeout:
                continue
            places.remove(place)
