"""`segcli train` as a process of its own, which ends with the one that started it."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import IO

from segcli.core import own_path
from segcli.core.errors import SegcliError
from segcli.core.parent import VARIABLE

JOINED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def begin(arguments: Sequence[str], output: int | IO[str]) -> "subprocess.Popen[str]":
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


def failure(arguments: Sequence[str], code: int, printed: Sequence[str]) -> SegcliError:
    """The error that a process which ended with another code than 0 printed last, else how it ended."""
    message = next((line.removeprefix("error: ") for line in reversed(printed) if line.startswith("error: ")), None)
    hint = next((line.removeprefix("hint: ") for line in reversed(printed) if line.startswith("hint: ")), None)
    ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return SegcliError(message or f"`segcli train {shlex.join(arguments)}` {ended}", hint=hint)
