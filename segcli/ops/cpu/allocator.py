"""Keep freed memory in the process, so that the next large tensor does not fault its pages in again.

glibc maps every block above 32 MB anew and gives it back when freed: each step of a training then touches fresh,
zeroed pages for every large activation. On two cores a trunk's early, large maps took three times as long for it.
"""

import ctypes
import sys

# glibc's <malloc.h>: parameters of mallopt
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """For the whole process, once is enough. -> whether this system's allocator has these settings (glibc does).

    Large blocks come from the heap, of which nothing is returned before the end; all threads share one heap, since
    autograd frees in its own thread what the main one allocated.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library (musl has no mallopt)
        return False
    settings = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1, TOP_PAD: 64 << 20, ARENA_MAX: 1}
    taken = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(taken)
