"""How the benchmarks here measure: calls in turns, CPU time, and the memory that a call allocates."""

import time
from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def cpu_seconds(call: Call) -> float:
    """CPU seconds that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


def interleaved(calls: Mapping[str, Call], repeats: int, *, warm: int = 1) -> dict[str, list[float]]:
    """CPU seconds of each call, one after another, the first `warm` rounds apart."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + warm):
        for name, call in calls.items():
            took = cpu_seconds(call)
            if turn >= warm:
                seconds[name].append(took)
    return seconds


def peak_bytes(call: Call) -> int:
    """Largest amount of memory held at once by what `call` allocates, by torch's own CPU allocator events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        call()
    held = peak = 0
    for event in sorted(
        (e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()
    ):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
