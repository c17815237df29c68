"""Folders that are built whole under a hidden name beside their place, and what a killed process left of that.

Such a folder bears our suffix, and is locked as long as its process lives: the next one that builds for the same place
takes away those that nobody holds.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from segcli.core.files import PART, part_start
from segcli.core.folders import real

try:
    import fcntl
except ImportError:  # Windows has none: leftovers stay there
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def building(out: Path) -> Iterator[Path]:
    """A new hidden folder beside `out` (a link is followed); it is gone at the end unless it got another name.

    Raises OSError.
    """
    place = real(out)
    _remove_left(place)
    folder, lock = _begin(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _begin(place: Path) -> tuple[Path, int | None]:
    """-> the folder, and the handle that locks it (None where the system has no such locks)."""
    while True:
        folder = place.parent / f"{part_start(place)}{uuid.uuid4().hex[:8]}{PART}"
        folder.mkdir(parents=True)
        if fcntl is None:
            return folder, None
        lock = None
        try:
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.stat(folder)
            return folder, lock
        except (BlockingIOError, FileNotFoundError):  # another process took it for a leftover before it was locked
            if lock is not None:
                os.close(lock)
        except OSError:  # a file system without locks
            return folder, lock


def _remove_left(place: Path) -> None:
    """Take away what was built for `place` by processes that live no more."""
    if fcntl is None or not place.parent.is_dir():
        return
    start, middle = part_start(place), 8  # hexadecimal digits
    for name in os.listdir(place.parent):
        folder = place.parent / name
        ours = name.startswith(start) and name.endswith(PART) and len(name) == len(start) + middle + len(PART)
        if not ours or folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError):  # held by a living process, or no folder any more: it is no more than litter
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
