"""Work that several processes share."""

import threading
from pathlib import Path

from filelock import FileLock

from kilter.lab.locks import in_any_order, one_at_a_time


def test_what_somebody_is_at_comes_last(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("a", "b", "c")]
    taken = FileLock(f"{places[0]}.lock")
    taken.acquire()
    order, half = [], threading.Event()

    def work() -> None:
        for place in in_any_order(places):
            order.append(place.name)
            if len(order) == 2:
                half.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert half.wait(10)
    taken.release()
    thread.join(10)
    assert order == ["b", "c", "a"]


def test_one_at_a_time(tmp_path: Path) -> None:
    inside = []

    def work(name: str) -> None:
        with one_at_a_time(tmp_path / "deep" / "place"):
            inside.append(name)
            threading.Event().wait(0.05)
            inside.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside[::2] == inside[1::2]
    assert set(inside) == {"a", "b", "c"}
