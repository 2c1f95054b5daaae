"""Where a model runs, and how much fits there."""

import os
import time
from contextlib import suppress
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_TOO_LITTLE = ("can't allocate", "out of memory", "not enough memory", "bad_alloc", "could not create a primitive")
"""What torch, C++ and oneDNN say of an allocation that failed."""


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the accelerator there is, else the CPU.

    Raises:
        ValueError: torch has no such device here.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        torch.empty(0, device=(device := torch.device(name.split(":")[0])))
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on the device
        raise ValueError(
            f"device: {name!r} cannot be had here ({str(error).splitlines()[0]:.120}); try auto"
        ) from error
    return device


def clock(device: str) -> float:
    """Seconds of this process on a CPU, where others may be at work beside it; of the wall on a device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" else time.perf_counter()


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had there; None where nothing tells."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    found = []
    with suppress(OSError, ValueError, StopIteration):  # Linux: what can be freed counts as free
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError, StopIteration):  # a container's own limit; "max" is none
        limit = int((_CGROUP / "memory.max").read_text())
        used = next(line for line in (_CGROUP / "memory.stat").read_text().splitlines() if line.startswith("anon "))
        found.append(limit - int(used.split()[1]))
    if not found:
        with suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return min(found) if found else None


def out_of_memory(error: BaseException) -> bool:
    """Whether it was raised because an allocation failed; each device has words of its own in torch.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
        True
    """
    said, within = str(error), error.__cause__ or error.__context__
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (isinstance(error, RuntimeError) and any(words in said for words in _TOO_LITTLE))
        or (within is not None and out_of_memory(within))  # a host's own error about it
    )
