"""What lies in a source and is read by nothing, whatever its format: counted by reason, in one note.

Labels and images that a format leaves aside are noted by its reader; these are the files that no reader looks at.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from segcli.core.files import open_regular
from segcli.core.folders import LITTER, MANIFEST
from segcli.data.decoders import FAILURES, open_image
from segcli.data.image import PHONES, SUFFIXES
from segcli.sources.folders import walk

SHOWN = 3  # names of each kind
READ = {".json", ".txt", ".xml", ".csv", ".yaml", ".yml", ".names"}  # suffixes of labels and of lists of classes
ABOUT = {"readme", "license", "licence", "citation", "changelog"}  # nobody takes them for data
MARKS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8")  # how most images begin


def note_unread(source: Path, used: Iterable[Path]) -> str | None:
    """One sentence on the files of `source` that nothing reads; None where there are none.

    Of a folder all files below it count, of a file those beside its images. used: the images of the dataset: what is
    wrong with them is for others to say. A hidden folder counts as one.
    """
    taken = set(map(os.path.abspath, used))
    return note_files(_files(source, taken), taken)


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
        elif suffix not in SUFFIXES | READ:
            unknown.append(name)
        elif suffix in SUFFIXES and os.path.abspath(file) not in taken and not _is_picture(Path(file)):
            false.append(name)
    parts = [
        _said(hidden, "hidden file"),
        _said(phones, "HEIC photograph", "pip install 'segcli[heic]' reads them"),
        _said(unknown, "file", "of kinds that are not read"),
        _said(false, "file", "called like images that are none"),
    ]
    said = [part for part in parts if part]
    return "left aside: " + "; ".join(said) if said else None


def _files(source: Path, taken: Iterable[str]) -> Iterator[str]:
    """Paths of files, of hidden folders with / behind; nothing of what was prepared before."""
    if source.is_file():
        for folder in sorted({os.path.dirname(path) for path in taken}):
            if os.path.isdir(folder):
                yield from sorted(entry.path for entry in os.scandir(folder) if entry.is_file())
        return
    for current, folders, names in walk(source, hidden=True):
        if "info.json" in names and "prepared.json" in names:
            folders.clear()
            continue
        for name in [name for name in folders if name.startswith(".")]:
            folders.remove(name)
            yield f"{current / name}/"
        yield from (str(current / name) for name in names)


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


def _said(names: list[str], what: str, more: str = "") -> str:
    if not names:
        return ""
    listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    words = f"{len(names)} {what}{'s' if len(names) > 1 else ''}"
    if more.startswith("of") or more.startswith("called"):
        return f"{words} {more} ({listed})"
    return f"{words} ({listed}{': ' + more if more else ''})"
