"""What lies in a source folder: its files, also as lines and tables, and the splits that its folders name."""

import csv
import io
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from segcli.core.errors import DataError
from segcli.core.files import open_regular, read_json, read_text
from segcli.data.canonical import UNDECIDED
from segcli.data.image import SUFFIXES
from segcli.sources.folders import SPLITS, names_in, walk

LOOK = 8  # files that a format is recognised by
HEAD = 65_536  # bytes that hold the heading of a table
SMALL = 2**20  # bytes of a file that is read whole to find a word in it

T = TypeVar("T")


def find_files(root: Path, *suffixes: str) -> Iterator[Path]:
    """Files at or below `root` with one of the lower-case `suffixes`, as `walk` finds them, sorted within each folder.

    Links are followed: those that lead out of a source are refused before (see `folders.refuse_links_out`)."""
    if root.is_file():
        yield from [root] if root.suffix.lower() in suffixes else []
        return
    for current, _, names in walk(root):
        yield from (current / name for name in names if os.path.splitext(name)[1].lower() in suffixes)


def in_folder(folder: Path, *ends: str) -> list[Path]:
    """What lies in a folder itself and is called so at the end, as `names_in` lists it."""
    return [folder / name for name in names_in(folder) if name.endswith(ends)]


def split_of(path: Path, root: Path) -> str:
    """The split that one of the folders between `root` and the file is called after."""
    parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else path.parts[:-1]
    return next((SPLITS[part.lower()] for part in parts if part.lower() in SPLITS), UNDECIDED)


def split_folders(path: Path, fits: Callable[[Path], bool]) -> dict[str, Path]:
    """split -> folder: `path` itself, and folders in it called train, val, test, as far as they fit.

    Raises DataError where two folders stand for one split.
    """
    found = {UNDECIDED: path} if fits(path) else {}
    named = (name for name in names_in(path) if name.lower() in SPLITS)
    for folder, split in ((path / name, SPLITS[name.lower()]) for name in named):
        if folder.is_dir() and fits(folder):
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
    try:
        facts = os.stat(file)
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(facts.st_mode) or facts.st_size == 0:
        return False
    wanted = [f'"{key}"'.encode() for key in keys]
    with open(file, "rb") as stream:
        if facts.st_size <= SMALL:  # quicker than a map
            text = stream.read()
            return all(key in text for key in wanted)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return all(mapped.find(key) >= 0 for key in wanted)


def lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them, empty ones included. Raises DataError."""
    return [line.strip() for line in read_text(path).splitlines()]


def heading(file: Path) -> list[str]:
    """The cells of a csv's first line; none where there is no such line."""
    if not file.is_file():
        return []
    with open_regular(file) as stream:
        text = stream.read(HEAD).decode("utf-8-sig", "replace")
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []


def table(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(place for messages, cells) of every line of a csv in which anything stands, read as they are asked for: it may
    be larger than the memory. Raises DataError."""
    with io.TextIOWrapper(open_regular(file), "utf-8-sig", newline="") as stream:
        yield from cells_of(stream, file)


def cells_of(text: Iterable[str], file: Path) -> Iterator[tuple[str, list[str]]]:
    """The same of the lines of a `text`, which is that of `file`."""
    reader = csv.reader(text, strict=True)
    try:
        for cells in reader:
            if any(cells):
                yield f"{file}: line {reader.line_num}", cells
    except (csv.Error, UnicodeDecodeError) as error:
        reason = getattr(error, "reason", error)  # of a decoder; the place that it names is one in its buffer
        raise DataError(f"{file}: is no table that can be read: {reason}") from error


def some(names: Sequence[object], limit: int = 5) -> str:
    """The first of many, for a note."""
    listed = ", ".join(str(name) for name in names[:limit])
    return listed + (f" and {len(names) - limit} more" if len(names) > limit else "")


def note_names(notes: list[str], names: Sequence[object], what: str, limit: int = 5) -> None:
    """Add a note of how many there are and of the first of them, `3 images have no json: a.jpg, b.jpg, c.jpg`; none
    where there are none."""
    if names:
        notes.append(f"{len(names)} {what}: {some(names, limit)}")


def sort_out(files: Iterable[Path], fits: Callable[[Path], bool], notes: list[str], what: str) -> list[Path]:
    """The json `files` that fit; the others are noted. Raises DataError for one of these that is no json: a file that
    was cut off has lost the keys that tell what it is."""
    found, others = list[Path](), list[Path]()
    for file in files:
        (found if fits(file) else others).append(file)
    for file in others:
        read_json(file)
    note_names(notes, [file.name for file in others], what)
    return found


def note_bare(
    notes: list[str], path: Path, labelled: Iterable[Path], what: str = "images have no json and are left out"
) -> None:
    """Note the images below the folder `path` that are none of those `labelled`."""
    labelled = list(labelled)
    plain = {*map(os.path.abspath, labelled)}
    rest = [image for image in find_files(path, *SUFFIXES) if os.path.abspath(image) not in plain]
    known = {image.resolve() for image in labelled} if rest else set()  # through links
    note_names(notes, [image.name for image in rest if image.resolve() not in known], what)
