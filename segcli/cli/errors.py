"""The one place where exceptions end: one line `error: …`, where known a line `hint: …`, and an exit code."""

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

import typer

from segcli.core.errors import SegcliError, UsageError

# typer carries click under its own name or imports it, depending on its version; both meet here
BadUsage: type[BaseException] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130


def guard(run: Callable[[], object], *, debug: bool = False) -> int:
    """Call `run` and return the exit code: what `run` returns where that is an integer, else 0.

    Ctrl-C and SIGTERM give 130; a reader that closed the pipe ends the program without a word.
    """
    try:
        with _sigterm_as_interrupt():
            code = run()
            sys.stdout.flush()
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush at exit
        return 1
    except BaseException as error:  # the last stop: everything becomes one line and a code
        if debug:
            traceback.print_exc()
        message, hint, code = explain(error)
        if hint is None and code == 1 and not isinstance(error, (SegcliError, OSError)) and not debug:
            hint = "run it again with --debug to see where"
        print("error: " + _one_line(message), file=sys.stderr)
        if hint:
            print("hint: " + _one_line(hint), file=sys.stderr)
        return code
    return code if isinstance(code, int) else 0


def explain(error: BaseException) -> tuple[str, str | None, int]:
    """(message, hint or None, exit code) of any exception."""
    if isinstance(error, SegcliError):
        return str(error), error.hint, error.exit_code
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "interrupted", None, INTERRUPTED
    if isinstance(error, BadUsage):
        return _bad_usage(error)
    if isinstance(error, OSError):
        return _operating_system(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        message = f"out of memory: {error}"
        if {"prepare", "visualize"} & set(sys.argv[1:3]):  # without a recipe
            return message, "end other programs, or give it fewer or smaller images at a time", 1
        return message, "a smaller train.batch_size, eval.batch_size or data.size needs less", 1
    return f"{type(error).__name__}: {error}{_in_plugin(error)}", None, 1


def _in_plugin(error: BaseException) -> str:
    """Where in another package's plugin an exception comes from; empty where none has a part in it."""
    from segcli.core.plugins import packages

    others = packages()
    own = [
        (frame.f_globals["__name__"], line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] in others
    ]
    return f" (in {own[-1][2]}, {own[-1][0]} line {own[-1][1]})" if own else ""


def _bad_usage(error: BaseException) -> tuple[str, str | None, int]:
    """A wrong flag, argument or command, with the nearest option where one is close, or the recipe's key."""
    from segcli.core.plugins import nearest  # imports pydantic, which `segcli --help` does without
    from segcli.core.recipe.keys import keys

    context = getattr(error, "ctx", None)
    command = context.command_path if context else "segcli"
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"{command} needs a command", f"{command} --help", UsageError.exit_code
    if option and context and type(error).__name__ == "NoSuchOption":
        options = [o for p in context.command.params for o in p.opts if o.startswith("--")]
        called = option.removeprefix("--").replace("-", "_")
        settings = [key for key in keys({}) if key.rpartition(".")[2] == called and context.command.name == "train"]
        hint = f"--set {settings[0]}=VALUE" if settings else nearest(option, [*options, "--help"])
        return f"{command} has no option {option}", hint, UsageError.exit_code
    message = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    return message[:1].lower() + message[1:], f"{command} --help", UsageError.exit_code


def _operating_system(error: OSError) -> tuple[str, str | None, int]:
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}the disk is full", "make room, or write elsewhere with --out", 1
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place}not permitted to read or write here", "choose another folder with --out", 1
    return f"{place}{error.strerror or error or type(error).__name__}", None, 1


def _one_line(text: str) -> str:
    from segcli.cli.output import shown

    return shown(" ".join(text.split()))


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """A polite kill ends like Ctrl-C: whatever cleans up on the way does so."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
