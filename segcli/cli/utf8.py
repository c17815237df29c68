"""Names of files are UTF-8, whatever the locale says: a locale of C alone would make them ASCII, and fail on a name.

Python by itself takes C for C.UTF-8 unless it is told not to, or the locale is another one without UTF-8.
"""

import os
import sys

VARIABLE = "PYTHONUTF8"


def ensure() -> None:
    """Begin this process anew with UTF-8 names and text where it has others, with the same arguments, byte by byte."""
    if sys.platform == "win32" or sys.getfilesystemencoding().lower() in ("utf-8", "utf8"):
        return
    if os.environ.get(VARIABLE) == "1":  # it was begun anew, or the interpreter takes no variables (-E, -I)
        return
    os.environ[VARIABLE] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
