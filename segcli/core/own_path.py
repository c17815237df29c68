"""Python's search path without the working folder: files in it must never be imported as code.

`python -m` and `python -c` put that folder first, and so do the processes that multiprocessing and torch start: a file
called yaml.py there would be imported in place of the library.
"""

import os
import sys
from pathlib import Path

OWN = str(Path(__file__).parents[2])  # the folder that contains segcli, also in a checkout that is not installed
# it comes last in a child's path: a name there hides nothing of Python's or of a library's
START = f"import sys; sys.path[:] = [*(p for p in sys.path if p), {OWN!r}]; from segcli.cli.app import main; main()"
VARIABLE = "PYTHONSAFEPATH"  # Python 3.11 and later, for all processes that are started from here on


def command(*arguments: str) -> list[str]:
    """`segcli ARGUMENTS` as a process of its own, in any working folder."""
    return [sys.executable, "-c", START, *arguments]


def leave_out_working_folder() -> None:
    """Take the working folder off the search path of this process, and of the processes that it starts."""
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    if sys.path and sys.path[0] in ("", here) and here != OWN:
        del sys.path[0]
    sys.path[:] = [place for place in sys.path if place]
    os.environ.setdefault(VARIABLE, "1")
    if sys.version_info < (3, 11):
        _isolate_children()


def _isolate_children() -> None:
    """For Pythons that don't know VARIABLE: children get -I, and then the search path of this process."""
    import multiprocessing.util  # not before the path is what it should be

    before = multiprocessing.util._args_from_interpreter_flags  # type: ignore[attr-defined]

    def flags() -> list[str]:
        given: list[str] = before()
        return given if "-I" in given else [*given, "-I"]

    multiprocessing.util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]
