"""A process that must not outlive the one that started it, however that one ends: `kill -9` tells nobody."""

import ctypes
import os
import signal
import sys
import threading
import time

VARIABLE = "SEGCLI_PARENT"  # a command started for another one finds its number here
_SET_DEATH_SIGNAL = 1  # of Linux's prctl


def end_with(parent: int) -> None:
    """Kill this process as soon as the process `parent` is gone. On Linux the system does it, elsewhere a thread checks
    once a second. Call it from a process that the main thread of `parent` started: Linux counts that thread's end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before it could be watched
            os._exit(1)
    elif hasattr(os, "getppid"):
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
