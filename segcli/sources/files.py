"""What lies in a source folder: its files, and the splits that its folders name."""

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from segcli.core.errors import DataError
from segcli.core.files import read_text
from segcli.data.canonical import UNDECIDED
from segcli.sources.folders import SPLITS, walk

LOOK = 8  # files that a format is recognised by

T = TypeVar("T")


def find_files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Files at or below `root` with one of the lower-case `suffixes`, as `walk` finds them, sorted within each folder.

    Links are followed: those that lead out of a source are refused before (see `folders.refuse_links_out`)."""
    if root.is_file():
        yield from [root] if root.suffix.lower() in suffixes else []
        return
    for current, _, names in walk(root):
        yield from (current / name for name in names if os.path.splitext(name)[1].lower() in suffixes)


def split_of(path: Path, root: Path) -> str:
    """The split that one of the folders between `root` and the file is called after."""
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else path.parts[:-1]
    return next((SPLITS[part.lower()] for part in parts if part.lower() in SPLITS), UNDECIDED)


def split_folders(path: Path, fits: Callable[[Path], bool]) -> dict[str, Path]:
    """split -> folder: `path` itself, and folders in it called train, val, test, as far as they fit.

    Raises DataError where two folders stand for one split.
    """
    found = {UNDECIDED: path} if fits(path) else {}
    for folder in sorted(path.iterdir()) if path.is_dir() else ():
        split = SPLITS.get(folder.name.lower())
        if split is not None and folder.is_dir() and fits(folder):
            if split in found:
                raise DataError(f"{found[split]} and {folder}: both seem to be the split {split!r}")
            found[split] = folder
    return found


def without_empty(splits: dict[str, T], filled: Callable[[T], bool], notes: list[str]) -> dict[str, T]:
    """The splits that have an image; those without, as exports leave them for a share of 0 %, are noted by name. All of
    them together stay for the reader to refuse."""
    empty = [split for split, part in splits.items() if not filled(part)]
    if len(empty) == len(splits):
        return splits
    notes += [empty_split(split) for split in empty]
    return {split: part for split, part in splits.items() if split not in empty}


def empty_split(split: str) -> str:
    """The note on a split without an image."""
    return f"the split {split} is empty" + (": what the others hold is divided anew" if split == "train" else "")


def has_keys(file: Path, *keys: str) -> bool:
    """Whether a json file has these keys somewhere, without parsing: it may have hundreds of megabytes."""
    if not file.is_file() or file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(f'"{key}"'.encode()) >= 0 for key in keys)


def lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them, empty ones included. Raises DataError."""
    return [line.strip() for line in read_text(path).splitlines()]


def some(names: Sequence[object], limit: int = 5) -> str:
    """The first of many, for a note."""
    listed = ", ".join(str(name) for name in names[:limit])
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")


def note_names(notes: list[str], names: Sequence[object], what: str, limit: int = 5) -> None:
    """Add a note of how many there are and of the first of them, `3 images have no json: a.jpg, b.jpg, c.jpg`; none
    where there are none."""
    if names:
        notes.append(f"{len(names)} {what}: {some(names, limit)}")
