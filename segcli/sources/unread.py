"""What a source has and no reader notices, whatever its format: files of other kinds, and splits without an image.

Labels and images that a format leaves aside are noted by its reader.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from segcli.core.files import open_regular
from segcli.core.folders import LITTER, MANIFEST
from segcli.core.formatting import count
from segcli.data.canonical import Draft
from segcli.data.decoders import FAILURES, open_image
from segcli.data.image import PHONES, SUFFIXES
from segcli.sources.files import empty_split, some
from segcli.sources.folders import LABELS, SPLITS, Folder

SHOWN = 3  # names of each kind
ABOUT = {"readme", "license", "licence", "citation", "changelog"}  # nobody takes them for data
LISTS = "ImageSets"  # the folder in which VOC keeps a text file of names for each split
MARKS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8")  # how most images begin


def note_unread(source: Path, folders: Iterable[Folder], images: Iterable[str | Path]) -> str | None:
    """One sentence on the files of `source` that nothing reads; None where there are none.

    Of a folder all files in its `folders` count, of a file those beside its images. images: those of the dataset, and
    other files that it takes: what is wrong with them is for others to say. A hidden folder counts as one.
    """
    taken = set(map(os.path.abspath, images))
    return note_files(_beside(taken) if source.is_file() else _files(folders), taken)


def note_files(files: Iterable[str], taken: Collection[str] = ()) -> str | None:
    """The same of `files`, folders with / behind, of which `taken` (absolute paths) are read."""
    hidden: list[str] = []
    phones: list[str] = []
    unknown: list[str] = []
    false: list[str] = []
    for file in files:
        suffix = os.path.splitext(file)[1].lower()
        name = os.path.basename(file.rstrip("/"))
        if name in LITTER or name == MANIFEST or os.path.splitext(name)[0].lower() in ABOUT:
            continue
        if name.startswith("."):
            hidden.append(name + ("/" if file.endswith("/") else ""))
        elif suffix in PHONES - SUFFIXES:
            phones.append(name)
        elif suffix not in SUFFIXES | LABELS and os.path.abspath(file) not in taken:
            unknown.append(name)
        elif suffix in SUFFIXES and os.path.abspath(file) not in taken and not _is_picture(Path(file)):
            false.append(name)
    reasons = [
        _count(hidden, "hidden file", ""),
        _count(phones, "HEIC photograph", "", ": pip install 'segcli[heic]' reads them"),
        _count(unknown, "file", " of kinds that are not read"),
        _count(false, "file", " called like images that are none"),
    ]
    reasons = [reason for reason in reasons if reason]
    return "left aside: " + "; ".join(reasons) if reasons else None


def _files(folders: Iterable[Folder]) -> Iterator[str]:
    for folder in folders:
        yield from (os.path.join(folder.path, name) for name in (*folder.hidden, *folder.files))


def _beside(images: Iterable[str]) -> Iterator[str]:
    for folder in sorted({os.path.dirname(path) for path in images}):
        if os.path.isdir(folder):
            yield from sorted(entry.path for entry in os.scandir(folder) if entry.is_file())


def _is_picture(file: Path) -> bool:
    """By the first bytes, where those don't tell by what decoders find. A broken picture is one."""
    try:
        with open_regular(file) as stream:
            if stream.read(4).startswith(MARKS):
                return True
        with open_image(file):
            return True
    except FAILURES:
        return False


def _count(names: list[str], one: str, which: str, remedy: str = "") -> str:
    """`2 files of a kind (a, b)`; empty where there are none."""
    if not names:
        return ""
    return f"{count(len(names), one)}{which} ({some(names, SHOWN)}{remedy})"


def note_empty(source: Path, folders: Iterable[Folder], draft: Draft) -> list[str]:
    """A sentence on every split that is declared in the `folders` of `source` and is none of the draft's.

    One that has images was read in another way, which its reader notes; so is what a note names already.
    """
    filled: set[str] = set()
    declared: dict[str, None] = {}
    for folder in folders:
        parts = folder.path.relative_to(source).parts
        inside = {split for part in parts if (split := _split(part))}
        declared |= dict.fromkeys(inside)
        if inside and any(os.path.splitext(name)[1].lower() in SUFFIXES for name in folder.files):
            filled |= inside
        if LISTS in parts:
            for name in folder.files:
                stem, suffix = os.path.splitext(name.lower())
                file = folder.path / name
                if stem in SPLITS and suffix == ".txt" and file.is_file():
                    declared[SPLITS[stem]] = None
                    filled |= {SPLITS[stem]} if file.stat().st_size > 1 else set()
    noted = " ".join(draft.notes)
    missing = [split for split in declared if split not in draft.splits and split not in filled]
    return [note for note in map(empty_split, missing) if note not in noted]


def _split(folder: str) -> str | None:
    """The split that a folder is called after, also as the labels of CamVid are (valannot)."""
    return SPLITS.get(folder.lower().removesuffix("annot"))
