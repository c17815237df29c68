"""What a command is doing, for the person who waits."""

import os
import sys


def say(text: str) -> None:
    """One line to stderr; none with --quiet, which progress bars know by the same variable."""
    if os.environ.get("TQDM_DISABLE") != "1":
        print(text, file=sys.stderr)
