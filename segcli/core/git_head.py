"""Which commit the working folder is at, read off git's own files.

The program git is not asked: a folder's configuration can name other programs that it would then run (fsmonitor,
filters, hooks), and a run may be started in a folder that came from somebody else.
"""

import re
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.files import read_text, resolve

COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
SHOWN = 12  # digits of a commit that are shown
LARGEST = 64 * 2**20  # bytes of the list of packed references


def commit(folder: Path) -> str | None:
    """The first digits of the commit that is checked out in `folder`; None outside git, or before the first commit."""
    place = next((p / ".git" for p in (folder, *folder.parents) if (p / ".git").exists()), None)
    try:
        return None if place is None else _head(place)
    except DataError:
        return None  # nothing depends on it


def _head(git: Path) -> str | None:
    if git.is_file():  # a worktree or a submodule: a file that says where
        git = git.parent / read_text(git, largest=4096).removeprefix("gitdir:").strip()
    head = read_text(git / "HEAD", largest=4096).strip()
    if not head.startswith("ref:"):
        return _digits(head)
    name, shared = head.removeprefix("ref:").strip(), git
    if (git / "commondir").is_file():
        shared = git / read_text(git / "commondir", largest=4096).strip()
    for place in (git, shared):
        file = resolve(place, name, "HEAD")
        if file.is_file():
            return _digits(read_text(file, largest=4096).strip())
    packed = shared / "packed-refs"
    lines = read_text(packed, largest=LARGEST).splitlines() if packed.is_file() else []
    digits = next((line.split(" ", 1)[0] for line in lines if line.endswith(f" {name}")), "")
    return _digits(digits)


def _digits(text: str) -> str | None:
    return text[:SHOWN] if COMMIT.fullmatch(text) else None
