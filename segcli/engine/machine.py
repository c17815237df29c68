"""What this machine can do: its fastest arithmetic, its free memory, its free disk."""

import contextlib
import ctypes
import functools
import os
import re
import shutil
import sys
import time
from pathlib import Path

import torch

SIDE = 1536  # of the square matrices whose product is timed
SECONDS = 0.4  # for which the product is repeated


@functools.lru_cache(maxsize=8)
def _speed_limit(device: str, threads: int) -> float:
    a, b = (torch.rand(SIDE, SIDE, device=device) for _ in range(2))
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(torch.device(device).type)
    fastest, end = float("inf"), None
    while end is None or time.perf_counter() < end:
        begun = time.perf_counter()
        a @ b
        if wait is not None:
            wait()
        done = time.perf_counter()
        if end is None:  # the first one loads libraries
            end = done + SECONDS
        else:
            fastest = min(fastest, done - begun)
    return SIDE**3 / max(fastest, 1e-9) / 1e9


def speed_limit(device: torch.device | str) -> float:
    """GFLOP/s (1 multiply-add = 1) of a large fp32 matrix product on `device` with torch's present number of
    threads: about the most that a network can reach. Measured once per process, in half a second."""
    with torch.inference_mode():
        return _speed_limit(str(device), torch.get_num_threads())


def free_memory(device: torch.device | str) -> float | None:
    """Free memory in MB (1e6 bytes): of the GPU for CUDA, else of the machine or within the container's limit,
    whichever is less. None if the system does not report it."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e6
    if not sys.platform.startswith("linux"):
        return None
    available = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    known = [] if available is None else [available]
    limit, used = (_number(Path("/sys/fs/cgroup") / f"memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        known.append(max(0, limit - used))
    return min(known) / 1e6 if known else None


def free_swap() -> float:
    """Free swap space in bytes; 0 if the system does not report it."""
    return float(_kilobytes(Path("/proc/meminfo"), "SwapFree") or 0) if sys.platform.startswith("linux") else 0.0


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, of the GPU or of the machine (known only from torch's message)."""
    phrases = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in phrases)


def free_disk(folder: Path) -> float:
    """Free disk space in MB (1e6 bytes) at `folder` or its nearest existing parent."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e6


def reset_peak_resident() -> bool:
    """Return freed memory to the system and reset this process's peak of resident memory; False if not possible (not
    Linux, or a container that forbids it)."""
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it; without it freed memory may be reused
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident() -> int | None:
    """Peak resident memory of this process in bytes; None if not Linux."""
    return _kilobytes(Path("/proc/self/status"), "VmHWM")


def children_memory() -> int:
    """Bytes of this process's children, without memory shared with it; 0 if not Linux."""
    known = [_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Private_Dirty") for pid in _children()]
    return sum(size for size in known if size is not None)


def cpu_seconds() -> float:
    """CPU time that this process has taken so far, all threads, and on Linux its living children."""
    ticks = 0
    for pid in _children():
        words = _words(Path(f"/proc/{pid}/stat"))
        at = max((i for i, word in enumerate(words) if word.endswith(")")), default=None)  # a name may have spaces
        ticks += 0 if at is None else int(words[at + 12]) + int(words[at + 13])  # user time, then system time
    return time.process_time() + (ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0)


def _children() -> list[str]:
    """The process numbers of this process's children; [] where not Linux."""
    return [pid for file in Path("/proc/self/task").glob("*/children") for pid in _words(file)]


def _kilobytes(file: Path, key: str) -> int | None:
    """The bytes of a line `key:  N kB`; None if the file or the line is missing, or the process has ended."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", file.read_text(encoding="utf-8", errors="replace"), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    """The number in a cgroup's file; None if it is missing or says `max`."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
