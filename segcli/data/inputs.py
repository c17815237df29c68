"""Which image files a user means by files, folders and patterns, and names for what is made of them."""

import glob
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from segcli.core.errors import DataError
from segcli.core.folders import MANIFEST
from segcli.data.image import PHONES, SUFFIXES


def find_images(inputs: Iterable[str | Path]) -> list[Path]:
    """The image files that `inputs` name, each once, in the order given.

    A file is taken as it is, whatever its name. A folder stands for the image files in it (by suffix; not those in its
    subfolders), a pattern (`*`, `?`, `[...]`, `**`) for the image files that match it; both in natural order, 2 before
    10. Raises DataError for a name that does not exist, and for a folder or pattern without an image.
    """
    out: dict[Path, None] = {}
    for given in inputs:
        path = Path(given)
        if path.is_file():
            images = [path]
        elif path.is_dir():
            images = _images(path.iterdir())
            if not images:
                phones = [p.name for p in path.iterdir() if p.suffix.lower() in PHONES and not p.name.startswith(".")]
                hint = "its subfolders have some: --recursive reads them" if subfolders(path) else None
                if phones:
                    hint = f"pip install 'segcli[heic]' reads its {len(phones)} HEIC photographs ({phones[0]}, …)"
                raise DataError(f"{path}: the folder has no image file", hint=hint)
        elif glob.has_magic(str(given)):
            images = _images(map(Path, glob.iglob(str(given), recursive=True)))
            if not images:
                raise DataError(f"{given}: no image file matches this pattern")
        else:
            raise DataError(f"{path}: there is no such file or folder")
        out.update(dict.fromkeys(images))
    return list(out)


def listed(inputs: Iterable[str], lines: Iterable[str]) -> list[str]:
    """`inputs`, with the `lines` of standard input in place of "-". Raises DataError where it holds nothing."""
    out: list[str] = []
    for given in inputs:
        if given != "-":
            out.append(given)
            continue
        names = [name for line in lines if (name := line.rstrip("\r\n"))]
        if not names:
            raise DataError(
                "-: standard input lists no file", hint="a name a line: find photos -name '*.jpg' | segcli …"
            )
        out += names
    return out


def with_subfolders(inputs: Iterable[str | Path]) -> list[str | Path]:
    """`inputs`, each folder followed by those below it, at any depth, that hold images; links are not followed, hidden
    folders are left out. A folder without images, which has some below it, is left out itself."""
    out: list[str | Path] = []
    for given in inputs:
        path = Path(given)
        below = subfolders(path) if path.is_dir() else []
        out += [given, *below] if not below or _holds_images(path) else below
    return out


def subfolders(path: str | Path) -> list[Path]:
    """The folders below `path`, at any depth, that hold images themselves (HEIC counts), in natural order; what segcli
    wrote is left out."""
    out = []
    for place, inner, names in os.walk(path):
        inner[:] = [] if MANIFEST in names else [name for name in inner if not name.startswith(".")]
        if (folder := Path(place)) != Path(path) and MANIFEST not in names and _holds_images(folder):
            out.append(folder)
    return sorted(out, key=natural)


def _holds_images(folder: Path) -> bool:
    return any(p.suffix.lower() in SUFFIXES | PHONES and not p.name.startswith(".") for p in folder.iterdir())


def passed_over(inputs: Iterable[str | Path], taken: Collection[Path]) -> list[Path]:
    """The files that folders and patterns of `inputs` name and that `find_images` did not take, sorted."""
    out: set[Path] = set()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            out |= {p for p in path.iterdir() if p.is_file()}
        elif not path.is_file():
            out |= {p for p in map(Path, glob.iglob(str(given), recursive=True, include_hidden=True)) if p.is_file()}
    return sorted(out - set(taken), key=natural)


def output_names(files: Iterable[Path]) -> list[str]:
    """One name without suffix for each file: its stem, with -2, -3, ... where it is taken (whatever its letter case,
    which some file systems don't tell apart)."""
    taken: set[str] = set()
    out = []
    for file in files:
        name, number = file.stem, 2
        while name.casefold() in taken:
            name, number = f"{file.stem}-{number}", number + 1
        taken.add(name.casefold())
        out.append(name)
    return out


def natural(path: Path) -> list[tuple[int, str]]:
    """A sort key under which img2 comes before img10."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def _images(paths: Iterable[Path]) -> list[Path]:
    """Image files by suffix, sorted; hidden ones, such as macOS's ._ companions, left out."""
    kept = (p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(kept, key=natural)
