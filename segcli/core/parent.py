"""Processes that must not outlive the one that started them, however that one ends: `kill -9` tells nobody."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

from segcli.core import own_path
from segcli.core.errors import SegcliError

VARIABLE = "SEGCLI_PARENT"  # a command started for another one finds its number here
JOINED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
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


def begin_training(arguments: Sequence[str], output: int | IO[str]) -> "subprocess.Popen[str]":
    """Start `segcli train ARGUMENTS`; what it prints goes to `output`, as UTF-8.

    Its session is its own: Ctrl-C reaches it once, through its parent; a second signal would kill it before it saved.
    Where this process is one of several that train together, that one is none of them.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in JOINED}
    return subprocess.Popen(
        own_path.command("train", *arguments),
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
        env={**inherited, VARIABLE: str(os.getpid())},
    )


def training_error(arguments: Sequence[str], code: int, printed: Sequence[str]) -> SegcliError:
    """The error that a process which ended with another code than 0 printed last, else how it ended."""
    message = next((line.removeprefix("error: ") for line in reversed(printed) if line.startswith("error: ")), None)
    hint = next((line.removeprefix("hint: ") for line in reversed(printed) if line.startswith("hint: ")), None)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return SegcliError(message or f"`segcli train {shlex.join(arguments)}` {ended}", hint=hint)
