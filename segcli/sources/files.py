"""What lies in a source folder: its files, the splits that its folders name, and json content of a checked shape."""

import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from segcli.core.errors import DataError
from segcli.core.files import read_text
from segcli.data.canonical import UNDECIDED, Record
from segcli.data.image import image_size
from segcli.sources.folders import SPLITS, walk
from segcli.sources.images import below

LOOK = 8  # files that a format is recognised by

T = TypeVar("T")


class Entry(NamedTuple):
    """One image: its name below the image root, its file, and what the format knows of its labels."""

    file_name: str
    path: Path
    label: Any


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


def arrange(found: Sequence[tuple[str, Path, Any]], where: Path) -> tuple[Path, dict[str, list[Entry]]]:
    """(split, image file, label) of every image -> the folder that holds them all, and split -> entries.

    Raises DataError where there is none. where: the source, for the message.
    """
    if not found:
        raise DataError(f"{where}: holds no image with labels")
    root, names = below([Path(os.path.normpath(path)) for _, path, _ in found])
    splits: dict[str, list[Entry]] = {}
    for (split, path, label), name in zip(found, names, strict=True):
        splits.setdefault(split, []).append(Entry(name, path, label))
    return root, splits


def each(entries: Iterable[Any], read: Callable[[Any], Record]) -> Iterator[Record]:
    """`read` of every entry. One that can't be read becomes a record that carries the error: the doctor then lists all
    of them, --fix leaves them out by name, and a writer raises the first."""
    for entry in entries:
        try:
            record = read(entry)
        except DataError as error:
            record = Record(entry.file_name, _size(entry.path), entry.path, [], problem=error)
        yield record


def _size(path: Path) -> tuple[int, int]:
    """(H, W), or the placeholder (1, 1) if unreadable."""
    try:
        return image_size(path)
    except DataError:
        return 1, 1


def has_keys(file: Path, *keys: str) -> bool:
    """Whether a json file has these keys somewhere, without parsing: it may have hundreds of megabytes."""
    if not file.is_file() or file.stat().st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(f'"{key}"'.encode()) >= 0 for key in keys)


def lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them, empty ones included. Raises DataError."""
    return [line.strip() for line in read_text(path).splitlines()]


def some(names: Sequence[Any], limit: int = 5) -> str:
    """The first of many, for a note."""
    listed = ", ".join(str(name) for name in names[:limit])
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")
