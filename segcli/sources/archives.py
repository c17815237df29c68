"""Unpack zip and tar archives that somebody else made: nothing may leave the folder, link, or fill the disk."""

import contextlib
import functools
import re
import shutil
import stat
import sys
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from segcli.core.building import building
from segcli.core.downloads import cache_dir
from segcli.core.errors import DataError, SegcliError

RATIO = 200  # label PNGs shrink a hundredfold at most; a bomb, a thousandfold and more
FREE = 64 * 2**20  # bytes that an archive may hold whatever its ratio
SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
MOST = 3_000_000  # entries; COCO has 123,000 images


class _Entry(NamedTuple):
    """One entry: its name as stored, its size in bytes, and how it is written below the folder under another name.

    kind: "file", "folder", or what is refused.
    """

    name: str
    size: int
    kind: str
    write: Callable[[str], object]


def unpack(archive: Path, folder: Path, *, progress: bool = True) -> int:
    """Write the files of `archive` into `folder`; -> how many.

    A file that is there already is replaced. Refused, before anything of that entry is written: names that are absolute
    or climb with "..", links and devices, names that two entries share, more than MOST entries, and more than RATIO
    times the archive's own size. What was written before stays: give a folder that can be thrown away.
    Raises DataError for such an archive and for one that is damaged, SegcliError where the disk refuses.
    """
    allowed = archive.stat().st_size * RATIO + FREE
    written = 0
    names: set[str] = set()
    bar = tqdm(desc=f"unpacking {archive.name}", unit="file", delay=2, disable=not progress, file=sys.stderr)
    try:
        with bar:
            for entry in _entries(archive, folder):
                name = _safe_name(archive, entry)
                if entry.kind == "folder":
                    continue
                if name.casefold() in names:
                    raise DataError(f"{archive}: two of its files are called {name}")
                if len(names) >= MOST:
                    raise DataError(f"{archive}: holds more than {MOST:,} files")
                names.add(name.casefold())
                written += entry.size  # zipfile and tarfile write no byte more than an entry declares
                if written > allowed:
                    raise DataError(
                        f"{archive}: unpacks to more than {allowed / 1e9:.1f} GB, {RATIO} times its own size, as no "
                        "data does",
                        hint="unpack it by hand if you trust it, and give the folder",
                    )
                entry.write(name)
                bar.update()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{archive}: can't be unpacked: {error}", hint="load it again, it may be damaged") from error
    except OSError as error:
        if error.errno is not None:
            raise SegcliError(f"{error.filename or folder}: can't be written: {error.strerror}") from error
        raise DataError(f"{archive}: can't be unpacked: {error}", hint="load it again, it may be damaged") from error
    if not names:
        raise DataError(f"{archive}: holds no file")
    return len(names)


def is_archive(path: Path) -> bool:
    """Whether a file is called as a zip or tar archive is."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


class Unpacked:
    """The files of an archive, in a folder of the cache that is gone once this is closed, at the latest with the
    process."""

    def __init__(self, archive: Path):
        with contextlib.ExitStack() as stack:
            around = stack.enter_context(building(cache_dir() / "unpacked" / archive.name))
            self.folder = around / archive.name  # messages that name a file name the archive
            space_for(archive.stat().st_size, around)
            unpack(archive, self.folder)
            self._end = weakref.finalize(self, stack.pop_all().close)

    def close(self) -> None:
        """Remove them."""
        self._end()


def space_for(size: int, folder: Path) -> None:
    """Raise SegcliError where `size` bytes are more than what is free on the disk of `folder`."""
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise SegcliError(
            f"{folder}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            hint="free some space, or set SEGCLI_CACHE to a folder on another disk",
        )


def _entries(archive: Path, folder: Path) -> Iterator[_Entry]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as pack:
            for entry in pack.infolist():
                format = stat.S_IFMT(entry.external_attr >> 16)
                kind = "link" if format == stat.S_IFLNK else "file" if format in (0, stat.S_IFREG) else "device"
                kind = "folder" if entry.is_dir() else kind
                yield _Entry(entry.filename, entry.file_size, kind, functools.partial(_unzip, pack, entry, folder))
        return
    with tarfile.open(archive, "r|*") as tar:  # read once, from front to back: a list of all entries is not needed
        for item in tar:
            kind = "link" if item.issym() or item.islnk() else "sparse file" if item.issparse() else "device"
            kind = "folder" if item.isdir() else "file" if item.isreg() and not item.issparse() else kind
            yield _Entry(item.name, item.size, kind, functools.partial(_untar, tar, item, folder))


def _unzip(pack: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, name: str) -> None:
    entry.filename = name
    pack.extract(entry, folder)


def _untar(tar: tarfile.TarFile, item: tarfile.TarInfo, folder: Path, name: str) -> None:
    item.name = name
    tar.extract(item, folder, set_attrs=False, filter="data")  # its mode and date are of another machine


def _safe_name(archive: Path, entry: _Entry) -> str:
    """The entry's path below the folder, with "/" between parts. Raises DataError for what is refused."""
    name = entry.name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    nameless = not parts and entry.kind != "folder"
    if nameless or name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name:
        raise DataError(f"{archive}: its entry {entry.name!r} leads out of the folder: nothing of it is used")
    if entry.kind not in ("file", "folder"):
        raise DataError(f"{archive}: its entry {entry.name!r} is a {entry.kind}: nothing of the archive is used")
    return "/".join(parts)
